"""Products with a drive that is mostly 0, as sums over the entries that are not: a spike costs one row of a table.

    W·x   = Σ over j with x_j ≠ 0 of x_j·W[:, j]            forward
    δ ⊗ x = for each j: Σ over samples with x_j ≠ 0 of x_j·δ      update

Both are the products themselves with their zeros left out, in float32 and exact but for the order of the sums; a convolution
is such a product for each tap of its kernel. A full product does 2·samples·inputs·units operations however few units fire;
these do that times the share that does, at a lower speed, since a row comes from a cache and is used once. A weight that is not
finite spreads to the units it reaches and no further: 0·∞ is not taken.

They are C++ (`events.cpp`, see `aplysia.ops.native`) and serve on a CPU where kernels run compiled; everywhere else the full
products do.
"""

from __future__ import annotations

import ctypes
import functools
import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from aplysia.ops.geometry import AbstractGeometry, AbstractOfOne, AbstractWrapped, Conv2d, Dense
from aplysia.ops.native import call, library, numbers, ready
from aplysia.ops.scan import backward_trace
from aplysia.ops.winograd import Winograd

# Of a drive's entries, by the type of full products: with more that are not 0, those are as fast (`benchmarks/events.py`).
# Constants, and not measured on the spot, so that a run takes the same path each time.
LARGEST_SHARE = {torch.float32: 0.4, torch.bfloat16: 0.2}
# The same beside full products that go tile by tile.
LARGEST_BESIDE_TILES = 0.08
# Weights, units and samples (of a convolution: pixels) from which on a call pays.
_LEAST_WEIGHTS, _LEAST_UNITS, _LEAST_SAMPLES = 1 << 14, 32, 16
# Entries of a drive that are looked at for the share.
_LOOKED_AT = 1 << 13


def share(drive: Tensor) -> float:
    """Share of entries that are not 0, from samples spread evenly over a drive `[B, …]`."""
    step, rows, columns = _looked_at(drive.shape)
    kernels = library() if ready(drive) else None
    if kernels is None:
        found = int(drive.flatten(0, -2)[::step].count_nonzero())
    else:
        counted = kernels.count_events
        if counted.argtypes is None:
            counted.restype, counted.argtypes = ctypes.c_int64, [ctypes.c_void_p, *[ctypes.c_int64] * 3]
        found = counted(drive.data_ptr(), rows, columns, step * columns)
    return found / max(1, rows * columns)


@functools.lru_cache(maxsize=1024)
def _looked_at(shape: torch.Size) -> tuple[int, int, int]:
    """Of a drive as rows (of images: rows of pixels): every which one is looked at, how many these are, and how long."""
    rows, columns = math.prod(shape[:-1]), shape[-1]
    step = max(1, rows * columns // _LOOKED_AT)
    # Else only some rows or channels of the images would be met: the border's, for one.
    while math.gcd(step, math.prod(shape[1:-1])) > 1:
        step += 1
    return step, -(-rows // step), columns


@dataclass(frozen=True)
class AbstractEvents(AbstractWrapped):
    """Products with drives that are mostly 0 are sums over events, all others full products.

    Attributes:
        plain: the full products.
        largest: share of entries that are not 0 up to which sums serve, where full products are what they are by definition.
    """

    largest: float

    def skips_zeros(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        return (
            weight_shape.numel() >= _LEAST_WEIGHTS
            and weight_shape[0] >= _LEAST_UNITS
            and drive.numel() >= _LEAST_SAMPLES * drive.shape[1]
            and ready(drive)
            and share(drive) <= self.up_to(drive, weight_shape)
        )

    def settled(self, drive: Tensor, weight_shape: torch.Size) -> AbstractGeometry:
        return Summed(self, drive) if self.skips_zeros(drive, weight_shape) else self.plain

    @abstractmethod
    def up_to(self, drive: Tensor, weight_shape: torch.Size) -> float:
        """Share of entries that are not 0 up to which sums serve with such weights."""

    def _kernels(self, drive: Tensor, other: Tensor, weight_shape: torch.Size) -> ctypes.CDLL | None:
        """The kernels, where they are to serve."""
        return library() if other.dtype == torch.float32 and self.skips_zeros(drive, weight_shape) else None

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        kernels = self._kernels(drive, weight, weight.shape)
        if kernels is None:
            return self.plain.forward(drive, weight, bias)
        return self.sum_forward(kernels, drive, weight, None if bias is None else bias.contiguous())

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        return self.plain.error(delta, feedback, drive_shape)

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        kernels = self._kernels(pre, delta, weight_shape)
        if kernels is None:
            return self.plain.outer(delta, pre, weight_shape)
        return self.sum_outer(kernels, delta.contiguous(), pre, weight_shape)

    @abstractmethod
    def sum_forward(self, kernels: ctypes.CDLL, drive: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """`forward` by events."""

    def sum_joined(
        self,
        kernels: ctypes.CDLL,
        drive: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        odd: Tensor | None,
        batch: int,
    ) -> Tensor | None:
        """`Summed.joined`; None: no kernel can. May be replaced by one that does."""
        return None

    def sum_traced(
        self, kernels: ctypes.CDLL, delta: Tensor, pre: Tensor, weight_shape: torch.Size, steps: int, decay: float
    ) -> Tensor:
        """`outer_of_traces` by events; may be replaced likewise."""
        summed = backward_trace(delta.unflatten(0, (steps, -1)), decay)
        return self.sum_outer(kernels, summed.flatten(0, 1), pre, weight_shape)

    @abstractmethod
    def sum_outer(self, kernels: ctypes.CDLL, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        """`outer` by events."""


@dataclass(frozen=True, eq=False)
class Summed(AbstractOfOne):
    """Products with one drive that are sums over its events.

    Attributes:
        plain: the products of any drive.
        drive: that one.
    """

    plain: AbstractEvents

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        kernels = library()
        if kernels is None or weight.dtype != torch.float32 or not self.is_it(drive):
            return self.plain.forward(drive, weight, bias)
        return self.plain.sum_forward(kernels, drive, weight, None if bias is None else bias.contiguous())

    def joined(self, drive: Tensor, weight: Tensor, bias: Tensor | None, odd: Tensor, batch: int) -> Tensor | None:
        """`forward` plus `odd` in the first steps of pairs and less it in the second ones, `[K·B, …]`, of both `[K/2·B, …]`;
        None: no kernel can."""
        kernels = library()
        if kernels is None or weight.dtype != torch.float32 or not self.is_it(drive) or not ready(odd):
            return None
        return self.plain.sum_joined(kernels, drive, weight, None if bias is None else bias.contiguous(), odd, batch)

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        kernels = library()
        if kernels is None or delta.dtype != torch.float32 or not self.is_it(pre):
            return self.plain.outer(delta, pre, weight_shape)
        return self.plain.sum_outer(kernels, delta.contiguous(), pre, weight_shape)

    def outer_of_traces(
        self, delta: Tensor, pre: Tensor, weight_shape: torch.Size, *, steps: int, decay: float
    ) -> Tensor:
        kernels = library()
        if kernels is None or delta.dtype != torch.float32 or not self.is_it(pre):
            return super().outer_of_traces(delta, pre, weight_shape, steps=steps, decay=decay)
        return self.plain.sum_traced(kernels, delta.contiguous(), pre, weight_shape, steps, decay)


@dataclass(frozen=True)
class DenseEvents(AbstractEvents):
    """Dense weights."""

    def up_to(self, drive: Tensor, weight_shape: torch.Size) -> float:
        return self.largest

    def sum_forward(self, kernels: ctypes.CDLL, drive: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self.sum_joined(kernels, drive, weight, bias, None, 1)

    def sum_joined(
        self,
        kernels: ctypes.CDLL,
        drive: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        odd: Tensor | None,
        batch: int,
    ) -> Tensor:
        weight = weight.contiguous()
        samples, (units, inputs) = drive.shape[0], weight.shape
        panel = kernels.event_columns()
        out = drive.new_empty(samples if odd is None else 2 * samples, units)
        table = drive.new_empty(-(-units // panel), inputs, panel)
        call(kernels.event_forward, [drive, weight, bias, table, odd], [samples, inputs, units, batch], out)
        return out

    def sum_outer(self, kernels: ctypes.CDLL, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        return self.sum_traced(kernels, delta, pre, weight_shape, 1, 0.0)

    def sum_traced(
        self, kernels: ctypes.CDLL, delta: Tensor, pre: Tensor, weight_shape: torch.Size, steps: int, decay: float
    ) -> Tensor:
        out = pre.new_empty(weight_shape)
        sizes = [len(pre), weight_shape[1], weight_shape[0], len(pre) // steps]
        call(kernels.event_outer, [pre, delta, numbers(decay)], sizes, out)
        return out


@dataclass(frozen=True)
class ConvEvents(AbstractEvents):
    """Convolutions of one group.

    Attributes:
        stride, padding: of the convolution.
    """

    stride: int
    padding: int

    def up_to(self, drive: Tensor, weight_shape: torch.Size) -> float:
        return min(self.largest, LARGEST_BESIDE_TILES) if self.shortens(drive, weight_shape) else self.largest

    def shortens(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        return self.plain.shortens(drive, weight_shape)

    def sum_forward(self, kernels: ctypes.CDLL, drive: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        table = weight.permute(2, 3, 1, 0).contiguous()
        shape, kernel = self.plain.output_shape(tuple(drive.shape[1:]), weight.shape), weight.shape[-1]
        out = drive.new_empty(len(drive), *shape)
        sizes = [*drive.shape, len(weight), kernel, self.stride, self.padding, *shape[1:]]
        call(kernels.event_conv_forward, [drive, table, bias], sizes, out)
        return out

    def sum_outer(self, kernels: ctypes.CDLL, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        units, channels, kernel, _ = weight_shape
        if self.stride != 1 or self.padding >= kernel:
            return self.plain.outer(delta, pre, weight_shape)
        threads = torch.get_num_threads()
        sums = pre.new_zeros(threads, kernel, kernel, channels, units)
        sizes = [*pre.shape, units, kernel, self.padding]
        call(kernels.event_conv_outer, [pre, delta], sizes, sums)
        return sums.sum(0).permute(3, 2, 0, 1).contiguous()


def for_events(geometry: AbstractGeometry, *, among: torch.dtype = torch.float32) -> AbstractGeometry:
    """The same geometry by sums over events, where there are such and kernels run compiled.

    Args:
        geometry: of the synapse.
        among: the type of its full products, which sets where sums are faster.
    """
    if library() is None:
        return geometry
    if isinstance(geometry, Dense):
        return DenseEvents(geometry, LARGEST_SHARE[among])
    plain = geometry.plain if isinstance(geometry, Winograd) else geometry
    if isinstance(plain, Conv2d) and plain.groups == 1:
        return ConvEvents(geometry, LARGEST_SHARE[among], plain.stride, plain.padding)
    return geometry
