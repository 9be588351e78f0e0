"""The ledger of a run: what one batch costs with the weights as they are, and what was moved since the start.

`ledger.json` holds

    batch, steps, layers        B, T and the layers' names
    measured                    the batch whose spikes were counted
    step                        one optimiser step: an entry per layer and phase, see `aplysia.ledger.amount`
    inference                   the forward phase alone, without noise, for the same samples
    run                         optimiser steps, samples, and all that was transported
    memory                      bytes that a learning batch keeps, a line for each layer and kind, see `aplysia.ledger.memory`
    properties                  what rule and scheme need of a chip, from their claims, which the contract tests measure
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor

from aplysia.credit.contract import AbstractSpatial, AbstractTemporal
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.ledger.activity import Activity, measure, watch_streams
from aplysia.ledger.amount import Amount, Book, Phase
from aplysia.ledger.count import count_inference, count_step, count_transport
from aplysia.ledger.memory import memory
from aplysia.nets.net import Input, widest
from aplysia.ops.stream import Bits
from aplysia.train.alignment import gradients_kept
from aplysia.train.learner import Learner
from aplysia.types import Claim, Held

VERSION = 1
# What `properties` says, in words.
PROPERTIES = {
    "transport": "weight transport",
    "second_phase": "second phase",
    "update_locking": "update locking",
    "signed_feedback": "signed feedback",
    "memory_grows_with_steps": "memory grows with T",
}


def step_activity(learner: Learner, x: Input, target: Tensor, *, input_real: bool) -> Activity:
    """What is counted of one batch while it is learnt; nothing is left changed.

    Streams are counted bit by bit whatever engine stands for them in training: that is the chip that is meant.
    """
    net, rule, temporal = learner.net, learner.rule, learner.temporal
    if not isinstance(temporal, Coincidence):
        rule.begin(learner.steps)
        return measure(net, x, input_real=input_real, noise=rule.noise_source)
    scheme, copied = replace(bit_by_bit(temporal)), copy.deepcopy(rule)
    scheme.memory.update(copy.deepcopy(temporal.memory))
    copied.begin(learner.steps)
    with gradients_kept(net):
        return watch_streams(net, x, lambda: scheme.learn(net, x, target, learner.loss, copied))


def bit_by_bit(scheme: Coincidence) -> Coincidence:
    """The scheme with streams of bits."""
    return scheme if isinstance(scheme.engine, Bits) else replace(scheme, engine=Bits())


def run_ledger(
    learner: Learner,
    x: Input,
    target: Tensor,
    *,
    input_real: bool,
    samples: int,
    state_bytes: Callable[[Tensor], int | None] | None = None,
) -> dict[str, Any]:
    """What `ledger.json` holds.

    Args:
        learner: at the end of its run.
        x: a batch as the net gets it.
        target: its labels.
        input_real: whether the input is real numbers, which the encoder says.
        samples: that were learnt from.
        state_bytes: of the optimiser, for a tensor; None: no line for it.
    """
    net, rule, temporal = learner.net, learner.rule, learner.temporal
    activity = step_activity(learner, x, target, input_real=input_real)
    noisy = rule.noise_source is not None
    rest = measure(net, x, input_real=input_real) if noisy else activity
    scheme = bit_by_bit(temporal) if isinstance(temporal, Coincidence) else temporal
    habits, held = temporal.habits(activity.steps, widest(net, activity.batch)), isinstance(x, Held)
    lines = memory(net, rule, habits, batch=activity.batch, held=held, optimiser=state_bytes)
    return {
        "version": VERSION,
        "batch": activity.batch,
        "steps": activity.steps,
        "layers": [layer.name for layer in net.synapses],
        "measured": {"samples": activity.batch, "spikes": "of the first training samples, after training"},
        "step": count_step(net, rule, scheme, activity, step=learner.steps).as_json(),
        "inference": count_inference(net, rest).as_json(),
        "run": {
            "steps": learner.steps,
            "samples": samples,
            "transport": transported(learner).as_json(),
            "reported": asdict(learner.cost),
        },
        "memory": [line.as_json() for line in lines],
        "properties": properties(rule, temporal),
    }


def transported(learner: Learner) -> Book:
    """All that a rule has moved: layer by layer in closed form, or where that is not known before, as it was reported."""
    closed, cost = count_transport(learner.net, learner.rule, learner.steps), learner.cost
    if all(one.amount.words is not None for one in closed):
        return closed
    book = Book()
    counts = Amount(
        words=cost.words,
        bits=cost.bits,
        address_bits=cost.address_bits,
        forward_reads=cost.words,
        feedback_writes=cost.writes,
        random_numbers=cost.random_numbers,
    )
    book.charge(None, Phase.TRANSPORT, **counts.as_json())
    return book


def properties(rule: AbstractSpatial, temporal: AbstractTemporal) -> dict[str, bool | int]:
    """What a chip must have for a rule and its scheme."""
    claims, owned = rule.claims, list(rule.tensors.values())
    floating = [tensor for tensor in owned if tensor.is_floating_point()]
    return {
        "transport": Claim.NO_TRANSPORT not in claims,
        "second_phase": Claim.SECOND_PHASE in claims,
        "update_locking": Claim.UNLOCKED not in claims,
        "signed_feedback": any(bool((tensor < 0).any()) for tensor in floating) or Claim.EXACT in claims,
        "memory_grows_with_steps": temporal.habits(10_000).kept < temporal.habits(20_000).kept,
        "feedback_bytes": sum(tensor.numel() * tensor.element_size() for tensor in floating),
    }
