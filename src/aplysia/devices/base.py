"""What a device at a cross point is: a weight within bounds that pulses move up or down, each by about a quantum."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import RecipeError

# What differs from cell to cell, and what a cell keeps beside its weight.
Cells = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class AbstractDevice(ABC):
    """The cells of an array: settings only. What differs from cell to cell is drawn once by `cells` and handed in again.

    Attributes:
        bound: w_max > 0, half the range of a nominal cell, in weights.
        quantum: Δw_min, the nominal step of one pulse, in weights; None: any real step can be made.
        summary: one line for `aplysia list devices`.
    """

    summary: ClassVar[str]

    bound: float = 1.0
    quantum: float | None = field(default=None, init=False)

    @abstractmethod
    def cells(self, weight: Tensor, generator: torch.Generator) -> Cells:
        """Make cells that hold this weight.

        Args:
            weight: any shape; what lies outside a cell's bounds is cut to them, in place.
            generator: of all that differs from cell to cell.

        Returns:
            tensors of the weight's dtype and device; they go into checkpoints.
        """

    @abstractmethod
    def step(self, weight: Tensor, cells: Cells, up: Tensor, down: Tensor, generator: torch.Generator) -> int:
        """Move the cells, in place.

        Args:
            weight: what is read of the array, and computed with.
            cells: of this weight; may be written too.
            up, down: pulses of each cell, whole numbers ≥ 0; real steps in weights where there is no quantum.
            generator: of the order of pulses and of their noise.

        Returns:
            the number of writes that were made.
        """


@dataclass(frozen=True, kw_only=True)
class AbstractCell(AbstractDevice):
    """One array moved by pulses: what arrays coupled to each other are made of.

    Attributes:
        quantum: Δw_min > 0, at most the range 2·w_max.
    """

    quantum: float = 0.001

    @abstractmethod
    def symmetry(self, cells: Cells) -> Tensor:
        """Where a pulse up and a pulse down are equally large, for each cell; 0 where there is no such weight.

        Equal numbers of pulses up and down drive a weight there.
        """


def check_bound(bound: float) -> None:
    """Raise `RecipeError` unless weights have a range."""
    if not (bound > 0.0 and math.isfinite(bound)):
        raise RecipeError("optimiser.device.bound", expected="a number > 0", got=repr(bound), fix="use 1.0")


def check_quantum(quantum: float, bound: float) -> None:
    """Raise `RecipeError` unless a pulse can move a weight within its range."""
    if not 0.0 < quantum <= 2.0 * bound:
        raise RecipeError(
            "optimiser.device.quantum",
            expected=f"a step in (0, {2.0 * bound:g}], the range of a weight",
            got=repr(quantum),
            fix=f"use at most {2.0 * bound:g}, better {bound / 500:g}, a thousandth of the range",
        )


def check_numbers(device: object, names: tuple[str, ...], *, where: str = "optimiser.device", low: float = 0.0) -> None:
    """Raise `RecipeError` unless each of these settings is a finite number that is not below `low`."""
    for name in names:
        value = getattr(device, name)
        if not (math.isfinite(value) and value >= low):
            kind = "a finite number" if low == -math.inf else f"a finite number ≥ {low:g}"
            raise RecipeError(f"{where}.{name}", expected=kind, got=repr(value), fix="use 0 for none")
