"""Circuits that find one winner of a layer at each step, by lateral inhibition."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import RecipeError
from aplysia.rng import uniform

# Beyond this many slots without a winner something is wrong: at the default bias each has a chance of more than one in ten.
_SLOTS = 10_000


class AbstractCircuit(ABC):
    """How one winner of a layer is found at each step; settings, and the draw itself.

    Attributes:
        softmax: whether P(k wins) = softmax_k(m), exactly.
        draws: random numbers of each unit at each step; None: as many as it takes.
    """

    softmax: ClassVar[bool] = True
    draws: ClassVar[int | None] = None

    @abstractmethod
    def draw(self, m: Tensor, source: torch.Generator) -> Tensor:
        """The winners `[K, B, C]`, one-hot, for membrane values m. Steps draw in order, however they are cut into chunks."""


@dataclass(frozen=True)
class Race(AbstractCircuit):
    """Exponential race: unit k would fire at a time T_k ~ Exp(rate exp(m_k)); the first one fires and stops the others.

    P(first = k) = softmax_k(m) exactly, whatever constant all rates share.
    """

    draws: ClassVar[int | None] = 1

    def draw(self, m: Tensor, source: torch.Generator) -> Tensor:
        # −log(1 − U) is exponential, and U has no 1.
        waiting = torch.log1p(-uniform(m.shape, source)).neg_().clamp_min_(1e-30)
        return _one_hot((m - waiting.log_()).argmax(-1, keepdim=True), m)


@dataclass(frozen=True, kw_only=True)
class Clocked(AbstractCircuit):
    """Slots of a clock: each unit fires with probability σ(m_k − max m + b); a slot counts if *exactly one* unit fired.

    P(only k) ∝ p_k/(1 − p_k) = exp(m_k + const): a softmax for every b. Inhibition is the veto on slots with several spikes.

    Attributes:
        bias: b; near −1.5 a winner takes about four slots.
    """

    bias: float = -1.5

    def __post_init__(self) -> None:
        _finite(self.bias)

    def draw(self, m: Tensor, source: torch.Generator) -> Tensor:
        return torch.stack([self._step(step, source) for step in _odds(m, self.bias)])

    def _step(self, p: Tensor, source: torch.Generator) -> Tensor:
        won, open_ = torch.zeros_like(p), torch.ones_like(p[..., :1], dtype=torch.bool)
        for _ in range(_SLOTS):
            fired = uniform((1, *p.shape), source)[0] < p
            decided = open_ & (fired.sum(-1, keepdim=True) == 1)
            won += (fired & decided).to(p.dtype)
            open_ = open_ & ~decided
            if not bool(open_.any()):
                return won
        raise RecipeError(
            "readout.circuit.bias", expected="one that lets single units fire", got=repr(self.bias), fix="use -1.5"
        )


@dataclass(frozen=True, kw_only=True)
class ClockedTies(AbstractCircuit):
    """The clocked circuit with ties broken at random instead of vetoed: a *biased* softmax, here to show that bias.

    Attributes:
        bias: b, as in the clocked circuit; the larger, the more ties and the larger the error.
    """

    softmax: ClassVar[bool] = False

    bias: float = -1.5

    def __post_init__(self) -> None:
        _finite(self.bias)

    def draw(self, m: Tensor, source: torch.Generator) -> Tensor:
        return torch.stack([self._step(step, source) for step in _odds(m, self.bias)])

    def _step(self, p: Tensor, source: torch.Generator) -> Tensor:
        won, open_ = torch.zeros_like(p), torch.ones_like(p[..., :1], dtype=torch.bool)
        for _ in range(_SLOTS):
            fired = uniform((1, *p.shape), source)[0] < p
            lot = uniform((1, *p.shape), source)[0].masked_fill(~fired, -1.0)
            decided = open_ & fired.any(-1, keepdim=True)
            won += _one_hot(lot.argmax(-1, keepdim=True), p) * decided
            open_ = open_ & ~decided
            if not bool(open_.any()):
                return won
        raise RecipeError(
            "readout.circuit.bias", expected="one that lets units fire", got=repr(self.bias), fix="use -1.5"
        )


def _odds(m: Tensor, bias: float) -> Tensor:
    # What all units share drops out of the odds, so inhibition by the largest costs nothing and keeps slots useful.
    return torch.sigmoid(m - m.amax(-1, keepdim=True) + bias)


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter_(-1, index, 1.0)


def _finite(bias: float) -> None:
    if not math.isfinite(bias):
        raise RecipeError("readout.circuit.bias", expected="a finite number", got=repr(bias), fix="use -1.5")
