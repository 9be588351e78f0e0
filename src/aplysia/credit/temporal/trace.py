"""Eligibility traces: online training through time (OTTT).

    a_l[t] = λ·a_l[t−1] + s_l[t]                      trace of each presynaptic input
    ΔW_l  ∝ Σ_t δ_l[t] ⊗ a_{l−1}[t]                   δ_l[t] = ψ(u_l[t]) ∘ (error at step t), nothing runs back in time

λ is the leak of the neuron *behind* the synapse, since that is how long an input acts on its membrane; in front of a readout
without memory the trace is the input itself. The pre-activity of a bias is 1, as in the authors' code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal, Apply, Record
from aplysia.credit.temporal._windows import learn_in_windows
from aplysia.errors import PairError, RecipeError
from aplysia.nets.net import Input, Net
from aplysia.nets.route import AbstractEligibility, Carry, Route
from aplysia.ops.scan import decaying_trace
from aplysia.types import Paper

# Steps run at once when nothing is said: enough for large products, few enough to keep memory flat in T.
_CHUNK = 8


@dataclass(frozen=True)
class DecayingTrace(AbstractEligibility):
    """a[t] = λ·a[t−1] + x[t]."""

    def trace(self, drive: Tensor, decay: float, carry: Carry) -> tuple[Tensor | None, Carry]:
        return (None, None) if decay == 0.0 else decaying_trace(drive, carry, decay)

    def held(self, steps: int, decay: float, carry: Carry) -> tuple[list[float], Carry]:
        coefficients, last = [], carry or 0.0
        for _ in range(steps):
            last = decay * last + 1.0
            coefficients.append(last)
        return coefficients, last


class AbstractUpdate(ABC):
    """When weights change."""

    inside: ClassVar[bool]

    @abstractmethod
    def window(self, chunk: int) -> int:
        """Steps between two backward passes."""


@dataclass(frozen=True)
class AfterSequence(AbstractUpdate):
    """Gradients add up over T steps, then the optimiser steps once (OTTT_A)."""

    inside: ClassVar[bool] = False

    def window(self, chunk: int) -> int:
        return chunk


@dataclass(frozen=True)
class EveryStep(AbstractUpdate):
    """The optimiser steps at every time step (OTTT_O)."""

    inside: ClassVar[bool] = True

    def window(self, chunk: int) -> int:
        return 1


def check_online(name: str, loss: AbstractLoss) -> None:
    """Online schemes need the error of a step at that step."""
    if not loss.per_step:
        raise PairError(
            f"temporal {name}",
            expected="a loss that is a sum over steps, since an online scheme needs each step's error at that step",
            got=f"{type(loss).__name__}, known only at the end of the sequence",
            fix="set loss=stepwise, or temporal=through_time",
        )


def check_chunk(chunk: int | None) -> None:
    """Refuse a chunk without steps."""
    if chunk is not None and chunk < 1:
        raise RecipeError(
            "temporal.chunk", expected="at least 1, or none", got=repr(chunk), fix=f"use none for {_CHUNK}"
        )


def online_learn(
    net: Net,
    x: Input,
    target: Tensor,
    loss: AbstractLoss,
    spatial: AbstractSpatial,
    eligibility: AbstractEligibility,
    update: AbstractUpdate,
    *,
    chunk: int | None,
    generator: torch.Generator | None,
    apply: Apply | None,
) -> Record:
    """The online loop: no gradient passes from step to step through a state."""
    if update.inside and apply is None:
        raise PairError(
            "temporal update",
            expected="a way to apply gradients inside the sequence",
            got="none",
            fix="pass apply=, which steps the optimiser and clears the gradients, or use update=after_sequence",
        )
    route = Route(
        feedback=spatial.slot, cut=spatial.cuts, eligibility=eligibility, through_time=False, generator=generator
    )
    window = update.window(chunk or _CHUNK)
    return learn_in_windows(
        net, x, target, loss, spatial, route, window=window, chunk=window, apply=apply if update.inside else None
    )


@dataclass(frozen=True, kw_only=True)
class Trace(AbstractTemporal):
    """Eligibility traces; memory does not grow with T.

    All layers are traced, the first one's input too, as the derivation has it; the authors' code leaves the first layer's
    input untraced.

    Attributes:
        update: when weights change.
        chunk: K, steps run at once; None: 8. No number depends on it, memory does.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Xiao, Meng, Zhang, He, Lin",
        title="Online training through time for spiking neural networks",
        year=2022,
        venue="NeurIPS",
        url="https://arxiv.org/abs/2210.04195",
    )
    summary: ClassVar[str] = "eligibility traces (OTTT), weights updated after T steps or at every step"

    update: AbstractUpdate = field(default_factory=AfterSequence)
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_chunk(self.chunk)

    @property
    def updates_inside(self) -> bool:
        return self.update.inside

    def check(self, net: Net, loss: AbstractLoss, spatial: AbstractSpatial) -> None:
        check_online("Trace", loss)

    def learn(
        self,
        net: Net,
        x: Input,
        target: Tensor,
        loss: AbstractLoss,
        spatial: AbstractSpatial,
        *,
        generator: torch.Generator | None = None,
        apply: Apply | None = None,
    ) -> Record:
        return online_learn(
            net,
            x,
            target,
            loss,
            spatial,
            DecayingTrace(),
            self.update,
            chunk=self.chunk,
            generator=generator,
            apply=apply,
        )
