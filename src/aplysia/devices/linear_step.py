"""Steps that shrink linearly with the weight: capacitors and electrochemical cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aplysia.devices.base import Cells, check_numbers
from aplysia.devices.law import AbstractStep


@dataclass(frozen=True, kw_only=True)
class LinearStep(AbstractStep):
    """f₊ = 1 − γ₊·w/w_max₊,   f₋ = 1 + γ₋·w/w_max₋, with the nominal bounds w_max± = w_max·(1 ± centre).

    Without noise k pulses up lead from w₀ to w* + (w₀ − w*)·(1 − Δw_min·γ₊/w_max₊)^k, w* = w_max₊/γ₊.

    Attributes:
        up_slope: γ₊ ≥ 0; 1: no step up is left at the bound.
        down_slope: γ₋ ≥ 0.
        slope_spread: standard deviation of γ± between cells.
    """

    summary: ClassVar[str] = "steps shrink linearly with the weight"

    up_slope: float = 0.2
    down_slope: float = 0.2
    slope_spread: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, ("up_slope", "down_slope", "slope_spread"))

    def own(self, normal: Callable[[], Tensor]) -> Cells:
        if not self.slope_spread:
            return {}
        slopes = {"up_slope": self.up_slope, "down_slope": self.down_slope}
        return {name: (slope + self.slope_spread * normal()).abs() for name, slope in slopes.items()}

    def factors(self, weight: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        up, down = cells.get("up_slope", self.up_slope), cells.get("down_slope", self.down_slope)
        high, low = self.bound * (1.0 + self.centre), self.bound * (1.0 - self.centre)
        return 1.0 - up * weight / high, 1.0 + down * weight / low
