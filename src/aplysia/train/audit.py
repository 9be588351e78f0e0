"""`aplysia audit`: one batch of a run counted twice, by the closed form and by watching torch, and every difference named."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.ledger.amount import Book, Phase
from aplysia.ledger.count import count_step, count_transport
from aplysia.ledger.probe import Probe
from aplysia.nets.net import Input
from aplysia.ops.stream import Bits
from aplysia.train.alignment import gradients_kept
from aplysia.train.learner import Learner
from aplysia.train.ledger import step_activity

_PRODUCTS = ("dense", "macs", "acs")
_MOVED = {"words": "words", "bits": "bits", "address_bits": "address_bits"}


@dataclass(frozen=True)
class Checked:
    """One number, counted twice.

    Attributes:
        what: layer, phase and count.
        closed: by the closed form; None: not known before looking.
        seen: by the other counter.
    """

    what: str
    closed: int | None
    seen: int | None

    @property
    def agrees(self) -> bool:
        """Whether they are equal; what the closed form does not claim to know is no difference."""
        return self.closed is None or self.closed == self.seen


def audit(learner: Learner, x: Input, target: Tensor, *, input_real: bool) -> list[Checked]:
    """Count one batch twice, and what was transported since the start; the run's state is left as it was.

    Args:
        learner: as the run left it.
        x: a batch as the net gets it.
        target: its labels.
        input_real: whether the input is real numbers.
    """
    net, temporal = learner.net, learner.temporal
    rule = copy.deepcopy(learner.rule)
    rule.begin(learner.steps)
    scheme = copy.deepcopy(temporal)
    if isinstance(temporal, Coincidence):
        scheme = replace(temporal, engine=Bits(random_bits=24))
        scheme.memory.update(copy.deepcopy(temporal.memory))
        learner = _with(learner, replace(temporal, engine=Bits(random_bits=24)))
        learner.temporal.memory.update(copy.deepcopy(temporal.memory))
    activity = step_activity(learner, x, target, input_real=input_real)
    closed = count_step(net, rule, scheme, activity, step=learner.steps)
    probe = Probe(net, rule.tensors)
    with gradients_kept(net), probe.watching(rule):
        record = scheme.learn(net, x, target, learner.loss, rule, apply=lambda: None)
    found = compared(closed, probe.book)
    for layer, count in zip(net.all, record.spikes.tolist(), strict=True):
        if layer.neuron.spiking:
            found.append(Checked(f"{layer.name} forward spikes", activity.spikes[layer.name], round(count)))
    moved = count_transport(net, learner.rule, learner.steps).total(Phase.TRANSPORT)
    found += [
        Checked(f"transport {name}", getattr(moved, field), getattr(learner.cost, name))
        for name, field in _MOVED.items()
    ]
    return found


def compared(closed: Book, seen: Book) -> list[Checked]:
    """Products of every layer and phase, pulses of streams, and random numbers, which are seen without their layer."""
    found: list[Checked] = []
    for key in [*closed.entries, *(key for key in seen.entries if key not in closed.entries)]:
        ours, theirs = closed.layer(*key), seen.layer(*key)
        counts = [*_PRODUCTS]
        if key[1] is Phase.UPDATE and ours.macs == ours.acs == 0:
            counts.append("forward_writes")
        for name in counts:
            a, b = getattr(ours, name), getattr(theirs, name)
            if a or b:
                found.append(Checked(f"{key[0] or 'all layers'} {key[1].value} {name}", a, b))
    drawn: list[Any] = [[one.amount.random_numbers for one in book] for book in (closed, seen)]
    known = None if None in drawn[0] else sum(drawn[0])
    if known or sum(drawn[1]):
        found.append(Checked("all layers noise random_numbers", known, sum(drawn[1])))
    return found


def _with(learner: Learner, temporal: Any) -> Learner:
    made = copy.copy(learner)
    made.temporal = temporal
    return made
