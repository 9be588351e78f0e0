"""The shape of a connection: how a drive meets a weight, and the two adjoints of that product.

A geometry is three bilinear maps over the same index set. With `⟨a, b⟩` the sum of products over all entries,

    forward(x, W)        y = W·x
    error(δ, B)          the x-adjoint:  ⟨δ, B·x⟩ = ⟨error(δ, B), x⟩
    outer(δ, x)          the W-adjoint:  ⟨δ, W·x⟩ = ⟨outer(δ, x), W⟩

Rules differ in what they put in for B and x; the maps never change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from aplysia.ops.full import full_product
from aplysia.ops.scan import backward_trace
from aplysia.ops.wide import FEW, narrow_product, wide_product

# Weights from which on a product takes longer than calls to operations do.
_LARGE = 1 << 16


class _Features(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.shape = images.shape
        return images.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return (gradients[0].view(ctx.shape).contiguous(memory_format=torch.channels_last),)


def features(x: Tensor) -> Tensor:
    """`[B, C, H, W]` (or any `[B, …]`) to `[B, M]`, channel by channel, whatever the order of memory.

    Where images have the channels last, so has their gradient: else the pool below would copy its whole input over.
    """
    if x.ndim == 4 and x.requires_grad and not x.is_contiguous():
        flat = _Features.apply(x)
        assert isinstance(flat, Tensor)
        return flat
    return x.flatten(1)


class AbstractGeometry(ABC):
    """Three bilinear maps over the samples of a batch; leading axis = samples, time folded into it."""

    @abstractmethod
    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """W·x, plus a bias `[N]` where there is one."""

    @abstractmethod
    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        """The error below: δ through the feedback weights, in the shape of the drive."""

    @abstractmethod
    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        """Σ over samples of δ ⊗ pre, in the shape of the weight."""

    def outer_of_traces(
        self, delta: Tensor, pre: Tensor, weight_shape: torch.Size, *, steps: int, decay: float
    ) -> Tensor:
        """Σ_t δ[t] ⊗ a[t] over the K steps of `pre` `[K·B, …]`, a[t] = λ·a[t−1] + pre[t] with nothing before them:

        Σ_t d[t] ⊗ pre[t],   d[t] = δ[t] + λ·d[t+1]

        May be replaced by what makes d as it reads it.
        """
        summed = backward_trace(delta.unflatten(0, (steps, -1)), decay)
        return self.outer(summed.flatten(0, 1), pre, weight_shape)

    @abstractmethod
    def add_bias(self, value: Tensor, bias: Tensor) -> Tensor:
        """value + bias."""

    @abstractmethod
    def bias_gradient(self, delta: Tensor) -> Tensor:
        """Σ of δ over samples and positions, `[N]`."""

    @abstractmethod
    def output_shape(self, input_shape: tuple[int, ...], weight_shape: torch.Size) -> tuple[int, ...]:
        """Shape of one sample's output."""

    def skips_zeros(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        """Whether products with this drive cost only what is not 0 in it, so that it had better stay as sparse as it is."""
        return False

    def settled(self, drive: Tensor, weight_shape: torch.Size) -> AbstractGeometry:
        """The same for products with this very drive, in the way that suits it, so that a drive is looked at once."""
        return self

    def shortens(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        """Whether products with this drive take so many multiplications less than their definition that a narrow type, which
        cannot do that, would be slower."""
        return False


@dataclass(frozen=True)
class Dense(AbstractGeometry):
    """All to all: drive `[B, M]`, weight `[N, M]`, value `[B, N]`."""

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if len(weight) <= FEW and not torch.is_grad_enabled():
            narrow = narrow_product(drive, weight, bias)
            if narrow is not None:
                return narrow
        if (full := full_product(drive, weight, bias)) is not None:
            return full
        if bias is None or drive.device.type != "cpu" or weight.numel() < _LARGE:
            return F.linear(drive, weight, bias)
        # Added after, in the cache: libraries take longer for a product that is added to something.
        return F.linear(drive, weight).add_(bias)

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        if len(feedback) <= FEW and not torch.is_grad_enabled():
            return wide_product(delta, feedback)
        full = full_product(delta, feedback.t())
        return delta @ feedback if full is None else full

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        if weight_shape[0] <= FEW and not torch.is_grad_enabled():
            return wide_product(delta.t(), pre)
        # Of errors that lie in memory unit by unit.
        full = full_product(delta.t(), pre.t())
        return delta.t() @ pre if full is None else full

    def add_bias(self, value: Tensor, bias: Tensor) -> Tensor:
        return value + bias

    def bias_gradient(self, delta: Tensor) -> Tensor:
        return delta.sum(0)

    def output_shape(self, input_shape: tuple[int, ...], weight_shape: torch.Size) -> tuple[int, ...]:
        return (weight_shape[0],)


@dataclass(frozen=True)
class Conv2d(AbstractGeometry):
    """Convolution: drive `[B, C, H, W]`, weight `[N, C/groups, k, k]`, value `[B, N, H', W']`."""

    stride: int = 1
    padding: int = 0
    groups: int = 1

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(drive, weight, bias, stride=self.stride, padding=self.padding, groups=self.groups)

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        # Never read, it only says which order of memory the error is to have: the same as δ's.
        order = (
            torch.channels_last if delta.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        )
        drive = torch.empty(drive_shape, dtype=delta.dtype, device=delta.device, memory_format=order)
        return self._adjoints(delta, drive, feedback, (True, False, False))[0]

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        weight = pre.new_empty(1).expand(weight_shape)
        return self._adjoints(delta, pre, weight, (False, True, False))[1]

    def _adjoints(self, delta: Tensor, drive: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> list[Tensor]:
        stride, padding = (self.stride, self.stride), (self.padding, self.padding)
        return torch.ops.aten.convolution_backward(
            delta, drive, weight, None, stride, padding, (1, 1), False, (0, 0), self.groups, wanted
        )

    def add_bias(self, value: Tensor, bias: Tensor) -> Tensor:
        return value + bias[:, None, None]

    def bias_gradient(self, delta: Tensor) -> Tensor:
        return delta.sum((0, 2, 3))

    def output_shape(self, input_shape: tuple[int, ...], weight_shape: torch.Size) -> tuple[int, ...]:
        _, height, width = input_shape
        k = weight_shape[-1]
        return (
            weight_shape[0],
            (height + 2 * self.padding - k) // self.stride + 1,
            (width + 2 * self.padding - k) // self.stride + 1,
        )


@dataclass(frozen=True)
class AbstractWrapped(AbstractGeometry):
    """A geometry whose products are taken in another way; all else is that of the plain one.

    Attributes:
        plain: the geometry itself.
    """

    plain: AbstractGeometry

    def add_bias(self, value: Tensor, bias: Tensor) -> Tensor:
        return self.plain.add_bias(value, bias)

    def bias_gradient(self, delta: Tensor) -> Tensor:
        return self.plain.bias_gradient(delta)

    def output_shape(self, input_shape: tuple[int, ...], weight_shape: torch.Size) -> tuple[int, ...]:
        return self.plain.output_shape(input_shape, weight_shape)


@dataclass(frozen=True, eq=False)
class AbstractOfOne(AbstractWrapped):
    """The same for products with one drive, of which something is known.

    Attributes:
        plain: the products of any other drive.
        drive: that one.
    """

    drive: Tensor

    def is_it(self, drive: Tensor) -> bool:
        """Whether this is that drive, by its place in memory."""
        return drive.data_ptr() == self.drive.data_ptr() and drive.shape == self.drive.shape

    def skips_zeros(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        return self.is_it(drive) or self.plain.skips_zeros(drive, weight_shape)

    def shortens(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        return self.plain.shortens(drive, weight_shape)

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        return self.plain.error(delta, feedback, drive_shape)
