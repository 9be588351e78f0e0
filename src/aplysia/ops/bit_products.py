"""Products of matrices of which one holds bits, in low precision and yet exact.

A bit, or a gradient spike times a power of two, is the same number in bf16. A real weight is three bf16 numbers that add up
to it, W = W₁ + W₂ + W₃, to the last place of float32. Where the processor multiplies bf16 with float32 sums much faster than
float32 itself (x86 with AMX), a product with bits is done in that way: one pass for two matrices of bits, three where weights
are real. Elsewhere nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.ops.geometry import AbstractGeometry, Dense

# Three products with fewer weights are slower than one. Not by the number of rows, which is that of a chunk: no number may
# depend on how streams are cut.
_WORTH = 1 << 14


def fast_bits(like: Tensor) -> bool:
    """Whether products with bits are faster in bf16 here."""
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return like.device.type == "cpu" and like.dtype == torch.float32 and supported is not None and bool(supported())


@contextmanager
def _bf16_products() -> Iterator[None]:
    flag: Any = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue]
    before = flag.fp32_precision
    flag.fp32_precision = "bf16"
    try:
        yield
    finally:
        flag.fp32_precision = before


def thirds(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Three tensors of bf16 values, in float32, whose sum is the weight to within 2⁻²⁴ of it."""
    high = weight.bfloat16().float()
    rest = weight - high
    middle = rest.bfloat16().float()
    return high, middle, rest - middle


@dataclass(frozen=True)
class DenseBits(AbstractGeometry):
    """Dense weights where the drive holds bits and δ is 0 or ± a power of two: float32 results by bf16 products."""

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.numel() < _WORTH:
            return F.linear(drive, weight, bias)
        low, middle, high = thirds(weight)[::-1]
        with _bf16_products():
            out = drive @ low.t()
            out.addmm_(drive, middle.t()).addmm_(drive, high.t())
        return out if bias is None else out.add_(bias)

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        return delta @ feedback

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        if weight_shape.numel() < _WORTH:
            return delta.t() @ pre
        with _bf16_products():
            return delta.t() @ pre

    def add_bias(self, value: Tensor, bias: Tensor) -> Tensor:
        return value + bias

    def bias_gradient(self, delta: Tensor) -> Tensor:
        return delta.sum(0)

    def output_shape(self, input_shape: tuple[int, ...], weight_shape: torch.Size) -> tuple[int, ...]:
        return (weight_shape[0],)


def for_bits(geometry: AbstractGeometry) -> AbstractGeometry:
    """The same geometry by bf16 products, where there is one."""
    return DenseBits() if isinstance(geometry, Dense) else geometry
