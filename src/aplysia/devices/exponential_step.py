"""Steps that change exponentially with the weight: filaments."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aplysia.devices.base import Cells, check_numbers
from aplysia.devices.law import AbstractStep


@dataclass(frozen=True, kw_only=True)
class ExponentialStep(AbstractStep):
    """f₊ = 1 − A₊·exp(γ₊·z),   f₋ = 1 − A₋·exp(−γ₋·z),   z = a·2w/(w_high − w_low) + b.

    Attributes:
        up_amplitude, down_amplitude: A₊, A₋; below 0 a step grows where the exponential does.
        up_rate, down_rate: γ₊, γ₋ ≥ 0.
        slope: a.
        offset: b.
    """

    summary: ClassVar[str] = "steps change exponentially with the weight (filaments)"

    up_amplitude: float = 0.1
    down_amplitude: float = 0.1
    up_rate: float = 2.3
    down_rate: float = 2.3
    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_numbers(self, ("up_rate", "down_rate"))
        check_numbers(self, ("up_amplitude", "down_amplitude", "slope", "offset"), low=-math.inf)

    def factors(self, weight: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        z = self.slope * 2.0 * weight / (cells["high"] - cells["low"]) + self.offset
        return (
            1.0 - self.up_amplitude * (self.up_rate * z).exp(),
            1.0 - self.down_amplitude * (-self.down_rate * z).exp(),
        )

    def own(self, normal: Callable[[], Tensor]) -> Cells:
        return {}
