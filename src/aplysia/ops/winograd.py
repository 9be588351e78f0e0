"""Convolutions of 3 × 3 by Winograd's minimal filtering: a quarter of the multiplications, in float32.

With a tile d of 6 × 6 inputs, a filter g of 3 × 3 and the tile's 4 × 4 outputs y, errors e, all per channel,

    y  = Aᵀ·[Σ over channels of (G·g·Gᵀ) ⊙ (Bᵀ·d·B)]·A        forward; the error below is the same with turned filters
    ∂g = Gᵀ·[Σ over tiles of (A·e·Aᵀ) ⊙ (Bᵀ·d·B)]·G            update

so that 36 products of matrices, tiles × channels by channels × units, take the place of 9 that are sixteen times as tall. A, B
and G follow from the points 0, ±5/8, ±3/2 and ∞, at which the polynomials behind a convolution are told: with them the rounding
errors are half of those with the customary 0, ±1, ±2 (by trial over halves to sixteenths). They are two to four times those of
torch's product forward and for errors, and no larger for updates, whose long sums are taken part by part
(`benchmarks/winograd.py`). What comes out does not depend on the number of threads. An input that is not finite spreads over
its tile, a little further than its own 3 × 3 outputs.

Source of the method: Winograd 1980; Lavin and Gray 2016 for convolutions. Kernels in C++ (`winograd.cpp`, see
`aplysia.ops.native`); they serve on a CPU where kernels run compiled, and everything else takes the plain product.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from aplysia.ops.geometry import AbstractGeometry, AbstractWrapped, Conv2d
from aplysia.ops.native import call, library

_TILE = 4
_TAPS = 36
# Channels on either side, and positions of a batch, from which on it pays.
_LEAST_CHANNELS, _LEAST_POSITIONS = 16, 1 << 11


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def _filters(kernels: ctypes.CDLL, weight: Tensor) -> Tensor:
    """Transformed filters of a weight `[N, C, 3, 3]`, in panels of units: `[36, panels, C, panel]`."""
    (units, channels), panel = weight.shape[:2], kernels.winograd_panel()
    wide = _up(units, panel)
    taps = weight.new_zeros(9, wide, channels)
    taps[:, :units] = weight.permute(2, 3, 0, 1).flatten(0, 1)
    taps = taps.view(9, -1, panel, channels).transpose(2, 3).contiguous()
    out = taps.new_empty(_TAPS, *taps.shape[1:])
    call(kernels.winograd_filters, [taps], [taps[0].numel()], out)
    return out


@dataclass(frozen=True)
class Winograd(AbstractWrapped):
    """A convolution whose kernels of 3 × 3 are taken tile by tile; others as they are.

    Attributes:
        plain: of one group and stride 1, padded by no more than 2.
    """

    plain: Conv2d

    def shortens(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        return self._pays(drive, weight_shape, self.plain.output_shape(tuple(drive.shape[1:]), weight_shape))

    def _pays(self, images: Tensor, weight_shape: torch.Size, shape: tuple[int, ...]) -> bool:
        """Whether `images` `[B, …]` had better go through tiles, to an output of `shape`."""
        height, width = shape[1:]
        return (
            weight_shape[2:] == (3, 3)
            and min(weight_shape[:2]) >= _LEAST_CHANNELS
            and len(images) * height * width >= _LEAST_POSITIONS
            # Of which outputs beyond the edge are no more than half.
            and 2 * height * width >= _up(height, _TILE) * _up(width, _TILE)
            and images.device.type == "cpu"
            and images.dtype == torch.float32
            and images.is_contiguous()
        )

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        kernels = library()
        if kernels is None or weight.dtype != torch.float32 or not self.shortens(drive, weight.shape):
            return self.plain.forward(drive, weight, bias)
        return _filtered(kernels, drive, weight, bias, self.plain.padding)

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        kernels = library()
        pays = self._pays(delta, feedback.shape, tuple(drive_shape[1:]))
        if kernels is None or feedback.dtype != torch.float32 or not pays:
            return self.plain.error(delta, feedback, drive_shape)
        return _filtered(kernels, delta, feedback.flip(2, 3).transpose(0, 1), None, 2 - self.plain.padding)

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        kernels = library()
        if kernels is None or delta.dtype != torch.float32 or not self.shortens(pre, weight_shape):
            return self.plain.outer(delta, pre, weight_shape)
        units, channels = weight_shape[:2]
        panel = kernels.winograd_panel()
        deep, wide = _up(channels, panel // 2), _up(units, panel)
        sums = pre.new_empty(_TAPS, deep, wide)
        sizes = [*pre.shape, units, self.plain.padding, *delta.shape[2:]]
        call(kernels.winograd_outer, [pre, delta.contiguous()], sizes, sums)
        update = pre.new_empty(3, 3, deep, wide)
        call(kernels.winograd_update, [sums], [sums[0].numel()], update)
        return update[:, :, :channels, :units].permute(3, 2, 0, 1).contiguous()


def _filtered(kernels: ctypes.CDLL, images: Tensor, weight: Tensor, bias: Tensor | None, padding: int) -> Tensor:
    units, height, width = len(weight), images.shape[2] + 2 * padding - 2, images.shape[3] + 2 * padding - 2
    out = images.new_empty(len(images), units, height, width)
    sizes = [*images.shape, units, padding, height, width]
    call(
        kernels.winograd_forward,
        [images, _filters(kernels, weight), None if bias is None else bias.contiguous()],
        sizes,
        out,
    )
    return out


def by_tiles(geometry: AbstractGeometry) -> AbstractGeometry:
    """The same geometry tile by tile, where that is possible and kernels run compiled."""
    if library() is None or not isinstance(geometry, Conv2d):
        return geometry
    return Winograd(geometry) if geometry.groups == geometry.stride == 1 and geometry.padding <= 2 else geometry
