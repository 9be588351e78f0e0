"""Symmetric feedback: backpropagation.

    δ_{l−1} = ψ(u_{l−1}) ∘ (W_lᵀ·δ_l)

The feedback weight is the forward weight itself, so on a chip every weight must be copied across after every update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractChained
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.types import Claim, Cost, Paper


@dataclass(kw_only=True)
class Symmetric(AbstractChained):
    """Error through the transposed forward weights: the reference every other rule is measured against."""

    paper: ClassVar[Paper] = Paper(
        authors="Rumelhart, Hinton, Williams",
        title="Learning representations by back-propagating errors",
        year=1986,
        venue="Nature 323",
        url="https://doi.org/10.1038/323533a0",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.EXACT})
    summary: ClassVar[str] = "backpropagation: error through the forward weights, copied after every update"

    def start(self, net: Net) -> dict[str, Tensor]:
        return {}

    def feedback(self, layer: Layer, weight: Tensor) -> Tensor:
        return weight

    def transported(self, net: Net, steps: int) -> list[Charge]:
        return [
            Charge(
                layer.name,
                Phase.TRANSPORT,
                Amount(
                    words=words,
                    bits=words * torch.finfo(layer.weight.dtype).bits,
                    forward_reads=words,
                    feedback_writes=words,
                ),
            )
            for layer in net.fed_back
            for words in (layer.weight.numel() * steps,)
        ]

    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        """One whole copy a step: every weight with an error slot crosses over."""
        words = sum(layer.weight.numel() for layer in net.fed_back)
        width = torch.finfo(net.readout.weight.dtype).bits
        return Cost(events=1, words=words, bits=words * width, writes=words)
