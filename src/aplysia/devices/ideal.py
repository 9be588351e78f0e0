"""A weight that any real step moves, within bounds: what an artificial net of equal bounds is trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.devices.base import AbstractDevice, Cells, check_bound


@dataclass(frozen=True, kw_only=True)
class Ideal(AbstractDevice):
    """w ← clip(w − η·grad, ±w_max): no quantum, so nothing is drawn."""

    summary: ClassVar[str] = "any real step, within bounds"

    def __post_init__(self) -> None:
        check_bound(self.bound)

    def cells(self, weight: Tensor, generator: torch.Generator) -> Cells:
        weight.clamp_(-self.bound, self.bound)
        return {}

    def step(self, weight: Tensor, cells: Cells, up: Tensor, down: Tensor, generator: torch.Generator) -> int:
        by = up - down
        weight.add_(by).clamp_(-self.bound, self.bound)
        return int(by.count_nonzero())
