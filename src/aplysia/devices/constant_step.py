"""The same step wherever the weight is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.devices.base import Cells
from aplysia.devices.law import AbstractStep


@dataclass(frozen=True, kw_only=True)
class ConstantStep(AbstractStep):
    """f₊ = f₋ = 1."""

    summary: ClassVar[str] = "the same step wherever the weight is"

    def factors(self, weight: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
        one = torch.ones_like(weight)
        return one, one

    def own(self, normal: Callable[[], Tensor]) -> Cells:
        return {}
