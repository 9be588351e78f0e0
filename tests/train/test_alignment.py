"""A measurement of alignment teaches nothing: rule, gradients, generators and the run are as they would be without it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers import DENSE, RULES, assert_alive, equal, remembered

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.learned_feedback import EveryStep as AllSteps
from aplysia.credit.learned_feedback import MomentumFeedback
from aplysia.credit.local import Learnt, Readouts
from aplysia.credit.temporal.online import EveryStep
from aplysia.credit.temporal.trace import Trace
from aplysia.nets.noise import Noise
from aplysia.train.alignment import measure
from aplysia.train.learner import Learner

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "opzo, classifier, readouts": (
        "PseudoZerothOrder",
        {"intermediate": ("dense1",), "local": Readouts(back=Learnt(), decay=0.1)},
    ),
    "opzo, every step": ("PseudoZerothOrder", {"feedback": MomentumFeedback(update=AllSteps())}),
    "zo": ("ZerothOrder-RunningBaseline", {}),
    "forward gradient": ("ForwardGradient", {}),
    "dkp, noise": ("DirectKolenPollack", {"noise": Noise()}),
    "local": ("LocalLoss", {}),
    "bp, noise, readouts": ("Symmetric", {"noise": Noise(), "local": Readouts()}),
}
X, TARGET = DENSE.input(steps=5, seed=9)


def learner(setting: str, scheme: Trace) -> Learner:
    name, settings = SETTINGS[setting]
    net = DENSE.net()
    assert_alive(net, X)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    return Learner(net, rule=RULES[name](**settings), temporal=scheme, optimiser=optimiser)


def state(rule: AbstractSpatial) -> dict[str, Any]:
    """All that a rule holds but its tensors: settings, counters, the errors it has made."""
    return {name: value for name, value in vars(rule).items() if name != "tensors"}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


@pytest.mark.parametrize("setting", list(SETTINGS))
def test_a_look_leaves_everything_as_it_was(setting: str) -> None:
    """In the worst moment: gradients are filled, and the optimiser has not stepped."""
    one = learner(setting, Trace())
    for seed in range(3):
        one.update(*DENSE.input(steps=5, seed=seed))
    one.learn(*DENSE.input(steps=5, seed=3))
    rule, everything = one.rule, [*one.net.parameters(), *one.rule.parameters()]
    assert all(p.grad is not None for p in everything)
    before = remembered(rule), [p.grad.clone() for p in everything], copy.deepcopy(state(rule))  # type: ignore[union-attr]
    held = [p.grad for p in everything], torch.get_rng_state(), (one.steps, one.cost)
    first = measure(one, X, TARGET)
    assert all(same(tensor, before[0][name]) for name, tensor in rule.tensors.items())
    assert all(torch.equal(p.grad, g) for p, g in zip(everything, before[1], strict=True))  # type: ignore[arg-type]
    assert all(p.grad is g for p, g in zip(everything, held[0], strict=True))
    assert same(state(rule), before[2])
    assert torch.equal(torch.get_rng_state(), held[1])
    assert (one.steps, one.cost) == held[2]
    assert measure(one, X, TARGET) == first
    assert all("gradient_cosine" in first[layer.name] for layer in one.net.all)


@pytest.mark.parametrize("setting", list(SETTINGS))
@pytest.mark.parametrize("scheme", [Trace(), Trace(update=EveryStep())], ids=["after the sequence", "every step"])
def test_a_watched_run_is_the_same_run(setting: str, scheme: Trace) -> None:
    watched, alone = learner(setting, scheme), learner(setting, scheme)
    watched.before_upkeep = lambda: looks.append(measure(watched, X, TARGET))
    looks: list[Any] = []
    for seed in range(3):
        x, target = DENSE.input(steps=5, seed=seed)
        watched.update(x, target)
        alone.update(x, target)
    assert looks
    assert watched.cost == alone.cost
    for a, b in zip(watched.net.parameters(), alone.net.parameters(), strict=True):
        assert torch.equal(a, b)
    for name, tensor in watched.rule.tensors.items():
        assert equal(tensor, alone.rule.tensors[name])
