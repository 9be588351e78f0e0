"""Eligibility traces: online training through time (OTTT).

    a_l[t] = λ·a_l[t−1] + s_l[t]                      trace of each presynaptic input
    ΔW_l  ∝ Σ_t δ_l[t] ⊗ a_{l−1}[t]                   δ_l[t] = ψ(u_l[t]) ∘ (error at step t), nothing runs back in time

λ is the leak of the neuron *behind* the synapse, since that is how long an input acts on its membrane; in front of a readout
without memory the trace is the input itself. The pre-activity of a bias is 1, as in the authors' code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.temporal.online import AbstractOnline
from aplysia.nets.route import AbstractEligibility, Carry
from aplysia.ops.geometry import AbstractGeometry
from aplysia.ops.scan import backward_trace, decaying_trace, last_trace
from aplysia.ops.synapse import Outer
from aplysia.types import Paper

# Steps of a chunk from which on the memory may sit on the errors' side where there is a past.
_WORTH = 4


@dataclass(frozen=True)
class DecayingTrace(AbstractEligibility):
    """a[t] = λ·a[t−1] + x[t]."""

    remembers: ClassVar[bool] = True

    def same_step(self, decay: float) -> bool:
        return decay == 0.0

    def trace(self, drive: Tensor, decay: float, carry: Carry) -> tuple[Tensor | None, Carry]:
        return (None, None) if decay == 0.0 else decaying_trace(drive, carry, decay)

    def on_errors(self, steps: int, decay: float, carry: Carry, geometry: AbstractGeometry) -> Outer | None:
        """With a[−1] from the chunk before, d[t] = δ[t] + λ·d[t+1], and d[K] = 0,

        Σ_t δ[t] ⊗ a[t] = Σ_t d[t] ⊗ x[t] + λ·d[0] ⊗ a[−1]
        """
        # The second sum is over one step of what is full of past activity: of a few steps it is too large a part.
        if decay == 0.0 or (steps < _WORTH and carry is not None):
            return None

        if carry is None:
            return partial(geometry.outer_of_traces, steps=steps, decay=decay)

        def outer(delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
            summed = backward_trace(delta.unflatten(0, (steps, -1)), decay)
            update = geometry.outer(summed.flatten(0, 1), pre, weight_shape)
            return update.add_(geometry.outer(decay * summed[0], carry, weight_shape))

        return outer

    def carried(self, drive: Tensor, decay: float, carry: Carry) -> Carry:
        return last_trace(drive, carry, decay)

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
