"""The grid on which a first-spike net steps, and how far its steps are from the closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aplysia.exchange.stepper import Stepper
from aplysia.nets.net import Net


@dataclass(frozen=True)
class Grid:
    """Windows cut into steps.

    Attributes:
        window: T.
        per_window: M.
        windows: how many a sample takes, that of the input counted in.
    """

    window: float
    per_window: int
    windows: int

    @property
    def dt(self) -> float:
        """T/M, in the unit of T."""
        return self.window / self.per_window

    @property
    def steps(self) -> int:
        """Of a sample."""
        return self.windows * self.per_window

    def spikes(self, earliness: Tensor, window: int = 0) -> Tensor:
        """Impulses `[steps, B, …]` of earliness `[B, …]` in a window; those of 0 stay away."""
        place = ((self.window - earliness) / self.dt).floor().clamp(0, self.per_window - 1).to(torch.int64)
        out = torch.zeros(self.steps, *earliness.shape, dtype=earliness.dtype)
        step = (place + window * self.per_window).unsqueeze(0)
        return out.scatter_(0, step, (earliness > 0).to(earliness.dtype).unsqueeze(0))

    def earliness(self, spikes: Tensor, window: int) -> Tensor:
        """Earliness `[B, …]` of impulses `[steps, B, …]`, each counted from the middle of its step, at most T."""
        steps = torch.arange(self.steps, dtype=spikes.dtype).view(-1, *[1] * (spikes.ndim - 1))
        when = (spikes * (steps + 0.5)).sum(0) * self.dt
        early = ((window + 1) * self.window - when).clamp(max=self.window)
        return torch.where(spikes.sum(0) > 0, early, torch.zeros_like(when))


@dataclass(frozen=True)
class Deviation:
    """How far the steps are from the closed form, on some samples.

    Attributes:
        layer: its name.
        mean, largest: of abs(x_steps − x) over units that fire in both; of potentials for a readout, in their own unit.
        changed: share of units that fire in one and not in the other.
    """

    layer: str
    mean: float
    largest: float
    changed: float


def compare(net: Net, graph: Any, grid: Grid, earliness: Tensor) -> tuple[list[Deviation], Tensor, Tensor]:
    """Run both on the same samples.

    Args:
        net: the first-spike net.
        graph, grid: what `to_nir` gave.
        earliness: `[B, …]` of the inputs.

    Returns:
        a row for each layer, and the outputs `[B, C]` of the closed form and of the steps.
    """
    with torch.no_grad():
        exact = net(earliness.unsqueeze(0)).outs
    names = [layer.name if layer.neuron.spiking else "output" for layer in net.all]
    watch = [f"{name}_neuron" if name != "output" else name for name in names]
    seen = Stepper(graph, grid.dt).run(grid.spikes(earliness), [w for w in watch if w != "output"])
    rows: list[Deviation] = []
    stepped = torch.empty(0)
    for place, (layer, name, want) in enumerate(zip(net.all, watch, exact, strict=True), start=1):
        want = want[0].to(seen[name].dtype)
        stepped = grid.earliness(seen[name], place) if layer.neuron.spiking else seen[name][-1]
        both = (want > 0) & (stepped > 0) if layer.neuron.spiking else torch.ones_like(want, dtype=torch.bool)
        apart = (stepped - want).abs()[both]
        changed = ((want > 0) != (stepped > 0)).double().mean() if layer.neuron.spiking else torch.zeros(())
        some = apart.numel() > 0
        mean, largest = (float(apart.mean()), float(apart.max())) if some else (math.nan, math.nan)
        rows.append(Deviation(layer.name, mean, largest, float(changed)))
    return rows, exact[-1][0], stepped
