"""Stochastic streams: what a unit, a winner and a gradient line send at each step, and three ways of standing for them.

A value v in [0, 1] is sent as bits that are 1 with probability v, independently at each of N steps; a signed value on two lines
of which at most one is active. An *engine* says how such a stream is represented:

    bits      the bits themselves, `[K, B, …]`, chunk by chunk
    counts    one number a stream, count/N, drawn from the law of the count: Binomial(N, v), Multinomial(N, softmax)
    expect    the mean v itself: the limit of endless streams

So one forward and one backward pass serve all three: K steps of bits, or one step of rates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aplysia.errors import RecipeError
from aplysia.ops.geometry import AbstractGeometry
from aplysia.ops.winner import AbstractCircuit
from aplysia.rng import generator, integers, uniform


@dataclass(frozen=True)
class Meeting:
    """Two streams at the cross points of one synapse.

    Attributes:
        delta: of the gradient, `[B, …]`, slots folded into the batch.
        pre: of the input, likewise.
        geometry, shape: of the synapse.
    """

    delta: Tensor
    pre: Tensor
    geometry: AbstractGeometry
    shape: torch.Size

    def product(self, delta: Tensor, pre: Tensor) -> Tensor:
        """Σ over samples and slots of δ ⊗ x."""
        return self.geometry.outer(delta, pre, self.shape)


class AbstractPairing(ABC):
    """What coincidences are taken to be where only the two counts are known."""

    @abstractmethod
    def variance(self, met: Meeting, n: int) -> Tensor | None:
        """Of the sum over samples, in units of (coincidence/N)², or None: there is none.

        Args:
            met: rates |δ| and x, each count/N.
            n: N.
        """


@dataclass(frozen=True)
class RankOne(AbstractPairing):
    """C = n·m/N, their expectation: the right mean and the right correlation of rows and columns, too little variance."""

    def variance(self, met: Meeting, n: int) -> Tensor | None:
        return None


@dataclass(frozen=True)
class Matched(AbstractPairing):
    """C of each sample is hypergeometric given the two counts n and m; their sum gets its mean and variance.

        E[C] = n·m/N      Var[C] = (n·m/N)·(1 − n/N)·(N − m)/(N − 1)

    The variance is a product of a term of n and one of m, so its sum over samples costs one more product of matrices. Drawn
    as a normal number around the mean.
    """

    def variance(self, met: Meeting, n: int) -> Tensor | None:
        if n == 1:
            return None
        return met.product(met.delta * (1.0 - met.delta), met.pre * (1.0 - met.pre)) / (n - 1)


class AbstractEngine(ABC):
    """How streams are represented.

    Attributes:
        limit: whether it is the limit of endless streams, in which nothing is drawn.
        stepped: whether it goes through the steps one by one, so that a neuron's path over them is there.
    """

    limit: ClassVar[bool] = False
    stepped: ClassVar[bool] = False

    def slots(self, steps: int) -> int:
        """Steps of a pass that stands for a stream of length `steps`."""
        return steps if self.stepped else 1

    @abstractmethod
    def unipolar(self, p: Tensor, n: int, source: torch.Generator) -> Tensor:
        """A stream of mean p in [0, 1], for each entry: bits, or count/N."""

    @abstractmethod
    def winners(self, m: Tensor, n: int, circuit: AbstractCircuit, source: torch.Generator) -> Tensor:
        """Who wins `[K, B, C]`, as bits or as shares."""

    @abstractmethod
    def paired(self, met: Meeting, unit: Tensor, draws: Draws) -> Tensor:
        """The coincidences of two streams, summed over samples and slots, in the shape of the weight, times `unit`.

        Args:
            met: the streams, that of the gradient times `unit` already.
            unit: 0-dim.
            draws: the layer's own.
        """


@dataclass(frozen=True, kw_only=True)
class Bits(AbstractEngine):
    """The bits themselves: the truth, for every neuron.

    Attributes:
        random_bits: r, of the number a comparator compares with: probabilities are multiples of 2^−r, the nearest. 8, 16 or 24.
    """

    stepped: ClassVar[bool] = True

    random_bits: int = 16

    def __post_init__(self) -> None:
        if self.random_bits not in (8, 16, 24):
            raise RecipeError(
                "temporal.engine.random_bits", expected="8, 16 or 24", got=repr(self.random_bits), fix="use 16"
            )

    def unipolar(self, p: Tensor, n: int, source: torch.Generator) -> Tensor:
        if self.random_bits == 24:
            return uniform(p.shape, source).to(p.dtype).lt_(p)
        number = integers(p.shape, self.random_bits, source).to(p.dtype)
        half, once = 1 << (self.random_bits - 1), p[:1] if p.stride(0) == 0 else p
        return number.lt_((once * (2.0 * half)).round_().sub_(half))

    def winners(self, m: Tensor, n: int, circuit: AbstractCircuit, source: torch.Generator) -> Tensor:
        return circuit.draw(m, source)

    def paired(self, met: Meeting, unit: Tensor, draws: Draws) -> Tensor:
        return met.product(met.delta, met.pre)


@dataclass(frozen=True, kw_only=True)
class Counts(AbstractEngine):
    """Counts only: exact for neurons that see the mean of the whole stream, for one matrix at a time.

    What is exact and what is not:

        input, hidden, gradient counts    Binomial(N, ·) given the means: exact
        winners                           Multinomial(N, softmax): exact
        coincidences                      mean and variance of each sum (`matched`), not the joint law of a row or column

    Attributes:
        pairing: what coincidences are taken to be.
    """

    pairing: AbstractPairing = field(default_factory=Matched)

    def unipolar(self, p: Tensor, n: int, source: torch.Generator) -> Tensor:
        return torch.binomial(torch.full_like(p, n), p, generator=source) / n

    def winners(self, m: Tensor, n: int, circuit: AbstractCircuit, source: torch.Generator) -> Tensor:
        # One class after the other takes its share of the wins that are left.
        shares, won = torch.softmax(m, -1), torch.zeros_like(m)
        left, rest = torch.full_like(m[..., 0], n), torch.ones_like(m[..., 0])
        for k in range(m.shape[-1]):
            p = (
                (shares[..., k] / rest.clamp_min(1e-30)).clamp(0.0, 1.0)
                if k < m.shape[-1] - 1
                else torch.ones_like(rest)
            )
            won[..., k] = torch.binomial(left, p, generator=source)
            left, rest = left - won[..., k], rest - shares[..., k]
        return won / n

    def paired(self, met: Meeting, unit: Tensor, draws: Draws) -> Tensor:
        mean = met.product(met.delta, met.pre)
        variance = self.pairing.variance(replace(met, delta=met.delta.abs() / unit), draws.n)
        if variance is None:
            return mean
        drawn = torch.randn(met.shape, generator=draws.source("coincidences"), device=mean.device, dtype=mean.dtype)
        return mean + variance.clamp_min_(0.0).sqrt_() * drawn * unit


@dataclass(frozen=True)
class Expect(AbstractEngine):
    """The means themselves: the artificial net that endless streams stand for."""

    limit: ClassVar[bool] = True

    def unipolar(self, p: Tensor, n: int, source: torch.Generator) -> Tensor:
        return p

    def winners(self, m: Tensor, n: int, circuit: AbstractCircuit, source: torch.Generator) -> Tensor:
        return torch.softmax(m, -1)

    def paired(self, met: Meeting, unit: Tensor, draws: Draws) -> Tensor:
        return met.product(met.delta, met.pre)


@dataclass
class Draws:
    """What one layer draws from in the course of one sequence: a generator of its own for each purpose.

    Input, hidden spikes, winners and gradient lines never share a random number: two lines of one synapse that did would
    coincide min(a, b) times instead of a·b.

    Attributes:
        engine: how streams are represented.
        n: N, the length of the streams.
        keys: what the generators are a function of, beside the purpose.
        device: where they live.
    """

    engine: AbstractEngine
    n: int
    keys: tuple[int | str, ...]
    device: torch.device
    made: dict[str, torch.Generator] = field(default_factory=dict)

    def source(self, purpose: str) -> torch.Generator:
        """The generator for a purpose; it goes on where the chunk before has left it."""
        if purpose not in self.made:
            self.made[purpose] = generator(self.device, *self.keys, purpose)
        return self.made[purpose]

    def unipolar(self, p: Tensor, purpose: str) -> Tensor:
        """A stream of mean p for each entry."""
        return p if self.engine.limit else self.engine.unipolar(p, self.n, self.source(purpose))

    def winners(self, m: Tensor, circuit: AbstractCircuit) -> Tensor:
        """Who wins."""
        return self.engine.winners(m, self.n, circuit, self.source("winner"))

    def rails(self, g: Tensor, ceiling: Tensor, gate: Tensor) -> Tensor:
        """Gradient spikes on two lines, as one signed stream in units of the ceiling.

        ±1 with probability clip(|g|/ceiling, 0, 1)·gate, of the sign of g: a spike of the line AND the derivative bit. The two
        are independent, so one random number does for both.
        """
        return self.unipolar((g.abs() / ceiling).clamp_(max=1.0).mul_(gate), "gradient").copysign_(g)


class _Stochastic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, currents: Tensor, out: Tensor, respond: Any) -> Tensor:
        ctx.respond = respond
        return out.view_as(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.respond(gradients[0]), None, None


def stochastic(currents: Tensor, out: Tensor, respond: Any) -> Tensor:
    """`out` in place of the currents that caused it; what comes back to it as g goes on to the currents as `respond(g)`.

    Args:
        currents: `[K, B, …]`.
        out: what was drawn, in the same shape.
        respond: from g to what the units send on down.
    """
    made = _Stochastic.apply(currents, out, respond)
    assert isinstance(made, Tensor)
    return made
