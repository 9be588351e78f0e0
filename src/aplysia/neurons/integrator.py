"""Non-spiking readout: the membrane itself is the output.

    o[t] = λ·o[t−1] + I[t]

With λ = 0 it has no state and o[t] = I[t], the readout of the OTTT line; with λ = 1 it counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aplysia.errors import RecipeError
from aplysia.neurons.base import AbstractStepped, State
from aplysia.ops.scan import leaky_sum


@dataclass(frozen=True, kw_only=True)
class Integrator(AbstractStepped):
    """Leaky integrator without a spike.

    Attributes:
        leak: λ in [0, 1] per step; 0 has no memory.
    """

    spiking: ClassVar[bool] = False
    pointwise: ClassVar[bool] = True
    summary: ClassVar[str] = "non-spiking leaky integrator, for readouts"

    leak: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.leak <= 1.0:
            raise RecipeError(
                "readout.leak", expected="a number in [0, 1]", got=repr(self.leak), fix="use 0 for no memory"
            )

    @property
    def decay(self) -> float:
        return self.leak

    def init(self, current: Tensor) -> State:
        return (current.new_zeros(()).expand(current.shape),)

    def scan(self, currents: Tensor, state: State, *, through_time: bool) -> tuple[Tensor, State]:
        out, v = leaky_sum(currents, state[0], self.leak, through_time=through_time)
        return out, (v,)
