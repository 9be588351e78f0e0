"""Who reaches whom: the number of connections of a geometry in closed form, padding left out.

dense           each of M inputs reaches N units
convolution     input (c, y, x) reaches N/groups · r_H(y) · r_W(x) units, where r(y) is the number of output places i and
                taps d of a kernel of k with i·stride + d − padding = y,   0 ≤ i < places,   0 ≤ d < k
any other       the geometry's own adjoint of ones, through weights of one
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aplysia.nets.layer import Layer
from aplysia.ops.geometry import Conv2d, Dense


def _reached(size: int, places: int, kernel: int, stride: int, padding: int) -> list[int]:
    """r(y) for y = 0 … size − 1."""
    reached = []
    for y in range(size):
        low = max(0, -(-(y + padding - kernel + 1) // stride))
        high = min(places - 1, (y + padding) // stride)
        reached.append(max(0, high - low + 1))
    return reached


def fan_out(layer: Layer) -> Tensor:
    """How many units each entry of the drive reaches, int64 in the shape of one sample's drive."""
    geometry, weight = layer.geometry, layer.weight.shape
    if isinstance(geometry, Dense):
        return torch.full(layer.drive_shape, weight[0], dtype=torch.int64)
    if not isinstance(geometry, Conv2d):
        ones = torch.ones(1, *layer.current_shape, dtype=torch.float64), torch.ones(weight, dtype=torch.float64)
        return geometry.error(*ones, torch.Size((1, *layer.drive_shape)))[0].round().to(torch.int64)
    _, height, width = layer.drive_shape
    rows, columns = (
        torch.tensor(_reached(size, places, weight[-1], geometry.stride, geometry.padding))
        for size, places in zip((height, width), layer.current_shape[1:], strict=True)
    )
    each = rows[:, None] * columns[None, :] * (weight[0] // geometry.groups)
    return each.expand(layer.drive_shape)


def connections(layer: Layer) -> int:
    """Pairs of an input and a unit that a weight joins, for one sample and step."""
    return int(fan_out(layer).sum())


def fan_in(layer: Layer) -> Tensor:
    """How many entries of the drive each unit's current hears, int64 in the shape of one sample's currents."""
    geometry, weight = layer.geometry, layer.weight.shape
    if not isinstance(geometry, Conv2d):
        return torch.full(layer.current_shape, weight[1], dtype=torch.int64)
    _, height, width = layer.drive_shape
    heard = []
    for size, places in zip((height, width), layer.current_shape[1:], strict=True):
        starts = [i * geometry.stride - geometry.padding for i in range(places)]
        heard.append(torch.tensor([min(size, at + weight[-1]) - max(0, at) for at in starts]).clamp_min(0))
    each = heard[0][:, None] * heard[1][None, :] * weight[1]
    return each.expand(layer.current_shape)


def address_bits(units: int) -> int:
    """⌈log₂ n⌉ bits say which of n units fired."""
    return math.ceil(math.log2(units)) if units > 1 else 0
