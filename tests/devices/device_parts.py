"""What the tests of devices share: arrays of cells, laws written out for one cell and one pulse, and statistics.

A statistical check computes z-scores, normal where the code is right, and fails beyond LIMIT: two-sided 6·10⁻⁷ a score. Every
test has at most 100 scores, so a right library fails one such test in 16,000 fresh seeds; here the seeds are fixed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from aplysia.devices.base import AbstractDevice, Cells

LIMIT = 5.0

# (weight, the cell's numbers) → f₊ or f₋, of plain numbers.
Factor = Callable[[float, dict[str, float]], float]


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def array(device: AbstractDevice, weight: Tensor, seed: int = 0) -> tuple[Tensor, Cells]:
    """A weight and its cells; the weight given is left alone."""
    held = weight.clone()
    return held, device.cells(held, source(seed))


def pulsed(
    device: AbstractDevice, weight: Tensor, cells: Cells, up: Tensor | float, down: Tensor | float, seed: int = 0
) -> int:
    """Pulses, given for all cells or one by one."""
    ups, downs = (torch.as_tensor(n, dtype=weight.dtype).expand(weight.shape).clone() for n in (up, down))
    return device.step(weight, cells, ups, downs, source(seed))


def by_hand(
    w: float, order: str, cell: dict[str, float], quantum: float, rise: Factor, fall: Factor, bounds: bool = True
) -> float:
    """One cell without noise, one pulse after the other: `order` is made of + and −."""
    for sign in order:
        if sign == "+":
            w = w + quantum * cell["up"] * max(0.0, rise(w, cell))
        else:
            w = w - quantum * cell["down"] * max(0.0, fall(w, cell))
        w = min(max(w, cell["low"]), cell["high"])
    return w


def one(cells: Cells, index: int) -> dict[str, float]:
    return {name: float(cell.flatten()[index]) for name, cell in cells.items()}


def mean_score(samples: Tensor, mean: float, variance: float | None = None) -> float:
    """How many standard errors the mean of samples is from where it should be."""
    spread = float(samples.var()) if variance is None else variance
    return (float(samples.mean()) - mean) / math.sqrt(spread / samples.numel())


def variance_score(samples: Tensor, mean: float, variance: float) -> float:
    """The same for the variance about a known mean, by the samples' own fourth moment."""
    return mean_score((samples - mean).square(), variance)


def assert_scores(*scores: float) -> None:
    assert 0 < len(scores) <= 100
    assert all(abs(score) < LIMIT for score in scores), scores
