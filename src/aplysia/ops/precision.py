"""In which type the products of a synapse are taken; membranes, traces, errors, feedback and weights stay in float32.

A spike is the same number in any type, and bf16 has float32's range with 8 bits of its 24, so no loss has to be scaled. Weights
and errors are rounded on their way into a product, what comes out of it is rounded once more, and sums inside are float32's.
Processors with bf16 instructions take such products in about half the time or less, others take longer: it is a choice, and no
number is the same under it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aplysia.ops.events import for_events
from aplysia.ops.geometry import AbstractGeometry, AbstractWrapped
from aplysia.ops.winograd import by_tiles


class AbstractPrecision(ABC):
    """The type of the three products of every synapse: drive by weight, error by feedback, error by activity."""

    @abstractmethod
    def products(self, geometry: AbstractGeometry) -> AbstractGeometry:
        """The same geometry with products of this type."""


@dataclass(frozen=True, kw_only=True)
class Float32(AbstractPrecision):
    """The type of the weights: float32, or float64 in a net of such.

    Attributes:
        events: whether products with sparse drives leave the zeros out (`aplysia.ops.events`): the same but for the order of
            sums; only where kernels run compiled on a CPU.
        winograd: whether convolutions of 3 × 3 go tile by tile (`aplysia.ops.winograd`): two to four times the rounding errors
            for less than half the time; only there, too.
    """

    events: bool = True
    winograd: bool = True

    def products(self, geometry: AbstractGeometry) -> AbstractGeometry:
        geometry = by_tiles(geometry) if self.winograd else geometry
        return for_events(geometry) if self.events else geometry


@dataclass(frozen=True, kw_only=True)
class Bfloat16(AbstractPrecision):
    """bf16 operands and results, float32 sums.

    Attributes:
        events: as for float32; what leaves zeros out is taken in float32, where bf16 products would be slower.
        winograd: likewise.
    """

    events: bool = True
    winograd: bool = True

    def products(self, geometry: AbstractGeometry) -> AbstractGeometry:
        geometry = by_tiles(geometry) if self.winograd else geometry
        return Narrow(for_events(geometry, among=torch.bfloat16) if self.events else geometry, torch.bfloat16)


@dataclass(frozen=True)
class Narrow(AbstractWrapped):
    """A geometry whose operands are rounded to a narrow type; results come back in the type of the first one.

    Attributes:
        plain: the geometry itself. Products that leave zeros out or go tile by tile stay as they are.
        dtype: the narrow type.
    """

    dtype: torch.dtype

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.skips_zeros(drive, weight.shape) or self.shortens(drive, weight.shape):
            return self.plain.forward(drive, weight, bias)
        value = self.plain.forward(drive.to(self.dtype), weight.to(self.dtype)).to(weight.dtype)
        return value if bias is None else self.plain.add_bias(value, bias)

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        if self.shortens(delta, feedback.transpose(0, 1).shape):
            return self.plain.error(delta, feedback, drive_shape)
        return self.plain.error(delta.to(self.dtype), feedback.to(self.dtype), drive_shape).to(delta.dtype)

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        if self.skips_zeros(pre, weight_shape) or self.shortens(pre, weight_shape):
            return self.plain.outer(delta, pre, weight_shape)
        return self.plain.outer(delta.to(self.dtype), pre.to(self.dtype), weight_shape).to(delta.dtype)

    def outer_of_traces(
        self, delta: Tensor, pre: Tensor, weight_shape: torch.Size, *, steps: int, decay: float
    ) -> Tensor:
        if self.skips_zeros(pre, weight_shape):
            return self.plain.outer_of_traces(delta, pre, weight_shape, steps=steps, decay=decay)
        return super().outer_of_traces(delta, pre, weight_shape, steps=steps, decay=decay)

    def skips_zeros(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        return self.plain.skips_zeros(drive, weight_shape)

    def settled(self, drive: Tensor, weight_shape: torch.Size) -> AbstractGeometry:
        return replace(self, plain=self.plain.settled(drive, weight_shape))

    def shortens(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        return self.plain.shortens(drive, weight_shape)
