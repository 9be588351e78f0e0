"""The one time loop: run a window of steps, plant the errors, go backward, go on.

Through time: one window is the whole sequence (or the truncation length). Online: one window is one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, Apply, Entry, Record, Seen
from aplysia.nets.layer import LayerState
from aplysia.nets.net import Input, Net, Pass, States, chunks, steps_of
from aplysia.nets.route import Route


def _handed_over(states: States) -> Iterator[LayerState]:
    """One by one, each let go as the next is taken: a layer's old membranes need not outlive its new ones."""
    states.reverse()
    while states:
        yield states.pop()


def learn_in_windows(
    net: Net,
    x: Input,
    target: Tensor,
    loss: AbstractLoss,
    spatial: AbstractSpatial,
    route: Route,
    *,
    window: int,
    chunk: int,
    apply: Apply | None = None,
) -> Record:
    """Fill `.grad` window by window; `apply` runs between windows."""
    steps, states, start = steps_of(x), None, 0
    laid = {
        "noise": spatial.noise_source,
        "slopes": spatial.slopes,
        "planted": spatial.plants and not route.through_time,
    }
    logits, value, spikes = None, None, None
    for number, part in enumerate(chunks(x, window)):
        if number and apply is not None:
            apply()
        done = _learn_window(net, part, target, loss, spatial, partial(_laid, route, laid), states, start, steps, chunk)
        states = done.states
        start += steps_of(part)
        mean = done.out.mean(0) if len(done.out) == steps else done.out.sum(0) / steps
        logits = mean if logits is None else logits + mean
        value = done.loss if value is None else value + done.loss
        spikes = done.spikes if spikes is None else spikes + done.spikes
    assert logits is not None
    assert value is not None
    assert spikes is not None
    slots = [steps * len(target) * layer.units for layer in net.all]
    return Record(logits, value, spikes, slots)


class _Done(NamedTuple):
    """What is left of a window: the outputs, the loss, spikes, and states without a graph. All else goes before the next
    one runs."""

    out: Tensor
    loss: Tensor
    spikes: Tensor
    states: States


def _laid(route: Route, laid: dict[str, Any], **more: Any) -> Route:
    return replace(route, **laid, **more)


def _learn_window(
    net: Net,
    part: Input,
    target: Tensor,
    loss: AbstractLoss,
    spatial: AbstractSpatial,
    routed: Callable[..., Route],
    states: States | None,
    start: int,
    steps: int,
    chunk: int,
) -> _Done:
    """`routed` makes the route of a chunk from where it starts and whether the sequence ends with it."""
    runs: list[Pass] = []
    at = start
    route = None
    for piece in chunks(part, chunk):
        given = None if states is None else _handed_over(states)
        before, at = at, at + steps_of(piece)
        route = routed(start=before, ends=at == steps)
        runs.append(net(piece, given, route))
        states = list(runs[-1].states)
    assert states is not None
    assert route is not None
    out = runs[0].outs[-1].detach() if len(runs) == 1 else torch.cat([run.outs[-1].detach() for run in runs])
    share, error = loss.error(out, target, steps)
    if len(runs) == 1:
        for tensors, seeds in spatial.plant(net, Seen(runs[0], error, target, loss, steps, start, route.noise)):
            if tensors:
                torch.autograd.backward(tensors, seeds)
            del tensors, seeds
    else:
        # Chunks of one window hang together, so they go backward together.
        planted: tuple[list[Entry], list[Tensor]] = ([], [])
        at = start
        for run in runs:
            length = len(run.outs[-1])
            seen = Seen(run, error[at - start : at - start + length], target, loss, steps, at, route.noise)
            for gathered, more in zip(planted, spatial.planted(net, seen), strict=True):
                gathered += more
            at += length
        torch.autograd.backward(*planted)
    spikes = runs[0].spikes if len(runs) == 1 else torch.stack([run.spikes for run in runs]).sum(0)
    return _Done(out, share, spikes, [state.detach() for state in states])
