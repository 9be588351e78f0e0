"""The one time loop: run a window of steps, plant the errors, go backward, go on.

Through time: one window is the whole sequence (or the truncation length). Online: one window is one chunk.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, Apply, Record
from aplysia.nets.net import Input, Net, chunks, steps_of
from aplysia.nets.route import Route


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
    steps, states = steps_of(x), None
    logits, value, spikes = None, None, None
    for number, part in enumerate(chunks(x, window)):
        if number and apply is not None:
            apply()
        if states is not None:
            states = [state.detach() for state in states]
        runs: list[list[Tensor]] = []
        for piece in chunks(part, chunk):
            done = net(piece, states, route)
            states = done.states
            runs.append(done.outs)
            spikes = done.spikes if spikes is None else spikes + done.spikes
        out = runs[0][-1].detach() if len(runs) == 1 else torch.cat([outs[-1].detach() for outs in runs])
        share, error = loss.error(out, target, steps)
        value = share if value is None else value + share
        total = out.sum(0)
        logits = total if logits is None else logits + total
        tensors: list[Tensor] = []
        seeds: list[Tensor] = []
        start = 0
        for outs in runs:
            planted, errors = spatial.roots(net, outs, error[start : start + len(outs[-1])])
            start += len(outs[-1])
            tensors += planted
            seeds += errors
        torch.autograd.backward(tensors, seeds)
    assert logits is not None
    assert value is not None
    assert spikes is not None
    slots = [steps * len(target) * math.prod(layer.output_shape) for layer in net.all]
    return Record(logits / steps, value, spikes, slots)
