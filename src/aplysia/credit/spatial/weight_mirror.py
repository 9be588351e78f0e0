"""Weight mirror: feedback weights learn the forward ones from noise, in a phase of their own.

    mirror phase:  x ~ N(0, 1) into layer l,  y = W_l·x,   B_l ← (1 − η)·B_l + η·E_batch[y ⊗ x]

Since E[y ⊗ x] = W, B follows W with a lag of 1/η steps and a noise that falls with the number of samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractChained
from aplysia.errors import RecipeError
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.ledger.reach import connections
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.rng import generator
from aplysia.types import Claim, Cost, Paper, Tunable

# Not a layer: for each tap of a kernel, how many pairs of positions it sees.
_PAIRS = "pairs/"


@dataclass(kw_only=True)
class WeightMirror(AbstractChained):
    """Feedback learnt from noise.

    The original (Akrout et al. 2019) is for rate units. Ours, for spiking ones: y is the synaptic current, read before the
    membrane, so that no operating point is needed; and the Hebbian step is a moving average, whose fixed point is W itself
    and which therefore needs no renormalisation. Both are our choices.

    Attributes:
        rate: η in (0, 1].
        samples: noise samples per mirror phase.
        interval: steps of training between two mirror phases.
        scale: factor on the random start of B (the law of the initial weights).
    """

    paper: ClassVar[Paper] = Paper(
        authors="Akrout, Wilson, Humphreys, Lillicrap, Tweed",
        title="Deep learning without weight transport",
        year=2019,
        venue="NeurIPS",
        url="https://arxiv.org/abs/1904.05391",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.SECOND_PHASE})
    summary: ClassVar[str] = "feedback learns the forward weights from noise, in a phase of its own"
    tunable: ClassVar[Tunable] = {"rate": (0.005, 0.5, True)}

    rate: float = 0.05
    samples: int = 32
    interval: int = 1
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise RecipeError("rule.rate", expected="a number in (0, 1]", got=repr(self.rate), fix="use 0.05")
        for name in ("samples", "interval"):
            if getattr(self, name) < 1:
                raise RecipeError(
                    f"rule.{name}", expected="at least 1", got=repr(getattr(self, name)), fix="use 1 or more"
                )

    def start(self, net: Net) -> dict[str, Tensor]:
        made = {}
        for layer in net.fed_back:
            made[layer.name] = self.scale * layer.draw_effective(generator("cpu", self.seed, "feedback", layer.name))
            made[_PAIRS + layer.name] = self._pairs(layer)
        return made

    def feedback(self, layer: Layer, weight: Tensor) -> Tensor:
        return self.tensors[layer.name]

    def transported(self, net: Net, steps: int) -> list[Charge]:
        phases, made = steps // self.interval, []
        for layer in net.fed_back:
            products, stored = self.samples * connections(layer), layer.weight.numel()
            amount = Amount(
                dense=2 * products,
                macs=2 * products,
                forward_reads=products,
                feedback_reads=stored,
                feedback_writes=stored,
                random_numbers=self.samples * math.prod(layer.drive_shape),
            )
            made.append(Charge(layer.name, Phase.TRANSPORT, amount.times(phases)))
        return made

    @torch.no_grad()
    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        if (step + 1) % self.interval:
            return Cost()
        cost = Cost()
        for layer in net.fed_back:
            noise = self._noise(layer, step)
            weight = layer.effective_weight()
            estimate = layer.geometry.outer(layer.geometry.forward(noise, weight), noise, weight.shape)
            estimate /= self.samples * self.tensors[_PAIRS + layer.name]
            self.tensors[layer.name].lerp_(estimate, self.rate)
            cost += Cost(writes=weight.numel(), random_numbers=noise.numel())
        return cost

    def _noise(self, layer: Layer, step: int) -> Tensor:
        device = layer.weight.device
        source = generator(device, self.seed, "mirror", layer.name, step)
        shape = (self.samples, *layer.drive_shape)
        return torch.randn(shape, generator=source, device=device, dtype=layer.weight.dtype)

    def _pairs(self, layer: Layer) -> Tensor:
        """Σ of x² reaching each tap for x = 1: the divisor that makes E[y ⊗ x] equal W (1 for dense weights)."""
        ones = torch.ones(1, *layer.drive_shape, dtype=layer.weight.dtype, device=layer.weight.device)
        out = torch.ones(1, *layer.current_shape, dtype=layer.weight.dtype, device=layer.weight.device)
        # A tap that only ever sees padding has no pairs; its weight acts on nothing, and its mirror may be 0.
        return layer.geometry.outer(out, ones, layer.weight.shape).clamp_(min=1.0)
