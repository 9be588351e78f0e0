"""Steps that vanish at the cell's bounds: resistive switching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aplysia.devices.base import Cells
from aplysia.devices.law import AbstractStep


@dataclass(frozen=True, kw_only=True)
class SoftBounds(AbstractStep):
    """f₊ = 1 − w/w_high,   f₋ = 1 − w/w_low, with the bounds of the cell.

    Its symmetry point is (s₊ − s₋)/(s₊/w_high − s₋/w_low).
    """

    summary: ClassVar[str] = "steps vanish at the bounds (resistive switching)"

    def factors(self, weight: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        return 1.0 - weight / cells["high"], 1.0 - weight / cells["low"]

    def own(self, normal: Callable[[], Tensor]) -> Cells:
        return {}
