"""What the membrane of a stochastic neuron remembers of the currents u[t] of a stream, t = 1 … N.

The memory decides what endless streams converge to. A neuron without memory passes the noise of its input bits through its
transfer at every step, so its net tends to a *smoothed* artificial net, with an error against the plain one that no length
removes; every mean over steps takes that noise away as N grows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import PairError, RecipeError


class AbstractMemory(ABC):
    """From currents to membrane values.

    Attributes:
        block: whether the membrane is the mean of the whole stream, so that counts say all there is to say.
    """

    block: ClassVar[bool] = False

    @property
    @abstractmethod
    def noise(self) -> float:
        """Share of the variance of single steps that the membrane keeps however long the stream is."""

    @abstractmethod
    def scan(self, currents: Tensor, carry: Tensor | None, start: int, steps: int) -> tuple[Tensor, Tensor | None]:
        """The membrane `[K, B, …]` over a chunk, and what is carried to the next.

        Args:
            currents: u of steps start + 1 … start + K.
            carry: from the chunk before; None at the start of a stream.
            start: steps that are over.
            steps: N.
        """


@dataclass(frozen=True)
class Memoryless(AbstractMemory):
    """m[t] = u[t]."""

    @property
    def noise(self) -> float:
        return 1.0

    def scan(self, currents: Tensor, carry: Tensor | None, start: int, steps: int) -> tuple[Tensor, Tensor | None]:
        return currents, None


@dataclass(frozen=True)
class RunningMean(AbstractMemory):
    """m[t] = (1/t)·Σ_{s ≤ t} u[s]. The first steps are as noisy as without memory, which leaves a bias of order 1/√N."""

    def scan(self, currents: Tensor, carry: Tensor | None, start: int, steps: int) -> tuple[Tensor, Tensor | None]:
        # Step by step: the sum must not depend on where a chunk ends.
        membrane = torch.empty_like(currents)
        total = torch.zeros_like(currents[0]) if carry is None else carry.clone()
        for k, current in enumerate(currents.unbind(0)):
            total += current
            torch.div(total, start + k + 1, out=membrane[k])
        return membrane, total

    @property
    def noise(self) -> float:
        return 0.0


@dataclass(frozen=True, kw_only=True)
class LeakyMean(AbstractMemory):
    """m[t] = (1 − λ)·Σ_{s ≤ t} λ^(t−s)·u[s] / (1 − λ^t): a mean over about 1/(1 − λ) steps, unbiased from the first on.

    Attributes:
        leak: λ in [0, 1).
    """

    leak: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.leak < 1.0:
            raise RecipeError(
                "neuron.memory.leak",
                expected="a number in [0, 1)",
                got=repr(self.leak),
                fix="use 0.9, or memory=running_mean",
            )

    @property
    def noise(self) -> float:
        return (1.0 - self.leak) / (1.0 + self.leak)

    def scan(self, currents: Tensor, carry: Tensor | None, start: int, steps: int) -> tuple[Tensor, Tensor | None]:
        membrane = torch.empty_like(currents)
        mean = torch.zeros_like(currents[0]) if carry is None else carry.clone()
        for k, current in enumerate(currents.unbind(0)):
            mean.mul_(self.leak).add_(current, alpha=1.0 - self.leak)
            share = -math.expm1((start + k + 1) * math.log(self.leak)) if self.leak else 1.0
            torch.div(mean, share, out=membrane[k])
        return membrane, mean


@dataclass(frozen=True)
class BlockMean(AbstractMemory):
    """m = (1/N)·Σ u[s] at every step, and the gradient lines see the mean error likewise.

    That needs two phases, since no spike can be sent before the sums are known; what the single phase of the other memories
    costs is measured against it.
    """

    block: ClassVar[bool] = True

    def scan(self, currents: Tensor, carry: Tensor | None, start: int, steps: int) -> tuple[Tensor, Tensor | None]:
        if len(currents) not in (1, steps) or (len(currents) == 1 and start > 0):
            raise PairError(
                "neuron.memory BlockMean",
                expected="the whole stream in one chunk, since its mean must be known before a unit can fire",
                got=f"chunks of {len(currents)} of {steps} steps",
                fix="set temporal.chunk=none, temporal.engine=counts, or neuron.memory=running_mean",
            )
        return currents.mean(0, keepdim=True).expand_as(currents), None

    @property
    def noise(self) -> float:
        return 0.0
