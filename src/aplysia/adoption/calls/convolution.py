"""`torch.nn.functional.conv1d`, `conv2d` and `conv3d`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.adoption.call import AbstractCall, Call
from aplysia.ops.geometry import AbstractGeometry

_BY_DIMENSIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Convolution(AbstractGeometry):
    """Drive `[B, C, …]`, weight `[N, C/groups, k, …]`, value `[B, N, …]`, in one to three dimensions.

    Attributes:
        stride, padding, dilation: one number for each dimension.
        groups: of channels.
    """

    stride: Numbers
    padding: Numbers
    dilation: Numbers
    groups: int = 1

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        convolve = _BY_DIMENSIONS[len(self.stride)]
        return convolve(drive, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        return self._adjoints(delta, delta.new_empty(1).expand(drive_shape), feedback, (True, False, False))[0]

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        return self._adjoints(delta, pre, pre.new_empty(1).expand(weight_shape), (False, True, False))[1]

    def _adjoints(self, delta: Tensor, drive: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> list[Tensor]:
        nothing = (0,) * len(self.stride)
        return torch.ops.aten.convolution_backward(
            delta, drive, weight, None, self.stride, self.padding, self.dilation, False, nothing, self.groups, wanted
        )

    def add_bias(self, value: Tensor, bias: Tensor) -> Tensor:
        return value + bias.view(-1, *[1] * len(self.stride))

    def bias_gradient(self, delta: Tensor) -> Tensor:
        return delta.transpose(0, 1).flatten(1).sum(1)

    def output_shape(self, input_shape: tuple[int, ...], weight_shape: torch.Size) -> tuple[int, ...]:
        sizes = zip(input_shape[1:], weight_shape[2:], self.stride, self.padding, self.dilation, strict=True)
        return (weight_shape[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes))


class ConvolutionCall(AbstractCall):
    """y = W ∗ x + b. Padding by another number on one side than on the other is not said by our geometry."""

    functions: ClassVar[tuple[Callable[..., Any], ...]] = tuple(_BY_DIMENSIONS.values())

    def read(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        return _bind(*args, **kwargs)


def _bind(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Numbers = 1,
    padding: int | Numbers | str = 0,
    dilation: int | Numbers = 1,
    groups: int = 1,
) -> Call | None:
    dimensions = weight.ndim - 2
    if input.ndim != weight.ndim:
        return None
    stride, dilation = _each(stride, dimensions), _each(dilation, dimensions)
    if padding == "valid":
        padding = 0
    elif isinstance(padding, str):
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(r % 2 for r in reach):
            return None
        padding = tuple(r // 2 for r in reach)
    return Call(input, weight, bias, Convolution(stride, _each(padding, dimensions), dilation, groups), dimensions + 1)


def _each(number: int | Numbers, dimensions: int) -> Numbers:
    if isinstance(number, int):
        return (number,) * dimensions
    return tuple(number) * dimensions if len(number) == 1 else tuple(number)
