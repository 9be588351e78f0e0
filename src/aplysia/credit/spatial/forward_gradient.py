"""Forward gradient: feedback learnt from exact directional derivatives instead of from noise; the bound of what noise gives.

    ȧ_1 = z_1       ȧ_l = ψ_l ∘ (W_l·ȧ_{l−1}) + z_l       ȯ = W_o·ȧ_L       forward, step by step, beside the clean pass
    M_l ← λ·M_l + (1 − λ)·ȯ·z_lᵀ                             g_l[t] = M_lᵀ·e[t]

ȯ is the change of the output along z by the surrogate derivatives ψ, so M holds the same Jacobian as with pseudo-zeroth order,
without the baseline o·zᵀ/α, without a disturbed forward pass, and for the surrogate instead of the smoothed spike. With λ = 0
it is the forward gradient itself, one direction a step. Derivatives run through the layers of a step, not from step to step,
which is what a noise that is drawn anew shows on average too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.credit.contract import AbstractSeeded, Seen
from aplysia.credit.learned_feedback import Late, MomentumFeedback
from aplysia.errors import PairError
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.ledger.reach import connections
from aplysia.ledger.sheet import Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.noise import AbstractLaw, Gaussian, Noise, NoiseSource
from aplysia.nets.pool import MaxPool
from aplysia.neurons.base import AbstractStepped
from aplysia.ops.geometry import Dense, features
from aplysia.types import Claim, Cost, Paper, Tunable


@dataclass(kw_only=True)
class ForwardGradient(AbstractSeeded):
    """Feedback learnt from directional derivatives by momentum.

    Attributes:
        law: of the directions z.
        feedback: how M is kept and learnt.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Bacho, Chu; with momentum an earlier form of Xiao et al. (2024)",
        title="Low-variance forward gradients using direct feedback alignment and momentum",
        year=2022,
        venue="arXiv 2212.07249",
        url="https://arxiv.org/abs/2212.07249",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.UNLOCKED, Claim.RESPONSE})
    summary: ClassVar[str] = "feedback learnt from exact directional derivatives by momentum (noise-free bound)"
    tunable: ClassVar[Tunable] = {"feedback.momentum": (0.9, 0.999, False)}

    law: AbstractLaw = field(default_factory=Gaussian)
    feedback: MomentumFeedback = field(default_factory=MomentumFeedback)

    _errors: dict[str, Late] = field(init=False, repr=False, compare=False, default_factory=dict)
    _written: int = field(init=False, repr=False, compare=False, default=0)

    def check_net(self, net: Net) -> None:
        if not all(isinstance(layer.neuron, AbstractStepped) for layer in net.all):
            raise PairError(
                "rule ForwardGradient",
                expected="stepped neurons, whose surrogate derivative a tangent runs through",
                got=f"{type(net.all[0].neuron).__name__}, a {net.kind} neuron",
                fix="set neuron=lif, or rule=symmetric",
            )

    @property
    def slopes(self) -> bool:
        return True

    def start(self, net: Net) -> dict[str, Tensor]:
        return self.feedback.tensors(net, net.classes, self.seed)

    def observe(self, net: Net, seen: Seen) -> None:
        law = Noise(alpha=1.0, law=self.law, antithetic=False)
        source = NoiseSource(law, self.seed, self.step, self.purpose("directions"))
        learns, directions, answers = self.feedback.learns(self.step), [], []
        if learns:
            for layer, out in zip(net.hidden, seen.outs[:-1], strict=True):
                directions.append(source.draw(layer.name, seen.start, len(out), out[0].detach()))
            change = self.response(net, seen, directions)
            answers = [change] * len(net.hidden)
            self._drawn += sum(z.numel() for z in directions)
            self._written += self.feedback.written(
                self.tensors, net.hidden, step=self.step, chunk=len(change), last=seen.last
            )
        self._errors = self.feedback.run_late(
            self.tensors,
            net.hidden,
            directions,
            answers,
            [seen.error] * len(net.hidden),
            step=self.step,
            steps=seen.steps,
            first=seen.start == 0,
        )

    def response(self, net: Net, seen: Seen, directions: list[Tensor]) -> Tensor:
        """The change of the output along the directions, `[K, B, m]`: a forward pass, and all the rule sees of weights."""
        places = {layer.name: place for place, layer in enumerate(net.all)}
        # Of each layer's output, and of its currents; nothing is disturbed in front of the first layer's neurons.
        sent: list[Tensor] = [directions[0]]
        currents: list[Tensor | None] = [None]
        for place, layer in enumerate(net.all[1:], start=1):
            current = _through(layer, seen.sent(net, place - 1), sent[-1])
            shortcut = layer.shortcut
            if shortcut is not None:
                source = places[shortcut.source]
                if shortcut.projection is None:
                    brought = currents[source]
                else:
                    brought = _through(shortcut.projection, seen.sent(net, source), sent[source])
                current = current if brought is None else current + brought
            currents.append(current)
            slope = seen.done.states[place].slope
            assert slope is not None, "asked for above"
            tangent = (current if shortcut is None else current / shortcut.beta) * slope
            sent.append(tangent if layer is net.readout else tangent + directions[place])
        return sent[-1]

    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        found = self._errors.pop(layer.name)()
        return None if found is None else found.to(out.dtype)

    def delta(self, layer: Layer, out: Tensor, error: Tensor, slope: Tensor) -> Tensor | None:
        return self._errors.pop(layer.name)(slope)

    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        cost = Cost(writes=self._written)
        self._written = 0
        return cost

    def learning(self, net: Net, step: int) -> list[Layer]:
        return net.synapses if self.feedback.start.ready(step) else [*self.local.served(net), net.readout]

    def errors(self, sheet: Sheet) -> list[Charge]:
        """The tangent is a second forward pass, of real numbers."""
        made = self.feedback.errors(sheet, directions=sheet.slots)
        if self.feedback.learns(sheet.step):
            for layer in sheet.net.fed_back:
                products = sheet.slots * connections(layer)
                amount = Amount(dense=products, macs=products, forward_reads=products)
                made.append(Charge(layer.name, Phase.ERROR, amount))
            made += [sheet.drawn(layer, sheet.activity.steps) for layer in sheet.net.hidden]
        return made

    def memory_words(self, net: Net) -> int:
        """Numbers that have to be remembered beside the forward weights."""
        return self.feedback.memory_words(self.tensors)


def _through(layer: Layer, below: Tensor, tangent: Tensor) -> Tensor:
    """A tangent `[K, B, …]` through a layer's pools and weights, where `below` is what it runs beside."""
    drive = _prepared(layer, below.flatten(0, 1), tangent.flatten(0, 1))
    current = layer.thinned(layer.geometry.forward(drive, layer.effective_weight()))
    return current.unflatten(0, tangent.shape[:2])


def _prepared(layer: Layer, below: Tensor, tangent: Tensor) -> Tensor:
    """A tangent through the layer's pools; a maximum passes that of the winner."""
    for pool in layer.pools:
        if isinstance(pool, MaxPool):
            pooled, winner = F.max_pool2d(below, pool.size, return_indices=True)
            tangent = tangent.flatten(2).gather(2, winner.flatten(2)).view_as(pooled)
        else:
            tangent = pool(tangent)
        below = pool(below)
    return features(tangent) if isinstance(layer.geometry, Dense) else tangent
