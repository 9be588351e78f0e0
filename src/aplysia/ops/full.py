"""Full products of large matrices in float32, by the library that takes them fastest on a CPU.

    a·bᵀ,   a [R, m],  b [n, m]

torch hands such products to the library it was built with, mostly MKL. oneDNN, which it carries as well and keeps for narrow
types and for what it compiles, takes the large ones in less time (`benchmarks/products.py`). Each number is the same sum either
way, but for its order. It serves where kernels run compiled (`aplysia.ops.backend`), as torch's own switches say: not within
`torch.backends.mkldnn.flags(enabled=False)`, and at the precision that `torch.backends.mkldnn.matmul` asks for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from aplysia.ops.backend import compiled_kernels

# Multiplications from which on it is the faster one.
_WORK = 1 << 24


def full_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """a·bᵀ `[R, n]`, plus a bias `[n]`, without a graph; None: torch's own way is as good, or the only one.

    Args:
        a: `[R, m]`, contiguous.
        b: `[n, m]`, or a view of its transpose.
        bias: contiguous.
    """
    if not compiled_kernels() or a.ndim != 2 or len(a) * b.numel() < _WORK or not _plain(a, b, bias):
        return None
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or not torch.backends.mkldnn.enabled:
        return None
    product = _product()
    return None if product is None else product(a, b, bias)


def _plain(a: Tensor, b: Tensor, bias: Tensor | None) -> bool:
    return (
        a.dtype == b.dtype == torch.float32
        and a.device.type == b.device.type == "cpu"
        and a.is_contiguous()
        and (b.is_contiguous() or b.t().is_contiguous())
        and (bias is None or (bias.dtype == torch.float32 and bias.is_contiguous()))
    )


@functools.cache
def _product() -> Callable[[Tensor, Tensor, Tensor | None], Tensor] | None:
    """oneDNN's, where torch has it: what its own compiler calls for a linear layer."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return None
    linear = torch.ops.mkldnn._linear_pointwise.default
    return lambda a, b, bias: linear(a, b, bias, "none", [], "")
