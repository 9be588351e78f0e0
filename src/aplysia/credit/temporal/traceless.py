"""Spatial learning through time (SLTT): online as with traces, but each error is paired with the same step's input.

ΔW_l ∝ Σ_t δ_l[t] ⊗ s_{l−1}[t]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aplysia.credit.temporal.online import AbstractOnline
from aplysia.nets.route import AbstractEligibility, Instantaneous
from aplysia.types import Paper


@dataclass(frozen=True, kw_only=True)
class Traceless(AbstractOnline):
    """Online without traces; memory does not grow with T."""

    paper: ClassVar[Paper] = Paper(
        authors="Meng, Xiao, Yan, Wang, Lin, Luo",
        title="Towards memory- and time-efficient backpropagation for training spiking neural networks",
        year=2023,
        venue="ICCV",
        url="https://arxiv.org/abs/2302.14311",
    )
    summary: ClassVar[str] = "online without traces (SLTT): each step's error with the same step's input"

    @property
    def eligibility(self) -> AbstractEligibility:
        return Instantaneous()
