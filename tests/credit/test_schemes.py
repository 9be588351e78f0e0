"""Schemes for time: sums of per-step gradients, updates at every step, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import (
    CASES,
    DENSE,
    Case,
    Trainer,
    assert_alive,
    attach,
    close,
    each_case,
    each_main_rule,
    gradients,
    learnt,
    oracle_learn,
    oracle_of,
    parameters,
)
from oracles import SGD

from aplysia.credit.loss import MeanOutputLoss, StepwiseLoss
from aplysia.credit.temporal.online import EveryStep
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.credit.temporal.traceless import Traceless
from aplysia.errors import PairError, RecipeError

ONLINE = pytest.mark.parametrize("kind", [Trace, Traceless])


@each_main_rule
@ONLINE
def test_gradients_are_the_sum_of_per_step_gradients(rule_name: str, kind: type[Trace] | type[Traceless]) -> None:
    case = CASES["dense, hard, attached, leaky readout, gain"]
    net, (x, target) = case.net(), case.input()
    assert_alive(net, x)
    rule, loss, steps = attach(rule_name, net), StepwiseLoss(), []

    def take() -> None:
        steps.append(gradients(net))
        net.zero_grad(set_to_none=True)

    # Both begin with what the rule knows now.
    kind(update=EveryStep()).learn(net, x, target, loss, copy.deepcopy(rule), apply=take)
    take()
    assert len(steps) == len(x)
    summed = {name: torch.stack([s[name] for s in steps]).sum(0) for name in steps[-1]}
    close(learnt(net, rule, kind(), x, target, loss), summed)


@each_case
@ONLINE
def test_every_step_is_a_hand_loop_of_optimiser_steps(case: Case, kind: type[Trace] | type[Traceless]) -> None:
    """Weights (and what standardisation makes of them) change T times inside a sequence; states and traces go on."""
    net, scheme = case.net(), kind(update=EveryStep())
    x, target = case.input()
    assert_alive(net, x)
    rule = attach("Symmetric", net)
    layers, by_hand = oracle_of(net, rule)
    trainer, optimiser = Trainer(net, rule, scheme, lr=0.1, momentum=0.9), SGD(layers, by_hand, lr=0.1, momentum=0.9)
    trainer.update(x, target)
    optimiser(oracle_learn(layers, by_hand, scheme, x, target, trainer.loss, apply=optimiser).gradients)
    assert trainer.steps == optimiser.step == 7
    got = parameters(net)
    for layer in layers:
        for name in ("weight", "bias", "weight_gain"):
            if getattr(layer, name) is not None:
                torch.testing.assert_close(got[f"{layer.name}.{name}"], getattr(layer, name), rtol=1e-9, atol=1e-12)


@ONLINE
def test_updates_inside_a_sequence_need_a_way_to_apply_them(kind: type[Trace] | type[Traceless]) -> None:
    net, (x, target) = DENSE.net(), DENSE.input()
    with pytest.raises(PairError, match="apply"):
        kind(update=EveryStep()).learn(net, x, target, StepwiseLoss(), attach("Symmetric", net))


def test_a_loss_known_only_at_the_end_is_refused_where_it_cannot_be_used() -> None:
    net = DENSE.net()
    rule, late = attach("Symmetric", net), MeanOutputLoss()
    for scheme in (Trace(), Traceless(), ThroughTime(truncation=3)):
        with pytest.raises(PairError, match="MeanOutputLoss"):
            scheme.check(net, late, rule)
        scheme.check(net, StepwiseLoss(), rule)
    ThroughTime().check(net, late, rule)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Trace(chunk=0),
        lambda: Traceless(chunk=-1),
        lambda: ThroughTime(chunk=0),
        lambda: ThroughTime(truncation=0),
        lambda: StepwiseLoss(mse_share=1.5),
        lambda: StepwiseLoss(mse_share=float("nan")),
    ],
)
def test_settings_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(RecipeError):
        make()  # type: ignore[operator]


def test_gradients_of_two_batches_add_up_until_they_are_cleared() -> None:
    net = DENSE.net()
    rule, loss, scheme = attach("Symmetric", net), StepwiseLoss(), Trace()
    first, second = DENSE.input(seed=0), DENSE.input(seed=1)
    apart = [learnt(net, rule, scheme, *batch, loss) for batch in (first, second)]
    net.zero_grad()
    for x, target in (first, second):
        assert_alive(net, x)
        scheme.learn(net, x, target, loss, rule)
    close(gradients(net), {name: apart[0][name] + apart[1][name] for name in apart[0]})
