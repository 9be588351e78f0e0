"""Leaky integrate-and-fire neuron in discrete time.

    u[t] = λ·v[t−1] + I[t]      s[t] = H(u[t] − θ)      v[t] = u[t] − θ·s[t]  (soft)   or   u[t]·(1 − s[t])  (hard)

The current is not scaled by (1 − λ), the reset acts before the next leak, and u = θ fires. This is the form of OTTT
(Xiao et al. 2022) and of SpikingJelly with `decay_input=False`; how snnTorch and Norse differ stands in `docs/neurons.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from aplysia.errors import RecipeError
from aplysia.neurons.base import AbstractStepped, Sloped, State
from aplysia.ops.scan import AbstractReset, Dynamics, SoftReset, lif_scan, lif_scan_sloped
from aplysia.ops.surrogate import AbstractSurrogate, Sigmoid


@dataclass(frozen=True, kw_only=True)
class LIF(AbstractStepped):
    """Leaky integrate-and-fire.

    Attributes:
        leak: λ in [0, 1] per step; 1 is a perfect integrator. λ = 1 − 1/τ with τ in steps, or exp(−dt/τ_m).
        threshold: θ > 0, in units of the membrane potential.
        surrogate: ψ, the stand-in for the derivative of the spike.
        reset: what a spike does to the membrane.
        detach_reset: leave the path through the reset out of the gradient (matters to backpropagation through time only).
    """

    spiking: ClassVar[bool] = True
    pointwise: ClassVar[bool] = True
    summary: ClassVar[str] = "leaky integrate-and-fire, soft or hard reset"

    leak: float = 0.5
    threshold: float = 1.0
    surrogate: AbstractSurrogate = field(default_factory=Sigmoid)
    reset: AbstractReset = field(default_factory=SoftReset)
    detach_reset: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.leak <= 1.0:
            raise RecipeError("neuron.leak", expected="a number in [0, 1]", got=repr(self.leak), fix="use 1 - 1/tau")
        if not (self.threshold > 0.0 and math.isfinite(self.threshold)):
            raise RecipeError(
                "neuron.threshold",
                expected="a positive number",
                got=repr(self.threshold),
                fix="use 1.0 or scale the weights",
            )

    @property
    def decay(self) -> float:
        return self.leak

    def init(self, current: Tensor) -> State:
        return (current.new_zeros(()).expand(current.shape),)

    def scan(self, currents: Tensor, state: State, *, through_time: bool) -> tuple[Tensor, State]:
        spikes, v = lif_scan(self._dynamics, currents, state[0], through_time=through_time)
        return spikes, (v,)

    def scan_sloped(self, currents: Tensor, state: State | None) -> Sloped:
        spikes, v, slopes, fired = lif_scan_sloped(self._dynamics, currents, None if state is None else state[0])
        return Sloped(spikes, (v,), slopes, fired)

    @property
    def _dynamics(self) -> Dynamics:
        return Dynamics(self.leak, self.threshold, self.surrogate, self.reset, self.detach_reset)
