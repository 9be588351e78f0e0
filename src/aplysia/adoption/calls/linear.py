"""`torch.nn.functional.linear`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.adoption.call import AbstractCall, Call
from aplysia.ops.geometry import AbstractGeometry


@dataclass(frozen=True)
class AllToAll(AbstractGeometry):
    """Drive `[…, M]`, weight `[N, M]`, value `[…, N]`, over any leading axes."""

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(drive, weight, bias)

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        return (delta @ feedback).view(drive_shape)

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        return delta.reshape(-1, weight_shape[0]).t() @ pre.reshape(-1, weight_shape[1])

    def add_bias(self, value: Tensor, bias: Tensor) -> Tensor:
        return value + bias

    def bias_gradient(self, delta: Tensor) -> Tensor:
        return delta.reshape(-1, delta.shape[-1]).sum(0)

    def output_shape(self, input_shape: tuple[int, ...], weight_shape: torch.Size) -> tuple[int, ...]:
        return (*input_shape[:-1], weight_shape[0])


class LinearCall(AbstractCall):
    """y = x·Wᵀ + b."""

    functions: ClassVar[tuple[Callable[..., Any], ...]] = (F.linear,)

    def read(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        return _bind(*args, **kwargs)


def _bind(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call:
    return Call(input, weight, bias, AllToAll(), axes=1)
