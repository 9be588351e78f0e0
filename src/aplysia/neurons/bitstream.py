"""Composite stochastic neuron: a forward spike, a derivative bit and dual-rail gradient spikes at each step.

    m[t]  membrane, from the currents u[t] by the neuron's memory
    h[t] ~ Bern(f(m[t]))                                   forward spike
    d[t]  = 1[0 < m[t] < 1]   (sigmoid: d ~ Bern(4·s·(1 − s)), scale k/4)     derivative bit
    a±[t] ~ Bern(clip(±g[t]/Γ, 0, 1))                      gradient spikes, g the error that comes back through the array
    δ±[t] = a±[t] AND d[t]

Forward and gradient streams run in the same steps, so nothing is kept from a forward phase to a backward one. The gradient by a
weight is Γ times the coincidences of x and δ; Γ is kept by the scheme, `aplysia.credit.temporal.coincidence`.

After Biswas et al. (2023), of which only the abstracts could be read: that a composite neuron sends activations and gradients
at once as stochastic spike trains, the gradient on a + and a − line. Transfer, memory and gains are a design of ours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import RecipeError
from aplysia.neurons.base import AbstractStream
from aplysia.neurons.stream_memory import AbstractMemory, RunningMean
from aplysia.ops.stream import Draws


class AbstractTransfer(ABC):
    """From membrane to firing probability, and the derivative as a bit."""

    @property
    @abstractmethod
    def scale(self) -> float:
        """The derivative is this times the probability of its bit."""

    @abstractmethod
    def rate(self, m: Tensor) -> Tensor:
        """Probability of a spike."""

    @abstractmethod
    def gate(self, m: Tensor) -> Tensor:
        """Probability of the derivative bit."""

    @abstractmethod
    def smoothed(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of the rate and of the derivative bit over a membrane that is normal with this mean and variance."""


@dataclass(frozen=True)
class ClippedLinear(AbstractTransfer):
    """f(m) = clip(m, 0, 1): a comparator with uniform noise. The derivative bit is two comparators.

    With μ and s² of a normal membrane, a = −μ/s and b = (1 − μ)/s:

        E f = μ·(Φ(b) − Φ(a)) − s·(φ(b) − φ(a)) + 1 − Φ(b)        E f′ = Φ(b) − Φ(a)
    """

    @property
    def scale(self) -> float:
        return 1.0

    def rate(self, m: Tensor) -> Tensor:
        return m.clamp(0.0, 1.0)

    def gate(self, m: Tensor) -> Tensor:
        return ((m > 0.0) & (m < 1.0)).to(m.dtype)

    def smoothed(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        s = variance.clamp_min(1e-12).sqrt()
        a, b = -mean / s, (1.0 - mean) / s
        inside = _below(b) - _below(a)
        return mean * inside - s * (_density(b) - _density(a)) + 1.0 - _below(b), inside


@dataclass(frozen=True, kw_only=True)
class Sigmoid(AbstractTransfer):
    """f(m) = σ(k·(m − θ)), as stochastic switching devices have it. The derivative bit has probability 4·s·(1 − s), scale k/4.

    Attributes:
        slope: k > 0.
        centre: θ, where the probability is ½.
    """

    slope: float = 4.0
    centre: float = 0.5

    def __post_init__(self) -> None:
        if not (self.slope > 0.0 and math.isfinite(self.slope)):
            raise RecipeError(
                "neuron.transfer.slope",
                expected="a number > 0",
                got=repr(self.slope),
                fix="use 4, whose steepest place has slope 1",
            )

    def rate(self, m: Tensor) -> Tensor:
        return torch.sigmoid(self.slope * (m - self.centre))

    @property
    def scale(self) -> float:
        return self.slope / 4.0

    def gate(self, m: Tensor) -> Tensor:
        s = self.rate(m)
        return 4.0 * s * (1.0 - s)

    def smoothed(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        raise RecipeError(
            "neuron.transfer",
            expected="clipped_linear for the limit of memoryless streams",
            got="sigmoid, whose mean over a noisy membrane has no closed form",
            fix="set neuron.memory=running_mean, or neuron.transfer=clipped_linear",
        )


@dataclass(frozen=True, kw_only=True)
class Bitstream(AbstractStream):
    """Stochastic bits forward and backward at once.

    Attributes:
        memory: from currents to the membrane.
        transfer: from the membrane to the probability of a spike.
    """

    spiking: ClassVar[bool] = True
    emits: ClassVar[bool] = True
    summary: ClassVar[str] = "composite stochastic neuron: spike, derivative bit, gradient spikes at once (SSNN-BP)"

    memory: AbstractMemory = field(default_factory=RunningMean)
    transfer: AbstractTransfer = field(default_factory=ClippedLinear)

    def respond(self, m: Tensor, variance: Tensor | None, draws: Draws) -> tuple[Tensor, Tensor]:
        if variance is not None:
            return self.transfer.smoothed(m, variance)
        return draws.unipolar(self.transfer.rate(m), "spike"), self.transfer.gate(m)

    @property
    def scale(self) -> float:
        return self.transfer.scale


def _below(z: Tensor) -> Tensor:
    return 0.5 * (1.0 + torch.erf(z / math.sqrt(2.0)))


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
