"""Direct feedback alignment: the output error goes straight to every hidden layer through fixed random weights.

δ_l = ψ(u_l) ∘ (B_l·e),    B_l ∈ R^{n_l × m} random, never changed
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractSeeded
from aplysia.ledger.amount import Charge
from aplysia.ledger.sheet import Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.ops.wide import scaled_product, wide_product
from aplysia.rng import generator
from aplysia.types import Claim, Paper, Tunable


@dataclass(kw_only=True)
class DirectFeedback(AbstractSeeded):
    """Fixed random weights from the output error to each hidden layer.

    B_l ~ N(0, (scale)²/m) for m outputs. Results depend on the scale; untuned it makes the rule look worse than it is.

    Attributes:
        scale: standard deviation of B in units of 1/√m.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Nøkland",
        title="Direct feedback alignment provides learning in deep neural networks",
        year=2016,
        venue="NeurIPS",
        url="https://arxiv.org/abs/1609.01596",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.FIXED_FEEDBACK, Claim.UNLOCKED})
    summary: ClassVar[str] = "fixed random weights from the output error straight to each hidden layer"
    tunable: ClassVar[Tunable] = {"scale": (0.01, 1.0, True)}

    scale: float = 0.2

    def start(self, net: Net) -> dict[str, Tensor]:
        made = {}
        for layer in net.hidden:
            source = generator("cpu", self.seed, "direct feedback", layer.name)
            drawn = torch.randn(net.classes, layer.units, generator=source) * (self.scale / math.sqrt(net.classes))
            made[layer.name] = drawn.to(layer.weight)
        return made

    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        return wide_product(error.flatten(0, 1), self.tensors[layer.name]).view_as(out)

    def delta(self, layer: Layer, out: Tensor, error: Tensor, slope: Tensor) -> Tensor | None:
        return scaled_product(error.flatten(0, 1), self.tensors[layer.name], slope)

    def errors(self, sheet: Sheet) -> list[Charge]:
        return [sheet.projected(layer.name, inputs=sheet.classes, outputs=layer.units) for layer in sheet.net.hidden]
