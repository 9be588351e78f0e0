"""Products with a drive whose steps come in pairs of opposite noise: each noise is multiplied once.

    a[2k] = s[2k] + n,   a[2k+1] = s[2k+1] − n        spikes s, noise n
    p = (s[2k] + s[2k+1])/2,   q = a[2k] − p          so that a[2k] = p + q,  a[2k+1] = p − q

    W·a[2k] = W·p + W·q,   W·a[2k+1] = W·p − W·q                              forward
    Σ δ[t] ⊗ a[t] = (δ[2k] + δ[2k+1]) ⊗ p + (δ[2k] − δ[2k+1]) ⊗ q             update

p is as sparse as spikes are, so its products are sums over events (`aplysia.ops.events`), and full products are left with q
alone, half as tall as a. Few units meet s and n one by one instead:

    W·a[2k] = W·s[2k] + W·n,   Σ δ[t] ⊗ a[t] = Σ δ[t] ⊗ s[t] + (δ[2k] − δ[2k+1]) ⊗ n

All is exact but for the order of sums.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from aplysia.ops.events import Summed
from aplysia.ops.geometry import AbstractGeometry, AbstractOfOne
from aplysia.ops.native import call, library, numbers, ready
from aplysia.ops.wide import FEW, narrow_pairs


@dataclass(frozen=True, eq=False)
class Pairs(AbstractOfOne):
    """Products with one drive by pairs of its steps.

    Attributes:
        plain: the products of other drives.
        drive: its spikes, `[K·B, …]`, which stand for it: spikes and noise are never written out together.
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
        odd = self.of_odd.forward(self.odd, weight)
        if isinstance(self.of_even, Summed):
            made = self.of_even.joined(self.even, weight, bias, odd, self.batch)
            if made is not None:
                return made
        return _joined(self.of_even.forward(self.even, weight, bias), odd, self.batch)

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        if not self.is_it(pre):
            return self.plain.outer(delta, pre, weight_shape)
        added, taken = _sums(delta, self.batch)
        update = self.of_even.outer(added, self.even, weight_shape)
        del added
        return update.add_(self.of_odd.outer(taken, self.odd, weight_shape))


@dataclass(frozen=True, eq=False)
class Apart(AbstractOfOne):
    """Products with spikes and with their noise, one by one: where units are few, reading them is all that these cost, and a
    sum of both would be written and read once more.

    Attributes:
        plain: the products of any drive.
        drive: the spikes, `[K·B, M]`.
        batch: B.
        draws: `[K/2·B, M]`.
        amplitude: factor on them.
    """

    batch: int
    draws: Tensor
    amplitude: float

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if not self.is_it(drive):
            return self.plain.forward(drive, weight, bias)
        out = narrow_pairs(drive, self.draws, self.amplitude, weight, bias, self.batch)
        if out is None:
            out = self.plain.forward(drive, weight, bias)
            noise = self.plain.forward(self.draws, weight).unflatten(0, (-1, self.batch))
            for step, sign in zip(_steps(out, self.batch), (1.0, -1.0), strict=True):
                step.add_(noise, alpha=sign * self.amplitude)
        return out

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        update = self.plain.outer(delta, pre, weight_shape)
        if self.is_it(pre):
            update.add_(self.plain.outer(_sums(delta, self.batch)[1], self.draws, weight_shape), alpha=self.amplitude)
        return update


def _steps(x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """The first and the second step of each pair, `[K/2, B, …]`."""
    first, second = x.unflatten(0, (-1, 2, batch)).unbind(1)
    return first, second


def by_pairs(
    products: AbstractGeometry,
    spikes: Tensor,
    draws: Tensor,
    amplitude: float,
    batch: int,
    weight_shape: torch.Size,
) -> AbstractGeometry | None:
    """Products for spikes `[K·B, …]` under noise by pairs of their steps, which those spikes themselves ask for; None: that
    does not pay.

    Args:
        products: of any drive.
        spikes: the drive without its noise.
        draws: `[K/2, B, …]`; the noise is amplitude times these in steps 2k, and less them in steps 2k + 1.
        amplitude: factor on the draws.
        batch: B.
        weight_shape: of what they meet.
    """
    if weight_shape[0] <= FEW and len(weight_shape) == 2 and _kernels(spikes, draws) is not None:
        return Apart(products, spikes, batch, draws.view(-1, spikes.shape[1]), amplitude)
    if not products.skips_zeros(spikes, weight_shape):
        return None
    even, odd = halves(spikes, draws, amplitude)
    of_even = products.settled(even, weight_shape)
    if not of_even.skips_zeros(even, weight_shape):
        return None
    return Pairs(products, spikes, batch, even, odd, of_even, products.settled(odd, weight_shape))


@torch.no_grad()
def halves(spikes: Tensor, draws: Tensor, amplitude: float) -> tuple[Tensor, Tensor]:
    """p and q, `[K/2·B, …]`, of spikes `[K·B, …]` and the draws of their noise, `[K/2, B, …]`."""
    pairs, batch = draws.shape[:2]
    if (kernels := _kernels(spikes, draws)) is not None:
        even, odd = (spikes.new_empty(pairs * batch, *spikes.shape[1:]) for _ in range(2))
        call(kernels.pair_halves, [spikes, draws, numbers(amplitude), odd], [pairs, draws[0].numel()], even)
        return even, odd
    first, second = _steps(spikes, batch)
    even = torch.lerp(first, second, 0.5)
    odd = torch.add(first - even, draws.reshape(even.shape), alpha=amplitude)
    return even.flatten(0, 1), odd.flatten(0, 1)


def _sums(x: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """The sum and the difference of the steps of each pair, `[K/2·B, …]`, of x `[K·B, …]`."""
    if (kernels := _kernels(x)) is not None:
        added, taken = (x.new_empty(len(x) // 2, *x.shape[1:]) for _ in range(2))
        call(kernels.pair_sums, [x, taken], [len(x) // (2 * batch), batch * x[0].numel()], added)
        return added, taken
    first, second = _steps(x, batch)
    return (first + second).flatten(0, 1), (first - second).flatten(0, 1)


def _joined(even: Tensor, odd: Tensor, batch: int) -> Tensor:
    """Their sum in steps 2k, their difference in steps 2k + 1, `[K·B, …]`, of both `[K/2·B, …]`."""
    out = even.new_empty(2 * len(even), *even.shape[1:])
    if (kernels := _kernels(even, odd, out)) is not None:
        call(kernels.pair_joined, [even, odd], [len(even) // batch, batch * even[0].numel()], out)
        return out
    first, second = _steps(out, batch)
    even, odd = (half.unflatten(0, (-1, batch)) for half in (even, odd))
    torch.add(even, odd, out=first)
    torch.sub(even, odd, out=second)
    return out


def add_pairs(signal: Tensor, z: Tensor, alpha: float) -> Tensor | None:
    """signal `[2D, …]` plus α·z in even steps and minus it in odd ones, for z `[D, …]`, in one pass; None: no kernel can."""
    if (kernels := _kernels(signal, z)) is None:
        return None
    out = torch.empty_like(signal)
    call(kernels.add_pairs, [signal, z, numbers(alpha)], [len(z), z[0].numel()], out)
    return out


# Numbers from which on a call pays.
_LEAST = 1 << 14


def _kernels(*tensors: Tensor) -> ctypes.CDLL | None:
    """The kernels, where they can take these."""
    return library() if tensors[0].numel() >= _LEAST and ready(*tensors) else None
