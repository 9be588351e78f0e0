"""Products of which one side is short, which direct feedback and readouts are made of.

    a·b,   a [R, m],  b [m, n],   R or m no more than the number of classes or so, n up to hundreds of thousands

Libraries are made for squares, so on a CPU a kernel in C++ (`wide.cpp`) serves where kernels run compiled. Elsewhere wide ones
are taken in blocks of columns, which stay in the cache while they are made. Each number is the same sum either way, but for its
order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aplysia.ops.native import call, library, numbers, ready

# Columns of a block, and from which on there are blocks.
_COLUMNS, _LEAST = 4096, 1 << 15
# The longest short side, and multiplications from which on a call of the kernel pays.
_SHORT, _WORK = 128, 1 << 16
# Terms of a sum that the kernel takes at once.
_PART = 512
# Units that are few beside all others.
FEW = 16


def wide_product(a: Tensor, b: Tensor) -> Tensor:
    """a·b `[R, n]`, without a graph."""
    kernels = library() if _suits(a, b) else None
    if kernels is None:
        return _blocks(a, b)
    (rows, depth), columns = a.shape, b.shape[1]
    out = a.new_empty(rows, columns)
    call(kernels.wide_product, [a, b], [rows, depth, columns, *a.stride()], out)
    return out


@torch.no_grad()
def scaled_product(a: Tensor, b: Tensor, factor: Tensor) -> Tensor:
    """factor ∘ (a·b) in the factor's place, which has R·n numbers in any shape, without a graph."""
    kernels = library() if _suits(a, b) and ready(factor) and a.shape[1] <= _PART else None
    if kernels is None:
        return factor.mul_(wide_product(a, b).view(factor.shape))
    call(kernels.scaled_product, [a, b], [len(a), *b.shape, *a.stride()], factor)
    return factor


@torch.no_grad()
def _blocks(a: Tensor, b: Tensor) -> Tensor:
    rows, columns = len(a), b.shape[1]
    if b.device.type != "cpu" or a.dtype != b.dtype or columns < _LEAST:
        return a @ b
    out = a.new_empty(rows, columns)
    for block, part in zip(b.split(_COLUMNS, 1), out.split(_COLUMNS, 1), strict=True):
        torch.mm(a, block, out=part)
    return out


def narrow_product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor | None:
    """a·bᵀ `[R, n]`, plus a bias `[n]`, of a `[R, m]` and b `[n, m]` with n of `FEW` at most, without a graph; None: no kernel
    can."""
    if not 0 < len(b) <= FEW or len(b) * a.numel() < _WORK or a.ndim != 2:
        return None
    if not ready(a, b, *(() if bias is None else (bias,))) or torch.is_autocast_enabled("cpu"):
        return None
    if (kernels := library()) is None:
        return None
    out = a.new_empty(len(a), len(b))
    call(kernels.narrow_product, [a, b, bias], [len(a), a.shape[1], len(b)], out)
    return out


def narrow_pairs(a: Tensor, z: Tensor, factor: float, b: Tensor, bias: Tensor | None, batch: int) -> Tensor | None:
    """(a ± factor·z)·bᵀ, plus a bias, of a `[K·B, m]` and z `[K/2·B, m]`: plus in steps 2k, minus in steps 2k + 1, of B samples
    each; None: no kernel can."""
    if not 0 < len(b) <= FEW or len(b) * a.numel() < _WORK or torch.is_autocast_enabled("cpu"):
        return None
    if not ready(a, z, b, *(() if bias is None else (bias,))) or (kernels := library()) is None:
        return None
    out = a.new_empty(a.shape[0], len(b))
    call(kernels.narrow_pairs, [a, z, numbers(factor), b, bias], [a.shape[0], a.shape[1], len(b), batch], out)
    return out


def _suits(a: Tensor, b: Tensor) -> bool:
    return (
        a.dtype == torch.float32
        and a.device == b.device
        and ready(b)
        and 0 < min(a.shape) <= _SHORT
        and len(a) * b.numel() >= _WORK
    )
