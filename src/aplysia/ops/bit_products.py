"""Products of matrices of which one holds bits, in low precision and yet exact.

Two matrices of bits, or of bits and gradient spikes ±1, have whole numbers for their product, which bytes with 32-bit sums
give exactly. A bit is the same number in bf16 too, and a real weight is three bf16 numbers that add up to it, W = W₁ + W₂ + W₃,
to the last place of float32. Coincidences are counted in bytes where the processor multiplies those (x86 with VNNI), and sums
of weights go by bf16 where that is more than three times as fast as float32 (x86 with AMX). Elsewhere nothing changes.
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

# Products with fewer weights are slower in parts than in one. Not by the number of rows, which is that of a chunk: no number
# may depend on how streams are cut.
_WORTH = 1 << 14


def _has(capability: str) -> bool:
    asked = getattr(torch.cpu, f"_is_{capability}_supported", None)
    return asked is not None and bool(asked())


def multiplies_bf16() -> bool:
    """Whether three bf16 products are faster than one of float32."""
    return _has("amx_tile")


def multiplies_bytes() -> bool:
    """Whether a product of bytes is faster than one of float32; without such instructions torch takes them one by one."""
    return _has("vnni") and torch.backends.mkldnn.is_available()


def fast_bits(like: Tensor) -> bool:
    """Whether some product with bits is faster in low precision here."""
    return like.device.type == "cpu" and like.dtype == torch.float32 and (multiplies_bf16() or multiplies_bytes())


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
    """Dense weights where the drive holds bits and δ is 0 or ± a power of two: float32 results by products in low precision.

    Attributes:
        bf16: whether bf16 is used, by thirds of the weights forward and for coincidences that are not counted in bytes.
        unit: the one size of δ that is not 0, where coincidences are counted in bytes; the drive is then 0 or 1. None: they are
            not.
    """

    bf16: bool
    unit: float | None

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not self.bf16 or weight.numel() < _WORTH:
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
        if self.unit is not None:
            counts = torch.ops.aten._int_mm(delta.sign().to(torch.int8).t(), pre.to(torch.int8))
            return counts.to(delta.dtype).mul_(self.unit)
        with _bf16_products():
            return delta.t() @ pre

    def add_bias(self, value: Tensor, bias: Tensor) -> Tensor:
        return value + bias

    def bias_gradient(self, delta: Tensor) -> Tensor:
        return delta.sum(0)

    def output_shape(self, input_shape: tuple[int, ...], weight_shape: torch.Size) -> tuple[int, ...]:
        return (weight_shape[0],)


def for_bits(geometry: AbstractGeometry, *, unit: float, whole: bool) -> AbstractGeometry:
    """The same geometry by products in low precision, where there is one and something is gained.

    Args:
        geometry: of the synapse.
        unit: the one size of δ that is not 0, a power of two.
        whole: whether the drive is 0 or 1, and not a mean of such over a pool.
    """
    if not isinstance(geometry, Dense):
        return geometry
    bf16, counted = multiplies_bf16(), whole and multiplies_bytes()
    return DenseBits(bf16, unit if counted else None) if bf16 or counted else geometry
