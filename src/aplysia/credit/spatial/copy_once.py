"""Copy once: the feedback starts as a copy of the forward weights and stays.

    δ_{l−1} = ψ(u_{l−1}) ∘ (B_lᵀ·δ_l),    B_l = W_l at step 0

A cheap and strong control: whatever a scheme of repeated copies gains, it must gain over this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aplysia.credit.contract import AbstractChained
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.types import Claim, Paper


@dataclass(kw_only=True)
class CopyOnce(AbstractChained):
    """Feedback frozen at the initial forward weights; the one copy at the start is not counted as transport of training."""

    paper: ClassVar[Paper] = Paper(
        authors="control of this library",
        title="feedback frozen at initialisation, the limit of frozen backpropagation for an infinite interval",
        year=2026,
        venue="Aplysia",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.FIXED_FEEDBACK})
    summary: ClassVar[str] = "feedback starts as the forward weights and stays (control)"

    def start(self, net: Net) -> dict[str, Tensor]:
        return {layer.name: layer.effective_weight() for layer in net.fed_back}

    def feedback(self, layer: Layer, weight: Tensor) -> Tensor:
        return self.tensors[layer.name]
