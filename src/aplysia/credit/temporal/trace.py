"""Eligibility traces: online training through time (OTTT).

    a_l[t] = λ·a_l[t−1] + s_l[t]                      trace of each presynaptic input
    ΔW_l  ∝ Σ_t δ_l[t] ⊗ a_{l−1}[t]                   δ_l[t] = ψ(u_l[t]) ∘ (error at step t), nothing runs back in time

λ is the leak of the neuron *behind* the synapse, since that is how long an input acts on its membrane; in front of a readout
without memory the trace is the input itself. The pre-activity of a bias is 1, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aplysia.credit.temporal.online import AbstractOnline
from aplysia.nets.route import AbstractEligibility, Carry
from aplysia.ops.scan import decaying_trace
from aplysia.types import Paper


@dataclass(frozen=True)
class DecayingTrace(AbstractEligibility):
    """a[t] = λ·a[t−1] + x[t]."""

    remembers: ClassVar[bool] = True

    def trace(self, drive: Tensor, decay: float, carry: Carry) -> tuple[Tensor | None, Carry]:
        return (None, None) if decay == 0.0 else decaying_trace(drive, carry, decay)

    def held(self, steps: int, decay: float, carry: Carry) -> tuple[list[float], Carry]:
        coefficients, last = [], carry or 0.0
        for _ in range(steps):
            last = decay * last + 1.0
            coefficients.append(last)
        return coefficients, last


@dataclass(frozen=True, kw_only=True)
class Trace(AbstractOnline):
    """Eligibility traces; memory does not grow with T.

    All layers are traced, the first one's input too, as the derivation has it; the authors' code leaves the first layer's
    input untraced.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Xiao, Meng, Zhang, He, Lin",
        title="Online training through time for spiking neural networks",
        year=2022,
        venue="NeurIPS",
        url="https://arxiv.org/abs/2210.04195",
    )
    summary: ClassVar[str] = "eligibility traces (OTTT), weights updated after T steps or at every step"

    @property
    def eligibility(self) -> AbstractEligibility:
        return DecayingTrace()
