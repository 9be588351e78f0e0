"""No number depends on how T steps are cut into chunks."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import (
    CASES,
    SCHEMES,
    Case,
    assert_alive,
    attach,
    close,
    each_case,
    each_main_rule,
    each_scheme,
    gradients,
    remembered,
)
from response_settings import NETS, SETTINGS, made
from torch import Tensor

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.nets.net import Input, Net

STEPS = 11  # longer than one block of the scan


@each_main_rule
@each_scheme
@pytest.mark.parametrize(
    "case_name", ["dense, hard, attached, leaky readout, gain", "dense, standardised, soft, attached, held"]
)
def test_chunks_of_1_2_and_all_steps_give_the_same_gradients(rule_name: str, scheme_name: str, case_name: str) -> None:
    case = CASES[case_name]
    net, (x, target) = case.net(), case.input(STEPS)
    assert_alive(net, x)
    compare_chunks(net, attach(rule_name, net), scheme_name, x, target)


def compare_chunks(net: Net, start: AbstractSpatial, scheme_name: str, x: Input, target: Tensor) -> None:
    """Gradients, records and what the rule has learnt, for every way to cut a sequence."""
    made = []
    for chunk in (1, 2, STEPS):
        net.zero_grad()
        rule = copy.deepcopy(start)
        scheme = SCHEMES[scheme_name](chunk=chunk)
        record = scheme.learn(net, x, target, StepwiseLoss(), rule, apply=lambda: None)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.0)
        made.append((gradients(net, rule), record, remembered(rule), rule.after(net, optimiser, rule.step)))
    for got, record, memory, cost in made[1:]:
        close(got, made[0][0])
        torch.testing.assert_close(record.logits, made[0][1].logits, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(record.loss, made[0][1].loss, rtol=1e-11, atol=1e-13)
        assert torch.equal(record.spikes, made[0][1].spikes)
        assert record.slots == made[0][1].slots
        for name, tensor in memory.items():
            torch.testing.assert_close(tensor, made[0][2][name], rtol=1e-10, atol=1e-13, equal_nan=True)
        assert cost == made[0][3]


@pytest.mark.parametrize(
    ("setting", "scheme_name"),
    [(s, list(SCHEMES)[(2 * n + shift) % len(SCHEMES)]) for n, s in enumerate(SETTINGS) for shift in (0, 3)],
)
def test_chunks_do_not_matter_to_noise_learnt_feedback_and_local_errors(setting: str, scheme_name: str) -> None:
    """In the third batch, which is past the start; an odd number of steps, and chunks that cut antithetic pairs."""
    case = NETS["dense"]
    net, (x, target) = case.net(), case.input(STEPS)
    assert_alive(net, x)
    rule = made(setting, "dense")
    rule.attach(net, seed=5)
    scheme = SCHEMES[scheme_name]()
    for step in range(2):
        rule.begin(step)
        scheme.learn(net, *case.input(STEPS, seed=1 + step), StepwiseLoss(), rule, apply=lambda: None)
    for tensor in rule.tensors.values():
        tensor.grad = None
    rule.after(net, torch.optim.SGD(net.parameters(), lr=0.0), 1)
    rule.begin(2)
    compare_chunks(net, rule, scheme_name, x, target)


@each_case
@each_scheme
def test_chunks_do_not_matter_on_any_kind_of_net_with_dropout(case: Case, scheme_name: str) -> None:
    net, (x, target) = case.net(), case.input(STEPS)
    for layer in net.hidden:
        layer.dropout = 0.3
    assert_alive(net, x)
    rule, loss, made = attach("Symmetric", net), StepwiseLoss(), []
    for chunk in (1, 4, 8, STEPS):
        net.zero_grad()
        source = torch.Generator().manual_seed(4)
        SCHEMES[scheme_name](chunk=chunk).learn(net, x, target, loss, rule, generator=source, apply=lambda: None)
        made.append(gradients(net))
    for got in made[1:]:
        close(got, made[0])


@pytest.mark.parametrize("truncation", [1, 2, 5, STEPS, 20])
@pytest.mark.parametrize("chunk", [1, 3, 20])
def test_truncation_and_chunks_are_independent(truncation: int, chunk: int) -> None:
    case = CASES["dense, hard, attached, leaky readout, gain"]
    net, (x, target) = case.net(), case.input(STEPS)
    assert_alive(net, x)
    rule, loss, made = attach("Symmetric", net), StepwiseLoss(), []
    for scheme in (ThroughTime(truncation=truncation), ThroughTime(truncation=truncation, chunk=chunk)):
        net.zero_grad()
        scheme.learn(net, x, target, loss, rule)
        made.append(gradients(net))
    close(made[1], made[0])


@each_case
def test_states_hand_a_sequence_on_exactly(case: Case) -> None:
    """A forward pass in two halves is bit-identical to one in one piece, for every cut."""
    net, (x, _) = case.net(), case.input(STEPS)
    assert_alive(net, x)
    with torch.no_grad():
        whole = net(x).outs
        for cut in range(1, STEPS):
            head, tail = (
                (x._replace(steps=cut), x._replace(steps=STEPS - cut)) if isinstance(x, tuple) else (x[:cut], x[cut:])
            )
            first = net(head)
            second = net(tail, first.states)
            for out, a, b in zip(whole, first.outs, second.outs, strict=True):
                torch.testing.assert_close(torch.cat([a, b]), out, rtol=1e-12, atol=1e-12)
