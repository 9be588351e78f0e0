"""Rules that learn from the net's response: those that read weights on the side must be seen, those that do not must pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from claims import MEASURES, no_transport
from helpers import RULES

from aplysia.credit.contract import AbstractSeeded, AbstractSpatial, Seen
from aplysia.credit.learned_feedback import EveryStep, MomentumFeedback, Pooled
from aplysia.credit.local import Learnt, Readouts, Similarity
from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.noise import Comparator, Membrane, Noise
from aplysia.types import Claim, Cost, Paper


@dataclass(kw_only=True)
class _Responder(AbstractSeeded):
    """Learns M as pseudo-zeroth order does, every step, and states what that states."""

    paper: ClassVar[Paper] = FeedbackAlignment.paper
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.UNLOCKED, Claim.RESPONSE})
    summary: ClassVar[str] = "a rule that does or does not do what it states"

    noise: Noise = field(default_factory=Noise)
    feedback: MomentumFeedback = field(default_factory=lambda: MomentumFeedback(momentum=0.8, update=EveryStep()))
    sent: dict[str, Any] = field(init=False, repr=False, compare=False, default_factory=dict)

    def start(self, net: Net) -> dict[str, torch.Tensor]:
        return self.feedback.tensors(net, net.classes, self.seed)

    def observe(self, net: Net, seen: Seen) -> None:
        many = len(net.hidden)
        answers, errors = [seen.outs[-1].detach()] * many, [seen.error] * many
        at = {"step": self.step, "steps": seen.steps, "first": seen.start == 0}
        self.sent = self.feedback.run(self.tensors, net.hidden, seen.done.noise, answers, errors, **at)

    def seed_error(self, layer: Layer, out: torch.Tensor, error: torch.Tensor) -> torch.Tensor | None:
        return self.sent[layer.name]


@dataclass(kw_only=True)
class AddsTheWeights(_Responder):
    """Mixes the readout's weights into the error of the layer below it."""

    def observe(self, net: Net, seen: Seen) -> None:
        super().observe(net, seen)
        last = net.hidden[-1].name
        self.sent[last] = self.sent[last] + 1e-3 * (seen.error @ net.readout.weight.detach())


@dataclass(kw_only=True)
class MovesTowardsTheWeights(_Responder):
    """Clean errors; what it learns beside its samples is the size of a weight above."""

    def observe(self, net: Net, seen: Seen) -> None:
        super().observe(net, seen)
        self.tensors[net.hidden[0].name].mul_(1.0 + 1e-3 * net.readout.weight.detach().norm())


@dataclass(kw_only=True)
class LooksBeforehand(_Responder):
    """Reads the weights when a batch begins, before any pass."""

    net: list[Net] = field(init=False, repr=False, compare=False, default_factory=list)

    def check_net(self, net: Net) -> None:
        self.net = [net]

    def begin(self, step: int) -> None:
        super().begin(step)
        self.tensors[self.net[0].hidden[0].name].mul_(1.0 + 1e-3 * self.net[0].readout.weight.detach().norm())


@dataclass(kw_only=True)
class WritesAfterwards(_Responder):
    """Reads the weights once the optimiser has stepped."""

    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        self.tensors[net.hidden[0].name].mul_(1.0 + 1e-3 * net.readout.weight.detach().norm())
        return Cost()


@dataclass(kw_only=True)
class BorrowsBelow(_Responder):
    """The error of a layer needs the feedback of the layer above it, as in a chain."""

    def seed_error(self, layer: Layer, out: torch.Tensor, error: torch.Tensor) -> torch.Tensor | None:
        return self.sent[layer.name] * sum(self.tensors[name].norm() for name in self.sent)


def test_a_clean_responder_keeps_its_word() -> None:
    """Though M changes at every step, and with it the error of the same batch."""
    for claim, measure in MEASURES.items():
        assert measure(_Responder) == (claim in _Responder.claims), claim


RESPONDERS = [AddsTheWeights, MovesTowardsTheWeights, LooksBeforehand, WritesAfterwards]


@pytest.mark.parametrize("liar", RESPONDERS)
def test_weights_in_a_learnt_feedback_are_seen(liar: type[_Responder]) -> None:
    assert not no_transport(liar)


@pytest.mark.parametrize("liar", [AddsTheWeights, LooksBeforehand])
def test_weights_beside_a_response_are_seen(liar: type[_Responder]) -> None:
    assert not MEASURES[Claim.RESPONSE](liar)


def test_a_feedback_that_needs_those_of_other_layers_is_locked() -> None:
    assert not MEASURES[Claim.UNLOCKED](BorrowsBelow)


@dataclass(kw_only=True)
class _Trained(AbstractSeeded):
    """Direct feedback that an optimiser trains, and states what direct Kolen-Pollack states."""

    paper: ClassVar[Paper] = FeedbackAlignment.paper
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.UNLOCKED})
    summary: ClassVar[str] = "a rule that does or does not do what it states"

    def start(self, net: Net) -> dict[str, torch.Tensor]:
        return {layer.name: torch.full((net.classes, layer.units), 0.3).double() for layer in net.hidden}

    def trained(self, net: Net) -> list[str]:
        return [layer.name for layer in net.hidden]

    def observe(self, net: Net, seen: Seen) -> None:
        for layer in net.hidden:
            self.tensors[layer.name].grad = torch.zeros_like(self.tensors[layer.name])

    def seed_error(self, layer: Layer, out: torch.Tensor, error: torch.Tensor) -> torch.Tensor | None:
        return (error.flatten(0, 1) @ self.tensors[layer.name].detach()).view_as(out)


@dataclass(kw_only=True)
class PullsToTheWeights(_Trained):
    """The 'gradient' of its feedback is its distance from the readout's weights: a copy through the optimiser."""

    def observe(self, net: Net, seen: Seen) -> None:
        super().observe(net, seen)
        last = self.tensors[net.hidden[-1].name]
        last.grad = last.detach() - net.readout.weight.detach()


def test_a_copy_through_the_optimiser_is_seen() -> None:
    assert no_transport(_Trained)
    assert not no_transport(PullsToTheWeights)


ALL_STEPS = MomentumFeedback(momentum=0.8, update=EveryStep())
SETTINGS: dict[str, Callable[[], AbstractSpatial]] = {
    "opzo, every step, comparator": lambda: RULES["PseudoZerothOrder"](
        feedback=ALL_STEPS, noise=Noise(alpha=0.4, site=Comparator())
    ),
    "opzo, pooled": lambda: RULES["PseudoZerothOrder"](feedback=MomentumFeedback(form=Pooled()), scaled=False),
    "forward, every step": lambda: RULES["ForwardGradient"](feedback=ALL_STEPS),
    "direct, readouts, membrane": lambda: RULES["DirectFeedback"](
        local=Readouts(back=Learnt(), decay=0.1), noise=Noise(alpha=0.4, site=Membrane())
    ),
    "direct, similarity, noise": lambda: RULES["DirectFeedback"](local=Similarity(), noise=Noise()),
    "alignment, noise": lambda: RULES["FeedbackAlignment"](noise=Noise()),
}


@pytest.mark.parametrize("setting", list(SETTINGS))
def test_no_setting_lets_weights_across(setting: str) -> None:
    """(Local errors beside a chained rule are passed down with the activity above in them, which this measure cannot part.)"""
    assert no_transport(SETTINGS[setting])


@pytest.mark.parametrize("laid", [{"noise": Noise(alpha=0.4)}, {"local": Readouts()}], ids=["noise", "local errors"])
def test_what_is_laid_beside_a_rule_hides_no_transport(laid: dict[str, Any]) -> None:
    assert not no_transport(lambda: RULES["Symmetric"](**laid))
    assert not no_transport(lambda: RULES["SignSymmetric-UniformMagnitude"](**laid))
