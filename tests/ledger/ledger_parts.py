"""What the ledger's tests share: one batch counted both ways, and what differs."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import torch
from helpers import RULES, SCHEMES, Case, ripen
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal
from aplysia.credit.loss import StepwiseLoss, WinnerLoss
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.ledger.activity import Activity, measure, watch_streams
from aplysia.ledger.amount import Book, Phase
from aplysia.ledger.count import count_step
from aplysia.ledger.probe import Probe
from aplysia.nets.net import Input, Net
from aplysia.ops.stream import Bits
from aplysia.types import Held

for folder in ("first_spike", "streams"):  # their nets are ours too
    sys.path.append(str(Path(__file__).parents[1] / folder))

from first_spike_nets import CASES as FIRST_SPIKE  # noqa: E402
from stream_parts import CONV, CONV_SHAPE, rates, stream_net  # noqa: E402

__all__ = [
    "CONV",
    "CONV_SHAPE",
    "FIRST_SPIKE",
    "both",
    "differences",
    "first_spike",
    "rates",
    "stepped",
    "stream_net",
    "streamed",
]

# What a batch of random numbers costs is known as a whole: a probe does not see whose they are.
SHARED = ("dense", "macs", "acs")


def differences(closed: Book, probed: Book) -> list[str]:
    """Every count of products, pulses and random numbers that the two counters do not agree on."""
    found = []
    for key in sorted({*closed.entries, *probed.entries}, key=str):
        a, b = closed.layer(*key), probed.layer(*key)
        fields = [*SHARED]
        if key[1] is Phase.UPDATE and a.macs == a.acs == 0:
            fields.append("forward_writes")  # of pulses: they are the products
        found += [
            f"{key[0]} {key[1].value} {name}: {getattr(a, name)} in closed form, {getattr(b, name)} seen"
            for name in fields
            if getattr(a, name) != getattr(b, name)
        ]
    numbers = [sum(one.amount.random_numbers or 0 for one in book) for book in (closed, probed)]
    if numbers[0] != numbers[1]:
        found.append(f"random numbers: {numbers[0]} in closed form, {numbers[1]} seen")
    return found


def both(
    net: Net, rule: AbstractSpatial, scheme: AbstractTemporal, x: Input, target: Tensor, loss: AbstractLoss
) -> tuple[Book, Book, Activity]:
    """One batch of a net of stepped or first-spike neurons, counted both ways."""
    activity = measure(net, x, input_real=True, noise=rule.noise_source)
    closed = count_step(net, rule, scheme, activity, step=rule.step)
    probe = Probe(net, rule.tensors)
    with probe.watching(rule):
        scheme.learn(net, x, target, loss, rule, apply=lambda: None)
    return closed, probe.book, activity


def stepped(case: Case, rule_name: str, scheme_name: str, **settings: Any) -> tuple[Book, Book, Activity]:
    """One of the stepped nets of the exactness tests."""
    net, rule = case.net(), RULES[rule_name](**settings)
    rule.attach(net, seed=5)
    x, target = case.input(steps=4, batch=2)
    return both(net, ripen(rule), SCHEMES[scheme_name](), x, target, StepwiseLoss(mse_share=0.3))


def first_spike(case: Any, rule_name: str, **settings: Any) -> tuple[Book, Book, Activity]:
    """One of the first-spike nets of the exactness tests."""
    net, rule, scheme = case.net(), RULES[rule_name](**settings), SpikeTime()
    rule.attach(net, seed=5)
    x, target = case.input()
    scheme.check(net, case.loss, rule)
    return both(net, ripen(rule), scheme, x, target, case.loss)


def streamed(
    net: Net, rule_name: str, x: Tensor, target: Tensor, *, held: bool, n: int = 6
) -> tuple[Book, Book, Activity]:
    """A net of streams, with rates that bits are drawn for, or with bits."""
    rule, loss = RULES[rule_name](), WinnerLoss()
    rule.attach(net, seed=5)
    ripen(rule)
    scheme = Coincidence(engine=Bits(random_bits=24))
    rule.check_loss(loss)
    scheme.check(net, loss, rule)
    source = torch.Generator().manual_seed(1)
    given = Held(x, n) if held else (torch.rand(n, *x.shape, generator=source) < x).to(x.dtype)
    remembered = copy.deepcopy(scheme.memory)

    def learn() -> None:
        # Ceilings follow what they saw, and both counters are to see the same batch.
        scheme.memory.clear()
        scheme.memory.update(copy.deepcopy(remembered))
        scheme.learn(net, given, target, loss, rule)

    activity = watch_streams(net, given, learn)
    closed = count_step(net, rule, scheme, activity, step=rule.step)
    probe = Probe(net, rule.tensors)
    with probe.watching(rule):
        learn()
    return closed, probe.book, activity
