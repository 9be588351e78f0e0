"""What no implementation of a training step can do without: the products of drives, errors and weights, and nothing else.

The products are those of a net of ours, one layer at a time and all steps at once: forward, weight gradients, and the input
gradients of every layer but the first, for the rules that need them. A constant input passes the first layer once. The operands
are random and ready; no neuron, trace, loss or optimiser runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from interleave import Step
from torch import Tensor

from aplysia.nets.layer import Layer
from aplysia.nets.net import Net

FORWARD, UPDATES, ERRORS = "forward", "weight gradients", "input gradients"
# The parts that a rule needs: whether or not it sends errors down through the layers.
CHAINED, DIRECT = (FORWARD, UPDATES, ERRORS), (FORWARD, UPDATES)


def parts(
    net: Net,
    *,
    batch: int,
    steps: int,
    dtype: torch.dtype = torch.float32,
    order: torch.memory_format = torch.contiguous_format,
) -> dict[str, Step]:
    """The three kinds of products of a step, each all layers.

    Args:
        net: whose shapes, geometries and device count.
        batch, steps: B and T.
        dtype: of all operands.
        order: of images and kernels in memory.
    """
    made: dict[str, list[Step]] = {FORWARD: [], UPDATES: [], ERRORS: []}
    source = torch.Generator().manual_seed(0)
    device = net.readout.weight.device

    def operand(*shape: int) -> Tensor:
        drawn = torch.rand(shape, generator=source).to(device, dtype)
        return drawn.to(memory_format=order) if drawn.ndim == 4 else drawn

    for number, layer in enumerate(net.all):
        rows, g = _rows(number, batch, steps), layer.geometry
        drive, delta = operand(rows, *layer.drive_shape), operand(rows, *layer.current_shape)
        weight = operand(*layer.weight.shape)
        made[FORWARD].append(partial(g.forward, drive, weight))
        made[UPDATES].append(partial(g.outer, delta, drive, weight.shape))
        if number:
            made[ERRORS].append(partial(g.error, delta, weight, drive.shape))
    return {name: _in_turn(steps_of_it) for name, steps_of_it in made.items()}


def operations(net: Net, *, batch: int, steps: int) -> dict[str, int]:
    """Floating-point operations of each part, two for a multiply and add."""
    counts = [2 * _rows(number, batch, steps) * _products(layer) for number, layer in enumerate(net.all)]
    return {FORWARD: sum(counts), UPDATES: sum(counts), ERRORS: sum(counts[1:])}


def _rows(number: int, batch: int, steps: int) -> int:
    return batch * (steps if number else 1)


def _products(layer: Layer) -> int:
    return layer.weight.numel() * math.prod(layer.current_shape[1:])


def _in_turn(calls: list[Callable[[], object]]) -> Step:
    @torch.no_grad()
    def run() -> None:
        for call in calls:
            call()

    return run
