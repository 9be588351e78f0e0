"""Readout by winner-take-all: lateral inhibition lets exactly one unit fire at each step, with the odds of a softmax.

    P(s[t] = k) = softmax_k(m[t]),      e⁺ = s AND NOT y,   e⁻ = y AND NOT s,   E[e⁺ − e⁻] = softmax(m) − y

for a one-hot teacher y: the derivative of softmax cross-entropy as a difference of bits, never more than one on each line.

After Biswas et al. (2023): softmax cross-entropy by inhibitory lateral connections that enforce winner-take-all is theirs; the
two circuits in `aplysia.ops.winner` are our choice, since the paper's own could not be read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from aplysia.neurons.base import AbstractStream
from aplysia.neurons.stream_memory import AbstractMemory, RunningMean
from aplysia.ops.stream import Draws
from aplysia.ops.winner import AbstractCircuit, Race


@dataclass(frozen=True, kw_only=True)
class WinnerTakeAll(AbstractStream):
    """Exactly one unit fires at each step.

    Attributes:
        memory: from currents to the membrane.
        circuit: how the winner is found.
    """

    spiking: ClassVar[bool] = True
    emits: ClassVar[bool] = False
    one_winner: ClassVar[bool] = True
    summary: ClassVar[str] = "readout of stream nets: one winner a step, with the odds of a softmax (SSNN-BP)"

    memory: AbstractMemory = field(default_factory=RunningMean)
    circuit: AbstractCircuit = field(default_factory=Race)

    def respond(self, m: Tensor, variance: Tensor | None, draws: Draws) -> tuple[Tensor, None]:
        return draws.winners(m, self.circuit), None

    @property
    def scale(self) -> float:
        return 1.0
