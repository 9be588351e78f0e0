"""What no implementation of a training step can do without: the products of drives, errors and weights, and nothing else.

The products are those of a net of ours, one layer at a time and all steps at once: forward, weight gradients, and the input
gradients of every layer but the first, for the rules that need them. A constant input passes the first layer once. The operands
are random and ready; no neuron, trace, loss or optimiser runs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import interleave
import torch
from interleave import Step
from torch import Tensor

from aplysia.nets.layer import Layer
from aplysia.nets.net import Net

FORWARD, UPDATES, ERRORS = "forward", "weight gradients", "input gradients"
# The parts that a rule needs: whether or not it sends errors down through the layers.
CHAINED, DIRECT = (FORWARD, UPDATES, ERRORS), (FORWARD, UPDATES)
FLOORS = {"floor_chained": CHAINED, "floor_direct": DIRECT}


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


@dataclass(frozen=True)
class Floor:
    """The products of a net as contestants, in several variants.

    Attributes:
        net: whose products.
        batch, steps: B and T.
        variants: name -> what to give `parts`.
    """

    net: Net
    batch: int
    steps: int
    variants: dict[str, dict[str, Any]]

    def contestants(self) -> dict[str, Step]:
        """Every part of every variant."""
        return {
            _name(part, variant): step
            for variant, how in self.variants.items()
            for part, step in parts(self.net, batch=self.batch, steps=self.steps, **how).items()
        }

    def settle(self, seconds: dict[str, list[float]], variant: str | None = None) -> dict[str, Any]:
        """Take the parts out of what was measured, and put the floors in: `floor_chained` and `floor_direct`.

        Args:
            seconds: of everyone, round by round.
            variant: what the floors are made of; the fastest unless said.
        """

        def rounds(variant: str, wanted: tuple[str, ...]) -> list[float]:
            return [sum(each) for each in zip(*(seconds[_name(part, variant)] for part in wanted), strict=True)]

        best = variant or min(self.variants, key=lambda name: statistics.median(rounds(name, CHAINED)))
        counts = operations(self.net, batch=self.batch, steps=self.steps)
        floors = {name: rounds(best, wanted) for name, wanted in FLOORS.items()}
        speeds = {
            name: {variant: _gflops(counts, wanted, rounds(variant, wanted)) for variant in self.variants}
            for name, wanted in FLOORS.items()
        }
        spreads = {
            variant: {part: interleave.spread(seconds.pop(_name(part, variant))) for part in CHAINED}
            for variant in self.variants
        }
        seconds |= floors
        return {"variant": best, "parts": spreads, "operations": counts, "gflops": speeds}


def times(seconds: dict[str, list[float]], needs: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """How many times its floor each contestant takes, by the products that it needs."""
    of = {wanted: name for name, wanted in FLOORS.items()}
    return {name: interleave.ratio(seconds, name, of[wanted]) for name, wanted in needs.items()}


def _name(part: str, variant: str) -> str:
    return f"floor: {part}, {variant}"


def _gflops(counts: dict[str, int], wanted: tuple[str, ...], seconds: list[float]) -> float:
    return sum(counts[part] for part in wanted) / statistics.median(seconds) / 1e9


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
