"""In which type the products of a synapse are taken; membranes, traces, errors, feedback and weights stay in float32.

A spike is the same number in any type, and bf16 has float32's range with 8 bits of its 24, so no loss has to be scaled. Weights
and errors are rounded on their way into a product, what comes out of it is rounded once more, and sums inside are float32's.
Processors with bf16 instructions take such products in about half the time or less, others take longer: it is a choice, and no
number is the same under it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from aplysia.ops.geometry import AbstractGeometry


class AbstractPrecision(ABC):
    """The type of the three products of every synapse: drive by weight, error by feedback, error by activity."""

    @abstractmethod
    def products(self, geometry: AbstractGeometry) -> AbstractGeometry:
        """The same geometry with products of this type."""


@dataclass(frozen=True)
class Float32(AbstractPrecision):
    """The type of the weights: float32, or float64 in a net of such."""

    def products(self, geometry: AbstractGeometry) -> AbstractGeometry:
        return geometry


@dataclass(frozen=True)
class Bfloat16(AbstractPrecision):
    """bf16 operands and results, float32 sums."""

    def products(self, geometry: AbstractGeometry) -> AbstractGeometry:
        return Narrow(geometry, torch.bfloat16)


@dataclass(frozen=True)
class Narrow(AbstractGeometry):
    """A geometry whose operands are rounded to a narrow type; results come back in the type of the first one.

    Attributes:
        plain: the geometry itself.
        dtype: the narrow type.
    """

    plain: AbstractGeometry
    dtype: torch.dtype

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        value = self.plain.forward(drive.to(self.dtype), weight.to(self.dtype)).to(weight.dtype)
        return value if bias is None else self.plain.add_bias(value, bias)

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        return self.plain.error(delta.to(self.dtype), feedback.to(self.dtype), drive_shape).to(delta.dtype)

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        return self.plain.outer(delta.to(self.dtype), pre.to(self.dtype), weight_shape).to(delta.dtype)

    def add_bias(self, value: Tensor, bias: Tensor) -> Tensor:
        return self.plain.add_bias(value, bias)

    def bias_gradient(self, delta: Tensor) -> Tensor:
        return self.plain.bias_gradient(delta)

    def output_shape(self, input_shape: tuple[int, ...], weight_shape: torch.Size) -> tuple[int, ...]:
        return self.plain.output_shape(input_shape, weight_shape)
