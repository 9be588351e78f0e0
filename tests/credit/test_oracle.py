"""Every rule × every scheme × every kind of net against the oracle written by hand."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import (
    CASES,
    DENSE,
    RULES,
    SCHEMES,
    Case,
    Trainer,
    assert_alive,
    attach,
    close,
    each_case,
    each_main_rule,
    each_rule,
    each_scheme,
    gradients,
    oracle_learn,
    oracle_of,
    parameters,
)
from oracles import SGD

from aplysia.credit.loss import MeanOutputLoss, StepwiseLoss
from aplysia.errors import PairError
from aplysia.nets.net import steps_of
from aplysia.neurons.lif import LIF
from aplysia.types import Claim


def test_rules_and_schemes_are_found_and_not_listed() -> None:
    assert {"Symmetric", "FeedbackAlignment", "SignSymmetric-RedrawnMagnitude"} <= set(RULES)
    assert {"ThroughTime", "Trace-AfterSequence", "Trace-EveryStep", "Traceless-EveryStep"} <= set(SCHEMES)


@each_main_rule
@each_scheme
@each_case
def test_gradients_outputs_and_loss_equal_the_oracle(rule_name: str, scheme_name: str, case: Case) -> None:
    net, (x, target) = case.net(), case.input()
    assert_alive(net, x)
    rule, scheme, loss = attach(rule_name, net), SCHEMES[scheme_name](), StepwiseLoss(mse_share=0.3)
    layers, by_hand = oracle_of(net, rule)
    summed: dict[str, torch.Tensor] = {}

    def collect(of_step: dict[str, torch.Tensor]) -> None:
        for name, value in of_step.items():
            summed[name] = summed.get(name, 0.0) + value

    want = oracle_learn(layers, by_hand, scheme, x, target, loss, apply=collect)
    collect(want.gradients)
    record = scheme.learn(net, x, target, loss, rule, apply=lambda: None)
    close(gradients(net, rule), summed)
    torch.testing.assert_close(record.logits, sum(want.outs) / steps_of(x), rtol=1e-10, atol=1e-12)
    assert math.isclose(float(record.loss), want.loss, rel_tol=1e-10)


@each_rule
@each_scheme
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_training_equals_the_oracle_with_the_rules_own_step_after_each_update(
    rule_name: str, scheme_name: str, momentum: float
) -> None:
    """Three batches: for `EveryStep` that is a hand loop of 3·T optimiser steps, with the effective weights of each."""
    net, scheme = DENSE.net(), SCHEMES[scheme_name]()
    rule = attach(rule_name, net)
    layers, by_hand = oracle_of(net, rule)
    trainer = Trainer(net, rule, scheme, lr=0.2, momentum=momentum)
    optimiser = SGD(layers, by_hand, lr=0.2, momentum=momentum)
    start = parameters(net)
    for batch in range(3):
        x, target = DENSE.input(steps=4, seed=batch)
        assert_alive(net, x)
        trainer.update(x, target)
        optimiser(oracle_learn(layers, by_hand, scheme, x, target, trainer.loss, apply=optimiser).gradients)
    assert trainer.steps == (12 if scheme.updates_inside else 3)
    got = parameters(net)
    for layer in layers:
        torch.testing.assert_close(got[f"{layer.name}.weight"], layer.weight, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(got[f"{layer.name}.bias"], layer.bias, rtol=1e-9, atol=1e-12)
        if Claim.HIDDEN_FROZEN not in rule.claims or layer is layers[-1]:
            assert not torch.equal(got[f"{layer.name}.weight"], start[f"{layer.name}.weight"])
    for name, feedback in by_hand.tensors.items():
        torch.testing.assert_close(rule.tensors[name].detach(), feedback, rtol=1e-9, atol=1e-12, equal_nan=True)


@each_rule
def test_training_of_a_convolutional_net_equals_the_oracle(rule_name: str) -> None:
    case = CASES["conv, soft, attached, average and max pool, groups, stride"]
    net, scheme = case.net(), SCHEMES["Trace-AfterSequence"]()
    rule = attach(rule_name, net)
    layers, by_hand = oracle_of(net, rule)
    trainer, optimiser = Trainer(net, rule, scheme), SGD(layers, by_hand, lr=0.1)
    for batch in range(2):
        x, target = case.input(steps=3, seed=batch)
        assert_alive(net, x)
        trainer.update(x, target)
        optimiser(oracle_learn(layers, by_hand, scheme, x, target, trainer.loss).gradients)
    for layer in layers:
        torch.testing.assert_close(parameters(net)[f"{layer.name}.weight"], layer.weight, rtol=1e-9, atol=1e-12)
    for name, feedback in by_hand.tensors.items():
        torch.testing.assert_close(rule.tensors[name].detach(), feedback, rtol=1e-9, atol=1e-12, equal_nan=True)


@each_main_rule
def test_a_loss_of_the_mean_output_equals_the_oracle_through_time(rule_name: str) -> None:
    net, (x, target) = DENSE.net(), DENSE.input()
    assert_alive(net, x)
    rule, scheme, loss = attach(rule_name, net), SCHEMES["ThroughTime"](), MeanOutputLoss()
    if rule_name.startswith("ZerothOrder"):
        with pytest.raises(PairError, match="sum over steps"):
            rule.check_loss(loss)
        return
    rule.check_loss(loss)
    layers, by_hand = oracle_of(net, rule)
    want = oracle_learn(layers, by_hand, scheme, x, target, loss)
    record = scheme.learn(net, x, target, loss, rule)
    close(gradients(net, rule), want.gradients)
    assert math.isclose(float(record.loss), want.loss, rel_tol=1e-10)


@each_main_rule
@each_scheme
def test_dropout_masks_enter_forward_and_backward(rule_name: str, scheme_name: str) -> None:
    net, (x, target) = DENSE.net(), DENSE.input()
    for layer in net.hidden:
        layer.dropout = 0.4
    assert_alive(net, x)
    rule, scheme, loss = attach(rule_name, net), SCHEMES[scheme_name](), StepwiseLoss()
    layers, by_hand = oracle_of(net, rule)
    source = torch.Generator().manual_seed(8)
    for layer, by_layer in zip(net.hidden, layers[:-1], strict=True):
        keep = torch.rand(x.shape[1], layer.units, generator=source) >= 0.4
        by_layer.mask = keep.double() / 0.6
    summed: dict[str, torch.Tensor] = {}

    def collect(of_step: dict[str, torch.Tensor]) -> None:
        for name, value in of_step.items():
            summed[name] = summed.get(name, 0.0) + value

    collect(oracle_learn(layers, by_hand, scheme, x, target, loss, apply=collect).gradients)
    scheme.learn(net, x, target, loss, rule, generator=torch.Generator().manual_seed(8), apply=lambda: None)
    close(gradients(net, rule), summed)


def test_the_oracle_can_fail() -> None:
    """A leak that is off by one part in a thousand is seen."""
    net, (x, target) = DENSE.net(), DENSE.input()
    rule, scheme, loss = attach("Symmetric", net), SCHEMES["Trace-AfterSequence"](), StepwiseLoss()
    layers, by_hand = oracle_of(net, rule)
    assert isinstance(net.hidden[0].neuron, LIF)
    layers[0].leak *= 1.001
    want = oracle_learn(layers, by_hand, scheme, x, target, loss)
    scheme.learn(net, x, target, loss, rule)
    with pytest.raises(AssertionError):
        close(gradients(net), want.gradients)
