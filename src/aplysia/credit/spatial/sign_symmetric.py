"""Sign-symmetric feedback: the forward weights' signs, with magnitudes of the feedback's own.

    δ_{l−1} = ψ(u_{l−1}) ∘ (B_lᵀ·δ_l),    B_l = |M_l| ∘ sign(W_l)

Three choices of M: one constant per layer (uniform), drawn once (fixed), drawn anew for every step (redrawn). Each moves
one bit per weight and step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractChained
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.rng import generator
from aplysia.types import Claim, Cost, Paper


class AbstractMagnitude(ABC):
    """|M| of one layer.

    Attributes:
        redrawn: whether it is drawn anew after every step.
    """

    redrawn: ClassVar[bool] = False

    @abstractmethod
    def draw(self, layer: Layer, seed: int, step: int) -> Tensor | None:
        """|M| shaped like the weight for this step, or None to keep the last one. Step −1 is the attachment."""


@dataclass(frozen=True)
class UniformMagnitude(AbstractMagnitude):
    """One constant per layer: the root mean square of the initial effective weights (Liao et al. 2016, uSF).

    Where these start at 0 (a skip gain, a readout), that of a draw from their law.
    """

    def draw(self, layer: Layer, seed: int, step: int) -> Tensor | None:
        if step >= 0:
            return None
        weight = layer.effective_weight()
        if not weight.any():
            weight = layer.draw_effective(generator("cpu", seed, "magnitude", layer.name))
        return weight.square().mean().sqrt().expand_as(weight)


@dataclass(frozen=True)
class FixedMagnitude(AbstractMagnitude):
    """Drawn once from the law of the initial effective weights (frSF)."""

    def draw(self, layer: Layer, seed: int, step: int) -> Tensor | None:
        if step >= 0:
            return None
        return layer.draw_effective(generator("cpu", seed, "magnitude", layer.name)).abs()


@dataclass(frozen=True)
class RedrawnMagnitude(AbstractMagnitude):
    """Drawn anew after every step (brSF)."""

    redrawn: ClassVar[bool] = True

    def draw(self, layer: Layer, seed: int, step: int) -> Tensor | None:
        return layer.draw_effective(generator("cpu", seed, "magnitude", layer.name, step)).abs()


@dataclass(kw_only=True)
class SignSymmetric(AbstractChained):
    """Feedback with the signs of the forward weights.

    Attributes:
        magnitude: where |M| comes from.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Liao, Leibo, Poggio",
        title="How important is weight symmetry in backpropagation?",
        year=2016,
        venue="AAAI",
        url="https://arxiv.org/abs/1510.05067",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset()
    summary: ClassVar[str] = "feedback with the forward weights' signs; uniform, fixed or redrawn magnitudes"

    magnitude: AbstractMagnitude = field(default_factory=UniformMagnitude)

    def start(self, net: Net) -> dict[str, Tensor]:
        made = {}
        for layer in net.fed_back:
            drawn = self.magnitude.draw(layer, self.seed, -1)
            assert drawn is not None
            made[layer.name] = drawn
        return made

    def feedback(self, layer: Layer, weight: Tensor) -> Tensor:
        return self.tensors[layer.name] * torch.sign(weight.detach())

    def transported(self, net: Net, steps: int) -> list[Charge]:
        made = []
        for layer in net.fed_back:
            signs = layer.weight.numel() * steps
            drawn = signs if self.magnitude.redrawn else 0
            amount = Amount(bits=signs, forward_reads=signs, feedback_writes=signs, random_numbers=drawn)
            made.append(Charge(layer.name, Phase.TRANSPORT, amount))
        return made

    @torch.no_grad()
    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        """All signs cross over; magnitudes are redrawn where the choice says so."""
        drawn = 0
        for layer in net.fed_back:
            magnitude = self.magnitude.draw(layer, self.seed, step)
            if magnitude is not None:
                self.tensors[layer.name].copy_(magnitude)
                drawn += magnitude.numel()
        signs = sum(layer.weight.numel() for layer in net.fed_back)
        return Cost(events=1, words=0, bits=signs, writes=signs, random_numbers=drawn)
