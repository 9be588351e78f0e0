"""What rules move over many steps: the closed form against what they report, step by step, and against the papers' formulas."""

from __future__ import annotations

import dataclasses
import math

import pytest
from helpers import CASES, DENSE, RULES, Trainer, each_rule

from aplysia.credit.interval import PerLayer, Staggered
from aplysia.credit.link import Link
from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.spatial.frozen import FrozenBackprop
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.credit.transport import Cyclic, LargestChange, Random, Whole
from aplysia.errors import PairError
from aplysia.ledger.activity import assume
from aplysia.ledger.amount import Amount, Book, Charge, Phase, read_book
from aplysia.ledger.count import count_inference, count_step, count_transport
from aplysia.nets.net import Net
from aplysia.nets.zoo import build
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.types import Cost

STEPS = 13
FIELDS = {"words": "words", "bits": "bits", "address_bits": "address_bits", "writes": "feedback_writes"}


def trained(net: Net, rule: object, steps: int = STEPS) -> Cost:
    """What a rule reports of so many optimiser steps."""
    rule.attach(net, seed=5)  # type: ignore[attr-defined]
    trainer, total = Trainer(net, rule, Trace()), Cost()  # type: ignore[arg-type]
    kept = rule.after  # type: ignore[attr-defined]

    def after(*given: object) -> Cost:
        nonlocal total
        cost = kept(*given)
        total += cost
        return cost

    rule.after = after  # type: ignore[attr-defined]
    x, target = DENSE.input(steps=2)
    for _ in range(steps):
        trainer.scheme.learn(net, x, target, trainer.loss, rule)  # type: ignore[arg-type]
        trainer.optimiser.step()
        after(net, trainer.optimiser, trainer.steps)
        trainer.optimiser.zero_grad()
        trainer.steps += 1
        rule.begin(trainer.steps)  # type: ignore[attr-defined]
    return total


@each_rule
def test_the_closed_form_is_what_a_rule_reports(rule_name: str) -> None:
    net, rule = DENSE.net(), RULES[rule_name]()
    try:
        reported = trained(net, rule)
    except PairError as refused:
        pytest.skip(str(refused))
    total = count_transport(net, rule, STEPS).total(Phase.TRANSPORT)
    # Feedback that learns is written in the phase of updates, which the closed form counts per batch.
    learnt = count_transport(net, rule, STEPS).entries and (total.words or total.bits)
    for name, field in FIELDS.items():
        known = getattr(total, field)
        if known is not None and (name != "writes" or learnt):
            assert known == getattr(reported, name), name


@pytest.mark.parametrize(
    "transport", [Whole(), Random(fraction=0.3), Cyclic(fraction=0.07), LargestChange(fraction=0.1)]
)
@pytest.mark.parametrize(
    "schedule", [None, Staggered(), PerLayer(intervals=(2, 5))], ids=["together", "staggered", "own"]
)
@pytest.mark.parametrize("link", [Link(), Link(bits=4), Link(latency=3)], ids=["perfect", "4 bits", "3 late"])
def test_every_scheme_on_every_schedule(transport: Whole, schedule: Staggered | None, link: Link) -> None:
    settings = {} if schedule is None else {"schedule": schedule}
    net = build("F14-F12-F4", (10,), neuron=LIF(), readout=Integrator()).double()
    rule = FrozenBackprop(interval=3, transport=transport, link=link, **settings)
    reported = trained(net, rule)
    total = count_transport(net, rule, STEPS).total(Phase.TRANSPORT)
    assert reported.words
    for name, field in FIELDS.items():
        assert getattr(total, field) == getattr(reported, name), name


def test_words_are_the_papers_share() -> None:
    """ρ·N/Φ words a step, against N for backpropagation: a factor of Φ/ρ, layer 1 left out."""
    net = build("F100-F100-F10", (50,), neuron=LIF(), readout=Integrator())
    steps, interval, fraction = 2000, 10, 0.01
    full = count_transport(net, Symmetric(), steps).total()
    part = count_transport(net, FrozenBackprop(interval=interval, transport=Cyclic(fraction=fraction)), steps).total()
    assert full.words == steps * (100 * 100 + 100 * 10)
    assert part.words == full.words * fraction / interval
    assert count_transport(net, FrozenBackprop(interval=None), steps).total() == Amount()
    assert "dense1" not in {one.layer for one in count_transport(net, Symmetric(), steps)}


def test_feedback_costs_of_direct_rules_are_the_papers_formulas() -> None:
    """For N hidden layers of n units and m outputs, per sample and step: N·m·n directly, (N − 1)·n² + m·n layer by layer."""
    hidden, n, m, steps, batch = 5, 64, 10, 3, 7
    net = build("-".join([f"F{n}"] * hidden + [f"F{m}"]), (20,), neuron=LIF(), readout=Integrator())
    activity = assume(net, batch=batch, steps=steps, rate=0.1, input_real=False, held=False)

    def error(rule: object) -> int | None:
        return count_step(net, rule, ThroughTime(), activity).total(Phase.ERROR).macs  # type: ignore[arg-type]

    samples = steps * batch
    assert error(Symmetric()) == samples * ((hidden - 1) * n * n + m * n)
    assert error(DirectFeedback()) == samples * hidden * m * n
    assert error(PseudoZerothOrder()) == samples * hidden * m * n
    noise = count_step(net, PseudoZerothOrder(), ThroughTime(), activity).total(Phase.NOISE)
    assert noise.random_numbers == math.ceil(steps / 2) * batch * hidden * n  # one a unit and two steps


def test_unknown_is_not_zero() -> None:
    book = Book()
    book.charge("a", Phase.ERROR, words=3, bits=None)
    book.charge("a", Phase.ERROR, words=4, bits=5)
    assert book.layer("a", Phase.ERROR).words == 7
    assert book.total().bits is None
    assert Amount(words=None).times(3).words is None
    again = read_book(book.as_json())
    assert again.entries == book.entries
    assert list(again) == [Charge("a", Phase.ERROR, Amount(words=7, bits=None))]


def test_inference_is_the_forward_phase() -> None:
    net = CASES["conv, standardised, hard, detached, held"].net()
    activity = assume(net, batch=2, steps=3, rate=0.25, input_real=True, held=True)
    book = count_inference(net, activity)
    step = count_step(net, Symmetric(), ThroughTime(), activity)
    assert {one.phase for one in book} == {Phase.FORWARD}
    for one in book:
        assert one.amount == dataclasses.replace(step.layer(one.layer, Phase.FORWARD))
