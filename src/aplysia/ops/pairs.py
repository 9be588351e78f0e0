"""Products with a drive whose steps come in pairs of opposite noise: each noise is multiplied once.

    a[2k] = s[2k] + n,   a[2k+1] = s[2k+1] − n        spikes s, noise n
    p = (s[2k] + s[2k+1])/2,   q = a[2k] − p          so that a[2k] = p + q,  a[2k+1] = p − q

    W·a[2k] = W·p + W·q,   W·a[2k+1] = W·p − W·q                              forward
    Σ δ[t] ⊗ a[t] = (δ[2k] + δ[2k+1]) ⊗ p + (δ[2k] − δ[2k+1]) ⊗ q             update

p is as sparse as spikes are, so its products are sums over events (`aplysia.ops.events`), and full products are left with q
alone, half as tall as a. All is exact but for the order of sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aplysia.ops.geometry import AbstractGeometry, AbstractOfOne


@dataclass(frozen=True, eq=False)
class Pairs(AbstractOfOne):
    """Products with one drive by pairs of its steps.

    Attributes:
        plain: the products of other drives.
        drive: that one, `[K·B, …]`.
        batch: B.
        even: p, `[K/2·B, …]`.
        odd: q, likewise.
        of_even: the products with p.
        of_odd: those with q.
    """

    batch: int
    even: Tensor
    odd: Tensor
    of_even: AbstractGeometry
    of_odd: AbstractGeometry

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not self.is_it(drive):
            return self.plain.forward(drive, weight, bias)
        even, odd = self.of_even.forward(self.even, weight, bias), self.of_odd.forward(self.odd, weight)
        out = even.new_empty(2 * len(even), *even.shape[1:])
        first, second = _steps(out, self.batch)
        even, odd = (half.unflatten(0, (-1, self.batch)) for half in (even, odd))
        torch.add(even, odd, out=first)
        torch.sub(even, odd, out=second)
        return out

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        if not self.is_it(pre):
            return self.plain.outer(delta, pre, weight_shape)
        first, second = _steps(delta, self.batch)
        update = self.of_even.outer((first + second).flatten(0, 1), self.even, weight_shape)
        return update.add_(self.of_odd.outer((first - second).flatten(0, 1), self.odd, weight_shape))


def _steps(x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """The first and the second step of each pair, `[K/2, B, …]`."""
    first, second = x.unflatten(0, (-1, 2, batch)).unbind(1)
    return first, second


def by_pairs(
    products: AbstractGeometry,
    drive: Tensor,
    spikes: Tensor,
    batch: int,
    weight_shape: torch.Size,
    others: AbstractGeometry,
) -> AbstractGeometry | None:
    """Products for a drive `[K·B, …]` by pairs of its steps; None: that does not pay.

    Args:
        products: of any drive.
        drive: spikes and noise, which has opposite signs in steps 2k and 2k + 1.
        spikes: the drive without its noise.
        batch: B.
        weight_shape: of what it meets.
        others: the products of other drives.
    """
    if not products.skips_zeros(spikes, weight_shape):
        return None
    even = torch.lerp(*_steps(spikes, batch), 0.5)
    flat = even.flatten(0, 1)
    of_even = products.settled(flat, weight_shape)
    if not of_even.skips_zeros(flat, weight_shape):
        return None
    odd = (_steps(drive, batch)[0] - even).flatten(0, 1)
    return Pairs(others, drive, batch, flat, odd, of_even, products.settled(odd, weight_shape))
