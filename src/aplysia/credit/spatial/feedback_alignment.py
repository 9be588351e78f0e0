"""Feedback alignment: the error comes down through fixed random weights.

δ_{l−1} = ψ(u_{l−1}) ∘ (B_lᵀ·δ_l),    B_l random, never changed
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aplysia.credit.contract import AbstractChained
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.rng import generator
from aplysia.types import Claim, Paper, Tunable


@dataclass(kw_only=True)
class FeedbackAlignment(AbstractChained):
    """Fixed random feedback, layer by layer.

    B is drawn from the law of the layer's initial (effective) weights, times `scale`.

    Attributes:
        scale: factor on B.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Lillicrap, Cownden, Tweed, Akerman",
        title="Random synaptic feedback weights support error backpropagation for deep learning",
        year=2016,
        venue="Nature Communications 7:13276",
        url="https://doi.org/10.1038/ncomms13276",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.FIXED_FEEDBACK})
    summary: ClassVar[str] = "fixed random feedback weights, layer by layer"
    tunable: ClassVar[Tunable] = {"scale": (0.1, 10.0, True)}

    scale: float = 1.0

    def start(self, net: Net) -> dict[str, Tensor]:
        return {
            layer.name: self.scale * layer.draw_effective(generator("cpu", self.seed, "feedback", layer.name))
            for layer in net.fed_back
        }

    def feedback(self, layer: Layer, weight: Tensor) -> Tensor:
        return self.tensors[layer.name]
