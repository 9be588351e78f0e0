"""Readout only: hidden layers keep their initial weights. The control that every table needs.

On easy data it explains most of what a hidden-layer rule seems to achieve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aplysia.credit.contract import AbstractSeeded
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.types import Claim, Paper


@dataclass(kw_only=True)
class ReadoutOnly(AbstractSeeded):
    """Only the readout learns, from its exact gradient; hidden layers are random features."""

    paper: ClassVar[Paper] = Paper(
        authors="control of this library",
        title="random hidden features with a trained readout",
        year=2026,
        venue="Aplysia",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset(
        {Claim.NO_TRANSPORT, Claim.FIXED_FEEDBACK, Claim.UNLOCKED, Claim.HIDDEN_FROZEN}
    )
    summary: ClassVar[str] = "only the readout learns (control)"

    def start(self, net: Net) -> dict[str, Tensor]:
        return {}

    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        return None

    def learning(self, net: Net, step: int) -> list[Layer]:
        return [net.readout]
