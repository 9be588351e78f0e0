"""Spike-time credit: one pass, no time loop, since a first-spike net has its spike times in closed form.

    g_i = γ_i·e_i/(κ + S_i)              gate and gain are the forward neuron's own
    ΔW_ij ∝ g_i·(x_j + τ_i·m_j)          local: the timing of the two spikes
    e_j = Σ_i B_ij·g_i                   B in the error slot

for the windowed neuron, in earliness x (see `aplysia.neurons.windowed`). The spatial rule fills the error slot as everywhere.

That only the weight in ∂t_i/∂t_j is replaced by B, and the gain stays the forward neuron's, is our reading; it is the only one
in which the local part of the gradient is exact.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal, Apply, Record, Seen
from aplysia.errors import PairError, RecipeError
from aplysia.ledger.sheet import Habits
from aplysia.nets.layer import Layer
from aplysia.nets.net import Input, Net
from aplysia.nets.route import Route
from aplysia.neurons.base import AbstractFirstSpike
from aplysia.ops.first_spike import check_earliness
from aplysia.ranks import present
from aplysia.types import Held, Paper


class AbstractRevival(ABC):
    """What is done for units that fired for no sample of a batch, and so get no gradient. Acts on the layer's own weights."""

    @abstractmethod
    def push(self, layer: Layer, silent: Tensor) -> None:
        """Change `layer.weight.grad`, given which output units (channels) were silent throughout, bool `[N]`."""


@dataclass(frozen=True, kw_only=True)
class Push(AbstractRevival):
    """A constant push on all incoming weights: gradient −p for each unit that stayed silent (after Comşa et al. 2020).

    Attributes:
        strength: p > 0, in units of the gradient. Under Adam a small one is enough.
    """

    strength: float = 1e-3

    def __post_init__(self) -> None:
        if not (self.strength > 0.0 and math.isfinite(self.strength)):
            raise RecipeError(
                "temporal.revive.strength", expected="a number > 0", got=repr(self.strength), fix="use 0.001"
            )

    def push(self, layer: Layer, silent: Tensor) -> None:
        if layer.weight.grad is not None:
            layer.weight.grad.flatten(1).sub_(silent.to(layer.weight.dtype)[:, None], alpha=self.strength)


@dataclass(frozen=True, kw_only=True)
class SpikeTime(AbstractTemporal):
    """Exact derivatives of spike times; every spatial rule goes with it.

    Attributes:
        revive: a push for silent units; none: they are left alone, as in the papers.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Wei, Zhang, Qu, Belatreche, Zhang, Chen",
        title="Temporal-coded spiking neural networks with dynamic firing threshold: learning with event-driven "
        "backpropagation",
        year=2023,
        venue="ICCV",
    )
    summary: ClassVar[str] = "derivatives of spike times, one pass (first-spike neurons)"
    accepts: ClassVar[str] = AbstractFirstSpike.kind

    revive: AbstractRevival | None = None

    @property
    def updates_inside(self) -> bool:
        return False

    def habits(self, steps: int, width: int = 1) -> Habits:
        return Habits(windows=1, traced=False)

    def check(self, net: Net, loss: AbstractLoss, spatial: AbstractSpatial) -> None:
        pass

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
        first = net.all[0].neuron
        if isinstance(x, Held) or len(x) != 1 or not isinstance(first, AbstractFirstSpike):
            raise PairError(
                "temporal SpikeTime",
                expected="one window of earliness, [1, B, …], for first-spike neurons",
                got="a held current" if isinstance(x, Held) else f"{len(x)} steps for {type(first).__name__}",
                fix="encode by encoder=first_spike with steps=1",
            )
        check_earliness(x, first.input_window, "input of a first-spike net")
        done = net(x, None, Route(feedback=spatial.slot, cut=spatial.cuts))
        out = done.outs[-1].detach()
        value, error = loss.error(out, target, 1)
        tensors, seeds = spatial.planted(net, Seen(done, error, target, loss, 1))
        torch.autograd.backward(tensors, seeds)
        if self.revive is not None:
            for layer, signal in zip(net.all, done.outs, strict=True):
                if layer.neuron.spiking:
                    silent = signal.detach()[0].flatten(2).amax(2) if signal.ndim > 3 else signal.detach()[0]
                    self.revive.push(layer, present().silent_everywhere(silent.amax(0) == 0.0))
        slots = [len(target) * layer.units for layer in net.all]
        return Record(out[0], value, done.spikes, slots, done.saturated)
