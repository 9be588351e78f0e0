"""Noise in the forward pass while learning: what zeroth-order rules learn from, and what a noisy device has anyway.

    activity      a_l[t] = g·s_l[t] + α·g·z_l[t]               what is sent on, g the layer's gain
    membrane      u_l[t] = λ·v_l[t−1] + I_l[t] + α·θ·z_l[t]    the noise stays in the potential and leaks away with it
    comparator    s_l[t] = H(u_l[t] + α·θ·z_l[t] − θ)          the potential itself stays clean

z is drawn per sample and unit, with mean 0 and second moment 1; α is thus in units of a spike, or of the threshold. An
antithetic source takes the same z with opposite signs in steps 2k and 2k+1. Every draw is a function of (seed, layer, batch,
pair of steps) alone, so no number depends on how a sequence is cut into chunks, and none is stored between them.

Confirmed of the paper on pseudo-zeroth-order training (Xiao et al. 2024): noise at the activity by default, at the membrane as
the alternative, all layers at once, these three laws, antithetic pairs of steps as an option. Ours: that noise at the membrane
has two readings, the scale √n of the sphere, noise per sample, and that evaluation is without noise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aplysia.errors import RecipeError
from aplysia.ops.normal import fill_normal, fill_normals
from aplysia.ops.pairs import add_pairs
from aplysia.rng import seed_of, seeded


class AbstractLaw(ABC):
    """The distribution of z: symmetric, mean 0, second moment 1 per unit."""

    @abstractmethod
    def draw(self, out: Tensor, source: torch.Generator) -> None:
        """Fill `out` `[B, …]` with one z; the source is on its device."""

    def draw_all(self, out: Tensor, seeds: list[int]) -> None:
        """Fill each `out[i]` with one z from a fresh source of seed i; may be replaced by what does so at once."""
        for z, seed in zip(out, seeds, strict=True):
            self.draw(z, seeded(out.device, seed))


@dataclass(frozen=True)
class Gaussian(AbstractLaw):
    """z ~ N(0, 1)."""

    def draw(self, out: Tensor, source: torch.Generator) -> None:
        fill_normal(out, source)

    def draw_all(self, out: Tensor, seeds: list[int]) -> None:
        fill_normals(out, seeds)


@dataclass(frozen=True)
class Rademacher(AbstractLaw):
    """z = ±1 with equal odds: one random bit."""

    def draw(self, out: Tensor, source: torch.Generator) -> None:
        # One draw of a 64-bit word serves eight units, by the lowest bit of each of its bytes.
        count = out.numel()
        words = torch.empty(-(-count // 8), dtype=torch.int64, device=out.device).random_(generator=source)
        bits = words.view(torch.int8)[:count].bitwise_and_(1)
        out.copy_(bits.mul_(2).sub_(1).view(out.shape))


@dataclass(frozen=True)
class Sphere(AbstractLaw):
    """z uniform on the sphere of radius √n, for the n units of a layer."""

    def draw(self, out: Tensor, source: torch.Generator) -> None:
        fill_normal(out, source)
        z = out.view(len(out), -1)
        z.mul_(math.sqrt(z.shape[1]) / z.norm(dim=1, keepdim=True))


class AbstractSite(ABC):
    """Where noise enters a layer."""

    @abstractmethod
    def amplitude(self, alpha: float, *, gain: float, threshold: float) -> float:
        """Factor on z, for a layer with this gain and threshold."""

    @abstractmethod
    def into_currents(self, noise: Tensor, before: Tensor | None, leak: float) -> Tensor | None:
        """What is added to the currents `[K, B, …]`, or None.

        Args:
            noise: scaled, `[K, B, …]`.
            before: the scaled noise of the step before the first one; None at the start of a sequence.
            leak: λ of the neuron.
        """

    @property
    @abstractmethod
    def remembers(self) -> bool:
        """Whether `into_currents` needs the noise of the step before."""

    @property
    @abstractmethod
    def at_output(self) -> bool:
        """Whether the noise is added to what the layer sends on."""


@dataclass(frozen=True)
class Activity(AbstractSite):
    """On the spikes a layer sends on."""

    def amplitude(self, alpha: float, *, gain: float, threshold: float) -> float:
        return alpha * gain

    def into_currents(self, noise: Tensor, before: Tensor | None, leak: float) -> Tensor | None:
        return None

    @property
    def remembers(self) -> bool:
        return False

    @property
    def at_output(self) -> bool:
        return True


@dataclass(frozen=True)
class Membrane(AbstractSite):
    """In the membrane potential, where it stays and leaks."""

    def amplitude(self, alpha: float, *, gain: float, threshold: float) -> float:
        return alpha * threshold

    def into_currents(self, noise: Tensor, before: Tensor | None, leak: float) -> Tensor | None:
        return noise

    @property
    def remembers(self) -> bool:
        return False

    @property
    def at_output(self) -> bool:
        return False


@dataclass(frozen=True)
class Comparator(AbstractSite):
    """In front of the comparator only.

    With n[t] the noise, a current n[t] − λ·n[t−1] makes the potential u[t] + n[t] and leaves nothing of it behind; exact for
    the soft reset, which subtracts a constant.
    """

    def amplitude(self, alpha: float, *, gain: float, threshold: float) -> float:
        return alpha * threshold

    def into_currents(self, noise: Tensor, before: Tensor | None, leak: float) -> Tensor | None:
        if leak == 0.0:
            return noise
        current = noise.clone()
        current[1:].sub_(noise[:-1], alpha=leak)
        if before is not None:
            current[0].sub_(before, alpha=leak)
        return current

    @property
    def remembers(self) -> bool:
        return True

    @property
    def at_output(self) -> bool:
        return False


class AbstractAmount(ABC):
    """How α goes over a run."""

    @abstractmethod
    def factor(self, step: int) -> float:
        """Factor on α in the batch of optimiser step `step`."""


@dataclass(frozen=True)
class Level(AbstractAmount):
    """The same throughout."""

    def factor(self, step: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Fading(AbstractAmount):
    """From 1 towards `floor`, halfway every `half_life` steps.

    Attributes:
        half_life: in optimiser steps.
        floor: in (0, 1].
    """

    half_life: int = 1000
    floor: float = 0.1

    def __post_init__(self) -> None:
        if self.half_life < 1:
            raise RecipeError(
                "noise.amount.half_life", expected="at least 1 step", got=repr(self.half_life), fix="use 1000"
            )
        if not 0.0 < self.floor <= 1.0:
            raise RecipeError("noise.amount.floor", expected="a number in (0, 1]", got=repr(self.floor), fix="use 0.1")

    def factor(self, step: int) -> float:
        return self.floor + (1.0 - self.floor) * 0.5 ** (step / self.half_life)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Settings of the noise in a forward pass.

    Attributes:
        alpha: α ≥ 0; 0: none.
        law: the distribution of z.
        site: where it enters.
        antithetic: whether steps come in pairs z, −z; with an odd number of steps the last one stays alone.
        amount: how α goes over a run.
        traced: whether eligibility traces hold the noise a synapse received, or only the spikes behind it.
    """

    alpha: float = 0.2
    law: AbstractLaw = field(default_factory=Gaussian)
    site: AbstractSite = field(default_factory=Activity)
    antithetic: bool = True
    amount: AbstractAmount = field(default_factory=Level)
    traced: bool = True

    def __post_init__(self) -> None:
        if not (self.alpha >= 0.0 and math.isfinite(self.alpha)):
            raise RecipeError(
                "rule.noise.alpha",
                expected="a number ≥ 0, in units of a spike",
                got=repr(self.alpha),
                fix="use 0.2, or 0 for no noise",
            )

    def source(self, seed: int, step: int, purpose: str = "noise") -> NoiseSource | None:
        """The noise of one batch; None where there is none."""
        if self.alpha == 0.0:
            return None
        return NoiseSource(self, seed, step, purpose)


class _Disturbed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, signal: Tensor, drawn: Drawn, amplitude: float) -> Tensor:
        ctx.dtype = signal.dtype
        if drawn.paired and (done := add_pairs(signal, drawn.draws, amplitude)) is not None:
            return done
        out = torch.empty_like(signal, dtype=torch.result_type(signal, drawn.draws))
        for steps, draws, sign in drawn.runs():
            torch.add(signal[steps], drawn.draws[draws], alpha=sign * amplitude, out=out[steps])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradients[0].to(ctx.dtype), None, None


@dataclass(frozen=True)
class Drawn:
    """z of one layer over a chunk of K steps, each draw kept once: z[t] = signs[t]·draws[places[t]].

    Attributes:
        draws: `[D, B, …]`, of which a pair of steps has one.
        places: K of them.
        signs: K of 1 or −1.
    """

    draws: Tensor
    places: tuple[int, ...]
    signs: tuple[int, ...]

    @classmethod
    def of(cls, z: Tensor) -> Drawn:
        """Steps `[K, B, …]` that have nothing to do with each other."""
        return cls(z, tuple(range(len(z))), (1,) * len(z))

    def __len__(self) -> int:
        return len(self.places)

    @property
    def units(self) -> int:
        """Numbers of one step, of all samples."""
        return self.draws[0].numel()

    @property
    def paired(self) -> bool:
        """Whether the steps are whole pairs z, −z."""
        return self.signs == (1, -1) * len(self.draws)

    def runs(self) -> list[tuple[slice, slice, int]]:
        """Steps that take draws in order with one sign: as few as there are, since each is a call of an operation."""
        if self.paired:
            return [(slice(0, None, 2), slice(None), 1), (slice(1, None, 2), slice(None), -1)]
        if len(self) == len(self.draws) and len(set(self.signs)) == 1:
            return [(slice(None), slice(None), self.signs[0])]
        steps = enumerate(zip(self.places, self.signs, strict=True))
        return [(slice(t, t + 1), slice(place, place + 1), sign) for t, (place, sign) in steps]

    def step(self, t: int) -> Drawn:
        """One step alone."""
        return Drawn(self.draws[self.places[t]].unsqueeze(0), (0,), (self.signs[t],))

    def to(self, dtype: torch.dtype) -> Drawn:
        """The same in another type."""
        return self if self.draws.dtype == dtype else replace(self, draws=self.draws.to(dtype))

    def all(self) -> Tensor:
        """z, `[K, B, …]`."""
        made = self.draws.new_empty(len(self), *self.draws.shape[1:])
        for steps, draws, sign in self.runs():
            torch.mul(self.draws[draws], sign, out=made[steps])
        return made

    def onto(self, signal: Tensor, amplitude: float) -> Tensor:
        """signal + amplitude·z, `[K, B, …]`; a gradient goes through to the signal."""
        out = _Disturbed.apply(signal, self, amplitude)
        assert isinstance(out, Tensor)
        return out

    def gathered(self, x: Tensor) -> Tensor:
        """What each draw meets of x `[K, …]`, `[D, …]`: Σ_t x[t]·z[t] = Σ_d gathered[d]·draws[d]."""
        if self.paired:
            return x[0::2] - x[1::2]
        made = x.new_zeros(len(self.draws), *x.shape[1:])
        for steps, draws, sign in self.runs():
            made[draws].add_(x[steps], alpha=sign)
        return made


@dataclass(frozen=True, eq=False)
class Noisy:
    """What a layer sends under noise, s + amplitude·z, before anyone has written it out: some products do better without.

    Attributes:
        spikes: s, `[K, B, …]`.
        drawn: z.
        amplitude: factor on z.
        traced: whether traces hear the noise, too.
    """

    spikes: Tensor
    drawn: Drawn
    amplitude: float
    traced: bool = True

    def __len__(self) -> int:
        return len(self.spikes)

    def written(self) -> Tensor:
        """The sum itself; a gradient goes through to the spikes."""
        return self.drawn.onto(self.spikes, self.amplitude)


@dataclass(frozen=True)
class NoiseSource:
    """The noise of all layers and steps of one batch.

    Attributes:
        noise: the settings.
        seed: of the run.
        step: number of the optimiser step the batch belongs to.
        purpose: draws for other purposes are others.
    """

    noise: Noise
    seed: int
    step: int
    purpose: str = "noise"

    def drawn(self, name: str, start: int, steps: int, like: Tensor) -> Drawn:
        """z of the layer called `name` for the steps start … start + steps − 1, unscaled, for `like [B, …]`."""
        size = 2 if self.noise.antithetic else 1
        first, last = start // size, (start + steps - 1) // size
        draws = like.new_empty(last - first + 1, *like.shape)
        pairs = range(first, last + 1)
        self.noise.law.draw_all(draws, [seed_of(self.seed, self.purpose, name, self.step, pair) for pair in pairs])
        every = range(start, start + steps)
        return Drawn(draws, tuple(t // size - first for t in every), tuple(-1 if t % size else 1 for t in every))

    def draw(self, name: str, start: int, steps: int, like: Tensor) -> Tensor:
        """The same written out, `[steps, B, …]`."""
        return self.drawn(name, start, steps, like).all()

    def amplitude(self, *, gain: float, threshold: float) -> float:
        """Factor on z in a layer of this gain and threshold."""
        alpha = self.noise.alpha * self.noise.amount.factor(self.step)
        return self.noise.site.amplitude(alpha, gain=gain, threshold=threshold)
