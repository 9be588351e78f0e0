"""Frozen backpropagation as a rule: its limits are other rules, bit for bit; a view would be seen; a kill changes nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from helpers import CASES, DENSE, SCHEMES, Case, assert_alive, oracle_learn, oracle_of, parameters
from helpers import Trainer as OracleTrainer
from oracles import SGD
from torch import Tensor

from aplysia.credit.change import Absolute, AcrossLayers
from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.interval import Budget, Drift, InverseRate, PerLayer, Staggered
from aplysia.credit.link import Link
from aplysia.credit.spatial.copy_once import CopyOnce
from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.credit.spatial.frozen import FrozenBackprop, RandomInitialFeedback
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.transport import Cyclic, LargestChange, Random, Threshold
from aplysia.nets.net import Net
from aplysia.recipes.digits import digits_mlp
from aplysia.train.codec import decode, encode, override
from aplysia.train.learner import Learner
from aplysia.train.recipe import AXES, Recipe
from aplysia.types import Cost

NETS = {
    "dense": "dense, soft, detached",
    "dense, standardised": "dense, standardised, soft, attached, held",
    "conv": "conv, soft, attached, average and max pool, groups, stride",
    "conv, standardised": "conv, standardised, hard, detached, held",
}
each_net = pytest.mark.parametrize("case", [CASES[key] for key in NETS.values()], ids=list(NETS))
each_time = pytest.mark.parametrize("scheme_name", ["Trace-AfterSequence", "Trace-EveryStep", "ThroughTime"])


def trained(
    rule: AbstractSpatial, case: Case = DENSE, scheme_name: str = "ThroughTime", batches: int = 5
) -> tuple[Net, Learner, list[dict[str, Tensor]]]:
    """A net trained by momentum SGD, the learner, and the weights after every batch."""
    net = case.net()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    learner = Learner(net, rule=rule, optimiser=optimiser, temporal=SCHEMES[scheme_name](), seed=7)
    film = []
    for batch in range(batches):
        x, target = case.input(steps=4, batch=8, seed=batch)
        assert_alive(net, x)
        learner.update(x, target)
        film.append(parameters(net))
    return net, learner, film


def same(a: list[dict[str, Tensor]], b: list[dict[str, Tensor]]) -> bool:
    return all(torch.equal(p[name], q[name]) for p, q in zip(a, b, strict=True) for name in p)


# --- limits ----------------------------------------------------------------------------------------------------------


@each_net
@each_time
def test_a_copy_after_every_step_is_backpropagation_bit_for_bit(case: Case, scheme_name: str) -> None:
    _, learner, film = trained(FrozenBackprop(interval=1), case, scheme_name)
    _, reference, want = trained(Symmetric(), case, scheme_name)
    assert same(film, want)
    assert learner.cost == reference.cost
    rare = trained(FrozenBackprop(interval=3), case, scheme_name)[2]
    assert not same(film, rare)


@each_net
@each_time
def test_no_copies_at_all_are_copy_once_bit_for_bit(case: Case, scheme_name: str) -> None:
    _, learner, film = trained(FrozenBackprop(interval=None), case, scheme_name)
    assert same(film, trained(CopyOnce(), case, scheme_name)[2])
    assert learner.cost == Cost()


@each_net
@each_time
def test_no_copies_from_a_random_start_are_feedback_alignment_bit_for_bit(case: Case, scheme_name: str) -> None:
    rule = FrozenBackprop(interval=None, initial=RandomInitialFeedback())
    assert same(trained(rule, case, scheme_name)[2], trained(FeedbackAlignment(), case, scheme_name)[2])


@pytest.mark.parametrize("scheme", [Random, Cyclic, LargestChange], ids=lambda s: s.__name__)
def test_a_fraction_of_one_is_the_whole(scheme: type) -> None:
    assert same(
        trained(FrozenBackprop(interval=2, transport=scheme(fraction=1.0)))[2], trained(FrozenBackprop(interval=2))[2]
    )


def test_a_threshold_of_zero_is_the_whole() -> None:
    rule = FrozenBackprop(interval=2, transport=Threshold(level=Absolute(threshold=0.0)))
    assert same(trained(rule)[2], trained(FrozenBackprop(interval=2))[2])


# --- a copy and not a view -------------------------------------------------------------------------------------------


@each_net
def test_feedback_is_the_effective_weight_of_the_last_copy(case: Case) -> None:
    """After every step: B equals the weight of the last multiple of Φ, and differs from the present one in between."""
    net, rule = case.net(), FrozenBackprop(interval=3)
    learner = Learner(
        net, rule=rule, optimiser=torch.optim.SGD(net.parameters(), lr=0.02), temporal=SCHEMES["ThroughTime"]()
    )
    copied = {layer.name: layer.effective_weight().detach().clone() for layer in net.fed_back}
    assert set(copied) == {name for name in rule.tensors if "/" not in name}
    assert net.all[0].name not in rule.tensors
    for step in range(1, 8):
        x, target = case.input(steps=4, seed=step)
        assert_alive(net, x)
        learner.update(x, target)
        for layer in net.fed_back:
            now = layer.effective_weight().detach()
            if step % 3 == 0:
                copied[layer.name] = now.clone()
            assert torch.equal(rule.tensors[layer.name], copied[layer.name])
            assert torch.equal(rule.tensors[layer.name], now) == (step % 3 == 0)


def test_feedback_follows_nothing_but_copies() -> None:
    net, rule = DENSE.net(), FrozenBackprop(interval=1)
    rule.attach(net, seed=0)
    rule.after(net, torch.optim.SGD(net.parameters(), lr=0.1), 0)
    held = rule.tensors["readout"].clone()
    with torch.no_grad():
        net.readout.weight.add_(1.0)
    assert torch.equal(rule.tensors["readout"], held)


# --- a run that is stopped goes on bit for bit --------------------------------------------------------------------------


STATES: dict[str, dict[str, Any]] = {
    "random": {"transport": Random(fraction=0.13)},
    "cyclic": {"transport": Cyclic(fraction=0.13)},
    "threshold": {"transport": Threshold()},
    "largest change": {"transport": LargestChange(fraction=0.13)},
    "largest change across layers": {"transport": LargestChange(fraction=0.13, pool=AcrossLayers())},
    "staggered": {"interval": 3, "schedule": Staggered()},
    "per layer": {"schedule": PerLayer(intervals=(2, 3))},
    "inverse rate": {"interval": 2, "schedule": InverseRate()},
    "drift": {"schedule": Drift(bound=0.02)},
    "budget": {"transport": Cyclic(), "schedule": Budget(words=13.7)},
    "budget, whole": {"schedule": Budget(words=50.0)},
    "loss": {"transport": LargestChange(fraction=0.2), "link": Link(drop=0.3)},
    "late": {"transport": Cyclic(fraction=0.2), "link": Link(latency=3)},
    "late, coarse and lost": {"transport": Threshold(), "link": Link(drop=0.2, latency=2, bits=3)},
    "random start": {"interval": 2, "transport": Cyclic(fraction=0.3), "initial": RandomInitialFeedback()},
}


@pytest.mark.parametrize("stop", [1, 4, 5])
@pytest.mark.parametrize("name", list(STATES))
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(name: str, stop: int) -> None:
    def make() -> FrozenBackprop:
        return FrozenBackprop(**{"interval": 1} | STATES[name])

    def learner(net: Net) -> Learner:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        return Learner(net, rule=make(), optimiser=optimiser, temporal=SCHEMES["ThroughTime"](), seed=7)

    def on(one: Learner, first: int, last: int) -> None:
        for batch in range(first, last):
            one.optimiser.param_groups[0]["lr"] = 0.1 / (1 + batch)
            one.update(*DENSE.input(steps=4, seed=batch))

    whole = learner(DENSE.net())
    assert_alive(whole.net, DENSE.input(steps=4)[0])
    on(whole, 0, 9)
    first = learner(DENSE.net())
    on(first, 0, stop)
    saved = {key: tensor.clone() for key, tensor in first.rule.tensors.items()}
    again = learner(DENSE.net(seed=11))
    again.net.load_state_dict(first.net.state_dict())
    again.optimiser.load_state_dict(first.optimiser.state_dict())
    again.rule.load_tensors(saved)
    again.steps, again.cost = first.steps, first.cost
    on(again, stop, 9)
    assert same([parameters(whole.net)], [parameters(again.net)])
    assert whole.cost == again.cost
    assert whole.cost.words
    for key, tensor in whole.rule.tensors.items():
        assert torch.equal(tensor, again.rule.tensors[key]), key


# --- the oracle, beyond the defaults it is run with in test_oracle ------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"interval": 1, "transport": Random(fraction=0.2)},
        {"interval": 1, "transport": Random(fraction=0.7)},
        {"interval": 2, "transport": Cyclic(fraction=0.3)},
        {"interval": 1, "transport": LargestChange(fraction=0.2)},
        {"interval": 1, "transport": Threshold(level=Absolute(threshold=0.002))},
        {"interval": 3, "schedule": Staggered()},
        {"interval": 9, "schedule": PerLayer(intervals=(2, 3))},
        {"interval": 3, "schedule": InverseRate()},
        {"interval": 1, "schedule": Drift(bound=0.03)},
        {"interval": 2, "schedule": Budget(words=31.0), "transport": LargestChange()},
        {"interval": 1, "schedule": Budget(words=80.0)},
    ],
    ids=lambda s: "-".join(type(v).__name__ if dataclasses.is_dataclass(v) else str(v) for v in s.values()),
)
@pytest.mark.parametrize("case", [DENSE, CASES["conv, standardised, hard, detached, held"]], ids=["dense", "conv"])
def test_many_copies_equal_the_oracle(settings: dict[str, Any], case: Case) -> None:
    if case is not DENSE and isinstance(settings.get("schedule"), PerLayer):
        settings = settings | {"schedule": PerLayer(intervals=(2, 3))}
    net, rule, scheme = case.net(), FrozenBackprop(**settings), SCHEMES["Trace-AfterSequence"]()
    rule.attach(net, seed=5)
    layers, by_hand = oracle_of(net, rule)
    trainer, optimiser = OracleTrainer(net, rule, scheme, lr=0.2), SGD(layers, by_hand, lr=0.2)
    start = {name: rule.tensors[name].clone() for name in by_hand.tensors}
    for batch in range(6):
        x, target = case.input(steps=3, seed=batch)
        assert_alive(net, x)
        trainer.update(x, target)
        optimiser(oracle_learn(layers, by_hand, scheme, x, target, trainer.loss).gradients)
        for name, feedback in by_hand.tensors.items():
            torch.testing.assert_close(rule.tensors[name], feedback, rtol=1e-9, atol=1e-12)
    assert any(not torch.equal(start[name], rule.tensors[name]) for name in start)


# --- how it is written down ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "assignments",
    [
        ["rule.interval=10"],
        ["rule.interval=none", "rule.initial=random"],
        ["rule.transport=random", "rule.transport.fraction=0.1"],
        ["rule.transport=threshold", "rule.transport.level=absolute", "rule.transport.level.threshold=0.02"],
        ["rule.transport=threshold", "rule.transport.level=running_quantile", "rule.transport.level.fraction=0.05"],
        ["rule.transport=largest_change", "rule.transport.pool=across_layers"],
        ["rule.transport=cyclic", "rule.schedule=budget", "rule.schedule.words=12.5"],
        ["rule.schedule=per_layer", "rule.schedule.intervals=2,5"],
        ["rule.schedule=inverse_rate"],
        ["rule.schedule=staggered"],
        ["rule.schedule=drift", "rule.schedule.bound=0.2"],
        ["rule.link.drop=0.1", "rule.link.latency=4", "rule.link.bits=8"],
    ],
    ids=lambda a: a[-1],
)
def test_every_setting_can_be_written_on_the_command_line(assignments: list[str]) -> None:
    recipe = dataclasses.replace(digits_mlp(), rule=FrozenBackprop())
    changed = override(recipe, assignments, AXES)
    assert changed != recipe
    written = encode(changed, AXES)
    assert decode(Recipe, written, AXES) == changed
    for text in assignments:
        key, _, value = text.partition("=")
        place: Any = written
        for part in key.split("."):
            place = place[part]
        place = place["kind"] if isinstance(place, dict) else place
        assert place == [2, 5] or str(place).lower() == value or place == float(value)
