"""Two coupled arrays that learn where single devices are too unequal in their steps up and down (Tiki-Taka).

    A ← pulses of the gradient                                                 every update
    C ← C + rate·(A − A*) for some columns, by pulses of C's own quantum       every so many updates

C is the weight that acts, A* the symmetry point of each cell of A. Where up and down differ, noise drives a single array
towards its symmetry point, as if that were part of the loss. A is driven there too, but there it reads 0: nothing is
transferred.

After Gokmen & Haensch (2020), doi 10.3389/fnins.2020.00103, of which the abstract was read, and the documentation of IBM's
aihwkit. Ours: A* is exact and subtracted on reading, A is read without noise, C alone acts (no share of A is added).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.devices.base import AbstractCell, AbstractDevice, Cells, check_numbers
from aplysia.devices.pulses import rounded, split
from aplysia.devices.soft_bounds import SoftBounds
from aplysia.errors import RecipeError

# Names under which a cell of each array, A's weight, its symmetry point and the place in the cycle of columns are kept.
_FAST, _SLOW, _A, _ZERO, _TURN = "fast.", "slow.", "a", "zero", "turn"


@dataclass(frozen=True, kw_only=True)
class TikiTaka(AbstractDevice):
    """A fast array that gathers gradients, read column by column into a slow one, which is the weight.

    Attributes:
        fast: the cells of A; their quantum is what gradients are counted in.
        slow: the cells of C; their bound is the weight's.
        every: updates between transfers.
        columns: columns (inputs of a matrix) of a transfer, in turn; None: all.
        rate: share of A − A* that is added to C; A keeps it.
        bound, quantum: those of `slow` and `fast`.
    """

    summary: ClassVar[str] = "a fast array for gradients, transferred to a slow one that acts"

    fast: AbstractCell = field(default_factory=SoftBounds)
    slow: AbstractCell = field(default_factory=SoftBounds)
    every: int = 1
    columns: int | None = 1
    rate: float = 0.1
    bound: float = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        for name in ("every", "columns"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RecipeError(
                    f"optimiser.device.{name}", expected="a whole number of at least 1", got=repr(value), fix="use 1"
                )
        check_numbers(self, ("rate",))
        object.__setattr__(self, "bound", self.slow.bound)
        object.__setattr__(self, "quantum", self.fast.quantum)

    def cells(self, weight: Tensor, generator: torch.Generator) -> Cells:
        slow = self.slow.cells(weight, generator)
        a = torch.zeros_like(weight)
        fast = self.fast.cells(a, generator)
        # A starts where it reads 0. What was drawn stays: its cells are made once, then their weights are set.
        zero = self.fast.symmetry(fast)
        a.copy_(zero)
        if "beneath" in fast:
            fast["beneath"].copy_(zero)
        named = {_FAST + name: cell for name, cell in fast.items()} | {
            _SLOW + name: cell for name, cell in slow.items()
        }
        return named | {_A: a, _ZERO: zero, _TURN: weight.new_zeros(())}

    def step(self, weight: Tensor, cells: Cells, up: Tensor, down: Tensor, generator: torch.Generator) -> int:
        a = cells[_A]
        writes = self.fast.step(a, _of(cells, _FAST), up, down, generator)
        lines = weight[0].numel() if weight.ndim > 1 else 1
        columns = min(self.columns or lines, lines)
        groups = -(-lines // columns)
        turn = int(cells[_TURN]) + 1
        if turn % self.every == 0:
            first = (turn // self.every - 1) * columns
            asked = torch.zeros_like(weight).view(-1, lines)
            read = (a - cells[_ZERO]).view(-1, lines)[:, first : first + columns]
            asked[:, first : first + columns] = read * (self.rate / self.slow.quantum)
            signed = asked.sign() * rounded(asked.abs(), generator)
            rises, falls = split(signed.view_as(weight))
            writes += self.slow.step(weight, _of(cells, _SLOW), rises, falls, generator)
        cells[_TURN].fill_(turn % (self.every * groups))
        return writes


def _of(cells: Cells, prefix: str) -> Cells:
    return {name.removeprefix(prefix): cell for name, cell in cells.items() if name.startswith(prefix)}
