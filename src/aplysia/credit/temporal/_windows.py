"""The one time loop: run a window of steps, plant the errors, go backward, go on.

Through time: one window is the whole sequence (or the truncation length). Online: one window is one chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, Apply, Record, Seen
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
    route = replace(route, noise=spatial.noise_source, slopes=spatial.slopes)
    logits, value, spikes = None, None, None
    for number, part in enumerate(chunks(x, window)):
        if number and apply is not None:
            apply()
        if states is not None:
            states = [state.detach() for state in states]
        runs: list[Pass] = []
        began = start
        for piece in chunks(part, chunk):
            done = net(piece, None if states is None else _handed_over(states), replace(route, start=start))
            states = list(done.states)
            start += steps_of(piece)
            runs.append(done)
            spikes = done.spikes if spikes is None else spikes + done.spikes
        out = runs[0].outs[-1].detach() if len(runs) == 1 else torch.cat([run.outs[-1].detach() for run in runs])
        share, error = loss.error(out, target, steps)
        value = share if value is None else value + share
        total = out.sum(0)
        logits = total if logits is None else logits + total
        tensors: list[Tensor] = []
        seeds: list[Tensor] = []
        at = 0
        for run in runs:
            length = len(run.outs[-1])
            seen = Seen(run, error[at : at + length], target, loss, steps, began + at, route.noise)
            planted, errors = spatial.planted(net, seen)
            at += length
            tensors += planted
            seeds += errors
        torch.autograd.backward(tensors, seeds)
        # Else this window's signals would be kept while the next one runs.
        del done, runs, out, error, run, seen, planted, errors, tensors, seeds
    assert logits is not None
    assert value is not None
    assert spikes is not None
    slots = [steps * len(target) * math.prod(layer.output_shape) for layer in net.all]
    return Record(logits / steps, value, spikes, slots)
