"""Every rule in the package × every claim, measured in both directions; and what every rule owes, whatever it claims."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from claims import MEASURES, no_transport
from helpers import (
    CASES,
    DENSE,
    RULES,
    SCHEMES,
    SURROGATES,
    Trainer,
    assert_alive,
    attach,
    each_main_rule,
    each_rule,
    each_scheme,
    equal,
    learnt,
    parameters,
    remembered,
)

from aplysia.credit.contract import AbstractChained, AbstractSpatial
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.credit.spatial.frozen import FrozenBackprop
from aplysia.credit.temporal.trace import Trace
from aplysia.credit.transport import Random
from aplysia.errors import PairError
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.types import Claim, Cost, Paper


def test_every_claim_has_a_measure() -> None:
    assert set(MEASURES) == set(Claim)


@each_rule
@pytest.mark.parametrize("claim", list(Claim), ids=lambda c: c.name)
def test_a_claim_is_stated_exactly_when_it_is_measured(rule_name: str, claim: Claim) -> None:
    stated = claim in RULES[rule_name]().claims
    measured = MEASURES[claim](RULES[rule_name])
    assert measured == stated, f"{rule_name} {'states' if stated else 'does not state'} {claim.name}: {claim.value}"


@pytest.mark.parametrize("claim", list(Claim), ids=lambda c: c.name)
@pytest.mark.parametrize(
    "settings", [{}, {"interval": 1, "transport": Random(fraction=0.3)}], ids=["as shipped", "random, after every step"]
)
def test_frozen_backprop_holds_no_claim_whatever_its_interval(settings: dict[str, Any], claim: Claim) -> None:
    """As it ships it copies after a hundred steps; copies of random choice are no phase of their own."""
    assert not MEASURES[claim](lambda: FrozenBackprop(**settings))


# --- rules that break their word: the contract must see it ------------------------------------------------------------


@dataclass(kw_only=True)
class _Liar(AbstractChained):
    """States everything feedback alignment states."""

    paper: ClassVar[Paper] = FeedbackAlignment.paper
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.FIXED_FEEDBACK})
    summary: ClassVar[str] = "a rule that does not do what it states"

    def start(self, net: Net) -> dict[str, torch.Tensor]:
        return {layer.name: torch.ones_like(layer.weight) for layer in net.fed_back}

    def feedback(self, layer: Layer, weight: torch.Tensor) -> torch.Tensor:
        return self.tensors[layer.name]


@dataclass(kw_only=True)
class UsesTheWeight(_Liar):
    def feedback(self, layer: Layer, weight: torch.Tensor) -> torch.Tensor:
        return weight


@dataclass(kw_only=True)
class ScalesByTheWeight(_Liar):
    """'Random feedback' whose size is the weight's: a trace of W that no test of directions sees."""

    def feedback(self, layer: Layer, weight: torch.Tensor) -> torch.Tensor:
        return self.tensors[layer.name] * weight.detach().norm()


@dataclass(kw_only=True)
class KeepsAView(_Liar):
    """Puts views of the weights in place of the copies the base class made."""

    def attach(self, net: Net, *, seed: int) -> None:
        super().attach(net, seed=seed)
        self.tensors = {layer.name: layer.weight.detach() for layer in net.fed_back}


@dataclass(kw_only=True)
class CopiesAfterwards(_Liar):
    """Clean while learning, copies once the optimiser has stepped, and reports no cost."""

    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        for layer in net.fed_back:
            self.tensors[layer.name].copy_(layer.weight.detach())
        return Cost()


@dataclass(kw_only=True)
class CopiesSignsAfterwards(_Liar):
    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        for layer in net.fed_back:
            self.tensors[layer.name].copy_(layer.weight.detach().sign())
        return Cost()


@pytest.mark.parametrize("liar", [UsesTheWeight, ScalesByTheWeight, KeepsAView])
def test_weights_in_the_error_are_seen(liar: type[_Liar]) -> None:
    assert not no_transport(liar)
    assert not MEASURES[Claim.FIXED_FEEDBACK](liar)


@pytest.mark.parametrize("liar", [CopiesAfterwards, CopiesSignsAfterwards])
def test_feedback_that_changes_is_seen(liar: type[_Liar]) -> None:
    assert not MEASURES[Claim.FIXED_FEEDBACK](liar)


@pytest.mark.parametrize("liar", [CopiesAfterwards, CopiesSignsAfterwards])
def test_a_copy_behind_the_back_is_seen_where_feedback_may_change(liar: type[_Liar]) -> None:
    @dataclass(kw_only=True)
    class Modest(liar):  # type: ignore[misc, valid-type]
        claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT})

    assert not no_transport(Modest)


def test_a_rule_that_holds_a_view_is_backpropagation_and_the_exactness_measure_says_so() -> None:
    assert MEASURES[Claim.EXACT](KeepsAView)


@each_rule
def test_a_view_in_place_of_a_copy_is_caught_by_the_base(rule_name: str) -> None:
    """No tensor of a rule shares memory with a weight, or follows one."""
    net = DENSE.net()
    rule = attach(rule_name, net)
    held = remembered(rule)
    storages = {p.untyped_storage().data_ptr() for p in net.parameters()}
    assert not any(t.untyped_storage().data_ptr() in storages for t in rule.tensors.values())
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1.0)
    assert all(equal(rule.tensors[name], held[name]) for name in held)


def test_a_rule_whose_start_returns_views_gets_copies() -> None:
    @dataclass(kw_only=True)
    class StartsWithViews(_Liar):
        def start(self, net: Net) -> dict[str, torch.Tensor]:
            return {layer.name: layer.weight.view_as(layer.weight) for layer in net.fed_back}

    net, rule = DENSE.net(), StartsWithViews()
    rule.attach(net, seed=0)
    before = {name: tensor.clone() for name, tensor in rule.tensors.items()}
    trainer = Trainer(net, rule, Trace(), lr=0.5)
    trainer.update(*DENSE.input())
    for layer in net.fed_back:
        assert torch.equal(rule.tensors[layer.name], before[layer.name])
        assert not torch.equal(rule.tensors[layer.name], layer.weight)
        assert not rule.tensors[layer.name].requires_grad


def test_copy_once_is_a_copy_and_stays_one() -> None:
    net = DENSE.net()
    rule = attach("CopyOnce", net)
    start = {layer.name: layer.weight.detach().clone() for layer in net.fed_back}
    Trainer(net, rule, Trace(), lr=0.5).update(*DENSE.input())
    for layer in net.fed_back:
        assert torch.equal(rule.tensors[layer.name], start[layer.name])
        assert not torch.equal(layer.weight, start[layer.name])


# --- what every rule owes ---------------------------------------------------------------------------------------------


@each_rule
def test_a_rule_is_attached_once(rule_name: str) -> None:
    rule = attach(rule_name, DENSE.net())
    with pytest.raises(PairError, match="attached already"):
        rule.attach(DENSE.net(), seed=0)


@each_main_rule
@each_scheme
@pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=list(SURROGATES))
def test_every_layer_that_claims_to_train_gets_a_gradient(rule_name: str, scheme_name: str, surrogate: object) -> None:
    case = dataclasses.replace(DENSE, neuron=dataclasses.replace(DENSE.neuron, surrogate=surrogate))
    net, (x, target) = case.net(), case.input()
    assert_alive(net, x)
    rule = attach(rule_name, net)
    made = learnt(net, rule, SCHEMES[scheme_name](), x, target)
    frozen = Claim.HIDDEN_FROZEN in rule.claims
    assert made.keys() == {k for k in parameters(net) if k.startswith("readout.") or not frozen}
    for name, gradient in made.items():
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 1e-7, f"{name} gets nothing"


@each_main_rule
def test_every_layer_of_a_convolutional_net_gets_a_gradient(rule_name: str) -> None:
    case = CASES["conv, soft, attached, average and max pool, groups, stride"]
    net, (x, target) = case.net(), case.input()
    assert_alive(net, x)
    rule = attach(rule_name, net)
    for name, gradient in learnt(net, rule, Trace(), x, target).items():
        assert gradient.abs().max() > 1e-7, f"{name} gets nothing"


@each_rule
@pytest.mark.parametrize("scheme_name", ["ThroughTime", "Trace-EveryStep"])
def test_a_restored_rule_goes_on_bit_for_bit(rule_name: str, scheme_name: str) -> None:
    net = DENSE.net()
    rule = attach(rule_name, net)
    trainer = Trainer(net, rule, SCHEMES[scheme_name](), lr=0.3)
    for step in range(2):
        trainer.update(*DENSE.input(steps=4, seed=step))
    saved_net, saved_rule = copy.deepcopy(net.state_dict()), remembered(rule)

    other = DENSE.net(seed=9)
    again = RULES[rule_name]()
    again.attach(other, seed=5)
    other.load_state_dict(saved_net)
    again.load_tensors(saved_rule)
    resumed = Trainer(other, again, SCHEMES[scheme_name](), lr=0.3)
    resumed.steps = trainer.steps
    for step in range(2, 4):
        x, target = DENSE.input(steps=4, seed=step)
        assert_alive(net, x)
        trainer.update(x, target)
        resumed.update(x, target)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    for name in rule.tensors:
        assert equal(rule.tensors[name], again.tensors[name])


@each_rule
def test_tensors_of_another_rule_are_refused_and_loading_copies(rule_name: str) -> None:
    rule = attach(rule_name, DENSE.net())
    with pytest.raises(PairError, match="saved tensors"):
        rule.load_tensors({**rule.tensors, "stranger": torch.zeros(1)})
    saved = {name: torch.full_like(tensor, 2) for name, tensor in rule.tensors.items()}
    rule.load_tensors(saved)
    for tensor in saved.values():
        tensor.zero_()
    assert all(tensor.abs().max() > 0 for tensor in rule.tensors.values())


@each_rule
def test_the_seed_decides_all_that_is_random(rule_name: str) -> None:
    def trained(seed: int) -> tuple[dict[str, torch.Tensor], AbstractSpatial]:
        net = DENSE.net()
        rule = attach(rule_name, net, seed=seed, ripe=False)
        trainer = Trainer(net, rule, Trace(), lr=0.3)
        for step in range(4):
            trainer.update(*DENSE.input(steps=4, seed=step))
        return parameters(net), rule

    first, rule = trained(1)
    torch.rand(7)  # the process-wide generator has no say
    second, _ = trained(1)
    assert all(torch.equal(first[k], second[k]) for k in first)
    other, other_rule = trained(2)
    random = rule_name in (
        "FeedbackAlignment",
        "DirectFeedback",
        "KolenPollack",
        "WeightMirror",
        "FrozenBackprop-Random",
        "FrozenBackprop-RandomInitialFeedback",
        "DirectKolenPollack",
        "LocalLoss",
        "PseudoZerothOrder",
        "ForwardGradient",
        "ZerothOrder-NoBaseline",
        "ZerothOrder-RunningBaseline",
        "ZerothOrder-OthersBaseline",
    ) or ("SignSymmetric" in rule_name and "Uniform" not in rule_name)
    kept = [k for k in rule.tensors if "/" not in k or k.startswith("local/")]
    drawn = any(not equal(rule.tensors[k], other_rule.tensors[k]) for k in kept)
    # Two ways to get along without a memory: the noise is all that is random.
    assert drawn == (random and rule_name not in ("ZerothOrder-NoBaseline", "ZerothOrder-OthersBaseline"))
    assert all(torch.equal(first[k], other[k]) for k in first) != random


@each_rule
def test_a_random_start_does_not_depend_on_the_weights(rule_name: str) -> None:
    """Of the rules without transport, only the copy (a control, by name) looks at the weights when attached."""
    a, b = (attach(rule_name, DENSE.net(seed=seed), ripe=False) for seed in (3, 4))
    if Claim.NO_TRANSPORT not in a.claims or rule_name == "CopyOnce":
        return
    for name in a.tensors:
        if not name.startswith("last/"):
            assert equal(a.tensors[name], b.tensors[name])


# Weights with an error slot, and inputs to them, counted on paper: F14-F12-F4 has 12·14 + 4·12 weights behind 14 + 12
# inputs; 4C3-A2-6C3s2p1g2-P2-F4 on 8 × 8 has 6·2·3·3 + 4·6 weights behind 4·4·4 + 6 (pooled) inputs. Hidden units: 14 + 12,
# and 4·8·8 + 6·2·2.
COUNTS = {
    "dense, soft, detached": (216, 26, 26),
    "conv, soft, attached, average and max pool, groups, stride": (132, 70, 280),
}


@each_rule
@pytest.mark.parametrize("case_name", list(COUNTS))
def test_costs_are_exact_counts(rule_name: str, case_name: str) -> None:
    net, (words, drives, units) = CASES[case_name].net(), COUNTS[case_name]
    rule = attach(rule_name, net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    if Claim.RESPONSE in rule.claims:
        assert rule.upkeep(net, optimiser, 0) == Cost()  # nothing has been drawn
        Trace(chunk=2).learn(net, *CASES[case_name].input(steps=7, batch=3), StepwiseLoss(), rule)
    cost = rule.upkeep(net, optimiser, 0)
    if rule_name.startswith("FrozenBackprop"):
        if rule_name != "FrozenBackprop-Whole":
            return  # the counts of each scheme, timing and link: tests/credit/test_frozen.py
        assert cost == Cost()
        cost = rule.upkeep(net, optimiser, 1)
    want = {
        "Symmetric": Cost(events=1, words=words, bits=64 * words, writes=words),
        "FrozenBackprop-Whole": Cost(events=1, words=words, bits=64 * words, writes=words),
        "SignSymmetric-UniformMagnitude": Cost(events=1, bits=words, writes=words),
        "SignSymmetric-FixedMagnitude": Cost(events=1, bits=words, writes=words),
        "SignSymmetric-RedrawnMagnitude": Cost(events=1, bits=words, writes=words, random_numbers=words),
        "KolenPollack": Cost(writes=words),
        "WeightMirror": Cost(writes=words, random_numbers=32 * drives),
        # Four outputs. Of 7 steps four need a draw of their own where they come in pairs; 3 samples.
        "DirectKolenPollack": Cost(writes=4 * units),
        "PseudoZerothOrder": Cost(writes=4 * units, random_numbers=4 * 3 * units),
        "ForwardGradient": Cost(writes=4 * units, random_numbers=7 * 3 * units),
        "ZerothOrder-NoBaseline": Cost(random_numbers=4 * 3 * units),
        "ZerothOrder-RunningBaseline": Cost(random_numbers=4 * 3 * units),
        "ZerothOrder-OthersBaseline": Cost(random_numbers=4 * 3 * units),
    }
    assert cost == want.get(rule_name, Cost())
    if Claim.NO_TRANSPORT in rule.claims:
        assert cost.events == cost.words == cost.bits == cost.address_bits == 0
    elif Claim.HIDDEN_FROZEN not in rule.claims:
        assert cost.events
        assert cost.bits


def test_costs_add_up_and_unknown_stays_unknown() -> None:
    total = Cost(events=1, words=2, bits=3) + Cost(events=4, words=None, bits=5, writes=7)
    assert total == Cost(events=5, words=None, bits=8, writes=7)


@each_rule
def test_a_rule_says_where_it_comes_from(rule_name: str) -> None:
    rule = RULES[rule_name]()
    assert rule.summary
    assert rule.paper.year >= 1980
    assert str(rule.paper).startswith(rule.paper.authors)
