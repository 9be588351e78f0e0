"""Cells whose steps follow a law: everything such devices share, so that a law is two functions of the weight.

    up:    w ← w + Δw_min·s₊·(f₊(w)·(1 + σ_c·ξ) + σ_a·ξ)
    down:  w ← w − Δw_min·s₋·(f₋(w)·(1 + σ_c·ξ) + σ_a·ξ)        then cut to the bounds of the cell

with f± the law, s± factors of the cell, ξ ~ N(0, 1) anew for each pulse. The pulses of one update come in random order: where
a pulse leads depends on the weight it meets, so their order matters and their difference alone does not tell where they end.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aplysia.devices.base import AbstractCell, Cells, check_bound, check_numbers, check_quantum
from aplysia.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Spread:
    """What differs from cell to cell and from pulse to pulse. Standard deviations unless said otherwise; 0: nothing differs.

        s₊ = |1 + step·ξ − max(0, −asymmetry) + asymmetry_spread·η|       w_high = w_max₊·|1 + high·ζ|
        s₋ = |1 + step·ξ − max(0, +asymmetry) − asymmetry_spread·η|       w_low  = w_max₋·|1 + low·ζ'|

    Attributes:
        step: between the steps of cells, relative to the nominal one.
        cycle: σ_c, between the pulses of a cell, relative to its step at that weight.
        additive: σ_a, the same, relative to its step at f = 1 wherever the weight is.
        asymmetry: a mean, no deviation: by how much the steps down are smaller than those up (< 0: those up).
        asymmetry_spread: between cells; s₊ − s₋ has twice this deviation.
        high, low: of the upper and lower bound, relative to it.
        write: of what is read of a cell after each write, in nominal steps; the weight itself is kept beneath it, goes on
            without that noise, and the noise is drawn anew when the cell is written again.
    """

    step: float = 0.0
    cycle: float = 0.0
    additive: float = 0.0
    asymmetry: float = 0.0
    asymmetry_spread: float = 0.0
    high: float = 0.0
    low: float = 0.0
    write: float = 0.0

    def __post_init__(self) -> None:
        where = "optimiser.device.spread"
        check_numbers(self, ("step", "cycle", "additive", "asymmetry_spread", "high", "low", "write"), where=where)
        check_numbers(self, ("asymmetry",), where=where, low=-math.inf)


@dataclass(frozen=True, kw_only=True)
class AbstractStep(AbstractCell):
    """A device that is moved by pulses of a law f±.

    Attributes:
        centre: middle of the range, in units of w_max: the bounds are w_max·(centre ± 1). In (−1, 1), so that 0 is inside.
        spread: between cells and pulses.
    """

    centre: float = 0.0
    spread: Spread = field(default_factory=Spread)

    def __post_init__(self) -> None:
        check_bound(self.bound)
        check_quantum(self.quantum, self.bound)
        if not -1.0 < self.centre < 1.0:
            raise RecipeError(
                "optimiser.device.centre", expected="a number in (−1, 1)", got=repr(self.centre), fix="use 0"
            )

    @abstractmethod
    def factors(self, weight: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        """f₊ and f₋ at these weights, for cells with these bounds and settings; what is below 0 counts as 0."""

    @abstractmethod
    def own(self, normal: Callable[[], Tensor]) -> Cells:
        """What differs between cells in the law itself, shaped like the weight.

        Args:
            normal: draws one N(0, 1) per cell.
        """

    def cells(self, weight: Tensor, generator: torch.Generator) -> Cells:
        spread = self.spread

        def normal() -> Tensor:
            return torch.randn(weight.shape, generator=generator, device=generator.device, dtype=weight.dtype)

        common, half = 1.0 + spread.step * normal(), spread.asymmetry_spread * normal()
        made = {
            "up": (common - max(0.0, -spread.asymmetry) + half).abs(),
            "down": (common - max(0.0, spread.asymmetry) - half).abs(),
            "high": self.bound * (1.0 + self.centre) * (1.0 + spread.high * normal()).abs().clamp_min(1e-6),
            "low": -self.bound * (1.0 - self.centre) * (1.0 + spread.low * normal()).abs().clamp_min(1e-6),
        }
        made |= self.own(normal)
        weight.clamp_(made["low"], made["high"])
        if spread.write:
            made["beneath"] = weight.clone()
            weight.add_(normal(), alpha=self.quantum * spread.write)
        return made

    def step(self, weight: Tensor, cells: Cells, up: Tensor, down: Tensor, generator: torch.Generator) -> int:
        total = (up + down).flatten()
        # Few cells get a pulse in one update, and few of those get many: the k-th round goes through those with k at least.
        index = total.nonzero().squeeze(1)
        if len(index) == 0:
            return 0
        index = index[total[index].argsort(descending=True, stable=True)]
        left, ups = total[index], up.flatten()[index]
        picked = {name: cell.flatten()[index] for name, cell in cells.items()}
        kept = cells.get("beneath", weight)
        w = kept.flatten()[index]
        writes = int(left.sum())
        for count in _at_least(left):
            part = {name: cell[:count] for name, cell in picked.items()}
            # The next pulse is one of those left, each as likely as another.
            lot = torch.rand(count, generator=generator, device=w.device, dtype=w.dtype)
            rises = lot * left[:count] < ups[:count]
            w[:count] = self._pulsed(w[:count], part, rises, generator)
            ups[:count] -= rises.to(w.dtype)
            left[:count] -= 1.0
        kept.view(-1)[index] = w
        if self.spread.write:
            noise = torch.randn(w.shape, generator=generator, device=w.device, dtype=w.dtype)
            weight.view(-1)[index] = w + self.quantum * self.spread.write * noise
        return writes

    def _pulsed(self, w: Tensor, cells: Cells, rises: Tensor, generator: torch.Generator) -> Tensor:
        """Each cell after one pulse."""
        rise, fall = self.factors(w, cells)
        size = torch.where(rises, rise, fall).clamp_min(0.0)
        if self.spread.cycle or self.spread.additive:
            noise = torch.randn(w.shape, generator=generator, device=w.device, dtype=w.dtype)
            size = size + (self.spread.cycle * size + self.spread.additive) * noise
        moved = w + self.quantum * size * torch.where(rises, cells["up"], -cells["down"])
        return torch.minimum(torch.maximum(moved, cells["low"]), cells["high"])

    def symmetry(self, cells: Cells) -> Tensor:
        def excess(w: Tensor) -> Tensor:
            rise, fall = self.factors(w, cells)
            return cells["up"] * rise.clamp_min(0.0) - cells["down"] * fall.clamp_min(0.0)

        low, high = cells["low"].clone(), cells["high"].clone()
        crosses = (excess(low) > 0.0) & (excess(high) < 0.0)
        # Halving a range as often as a number has bits: laws need not be invertible on paper.
        for _ in range(60):
            middle = 0.5 * (low + high)
            above = excess(middle) > 0.0
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return torch.where(crosses, 0.5 * (low + high), torch.zeros_like(low))


def _at_least(counts: Tensor) -> list[int]:
    """How many of these are at least 1, at least 2, … up to the largest."""
    sizes = torch.bincount(counts.long())
    return sizes.flip(0).cumsum(0).flip(0)[1:].tolist()
