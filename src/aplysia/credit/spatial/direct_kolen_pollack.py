"""Direct Kolen-Pollack: direct feedback whose weights learn as the readout's weights do.

    g_l = B_lᵀ·e                 ∂B_l = r·(Σ_t e[t] ⊗ a_l[t] + κ·B_l)          the optimiser's step on ∂B_l changes B_l

For the last hidden layer ∂B is the readout's own gradient, so that B approaches W_o as in Kolen-Pollack; below, it is the
gradient a readout placed on that layer would get if it made the same error. a_l is what the layer sends, spike by spike, as the
readout without memory pairs it. The authors train B by an optimiser of its own; here it is the net's, with r as its relative
rate, and κ is the decay, which the forward weights are not given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractSeeded, Seen
from aplysia.errors import RecipeError
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.ledger.sheet import Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.ops.geometry import features
from aplysia.ops.wide import wide_product
from aplysia.rng import generator
from aplysia.types import Claim, Cost, Paper, Tunable


@dataclass(kw_only=True)
class DirectKolenPollack(AbstractSeeded):
    """Direct feedback learnt from output errors and hidden activity.

    Attributes:
        scale: standard deviation of B's start in units of 1/√m, for m outputs.
        rate: r ≥ 0, factor on the gradient of B; with an optimiser that divides by the gradient's size it does nothing.
        decay: κ ≥ 0.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Webster, Choi, Ahn",
        title="Learning the connections in direct feedback alignment",
        year=2021,
        venue="OpenReview",
        url="https://github.com/webstah/dkp-gist",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.UNLOCKED})
    summary: ClassVar[str] = "direct feedback that learns from output errors and hidden activity"
    tunable: ClassVar[Tunable] = {"rate": (0.01, 1.0, True)}

    scale: float = 0.2
    rate: float = 0.1
    decay: float = 1e-4

    def __post_init__(self) -> None:
        for key in ("scale", "rate", "decay"):
            if not (getattr(self, key) >= 0.0 and math.isfinite(getattr(self, key))):
                raise RecipeError(
                    f"rule.{key}", expected="a number ≥ 0", got=repr(getattr(self, key)), fix="use the default"
                )

    def start(self, net: Net) -> dict[str, Tensor]:
        made = {}
        for layer in net.hidden:
            source = generator("cpu", self.seed, "direct feedback", layer.name)
            drawn = torch.randn(net.classes, layer.units, generator=source) * (self.scale / math.sqrt(net.classes))
            made[layer.name] = drawn.to(layer.weight)
        return made

    def trained(self, net: Net) -> list[str]:
        return [layer.name for layer in net.hidden]

    def observe(self, net: Net, seen: Seen) -> None:
        error = seen.error.flatten(0, 1)
        for place, layer in enumerate(net.hidden):
            feedback = self.tensors[layer.name]
            # Where traces do not hear noise, the readout's own gradient does not either.
            heard = seen.sent(net, place) if self.noise.traced else seen.outs[place].detach()
            # Under autocast the product is narrow; what is gathered is not.
            update = (
                wide_product(error.t(), features(heard.flatten(0, 1))).to(feedback.dtype).mul_(self.rate * seen.share)
            )
            if seen.start == 0:
                update.add_(feedback.detach(), alpha=self.rate * self.decay)
            feedback.grad = update if feedback.grad is None else feedback.grad + update

    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        return wide_product(error.flatten(0, 1), self.tensors[layer.name].detach()).view_as(out)

    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        return Cost(writes=sum(self.tensors[layer.name].numel() for layer in net.hidden))

    def errors(self, sheet: Sheet) -> list[Charge]:
        made = []
        for layer in sheet.net.hidden:
            made.append(sheet.projected(layer.name, inputs=sheet.classes, outputs=layer.units))
            stored = sheet.classes * layer.units
            writes = sheet.habits.applies * stored
            dense, real = sheet.slots * stored, sheet.real_signals(self.noise) and self.noise.traced
            heard = {"macs": dense} if real else {"acs": sheet.activity.spikes[layer.name] * sheet.classes}
            amount = Amount(dense=dense, feedback_reads=writes, feedback_writes=writes, **heard)
            made.append(Charge(layer.name, Phase.UPDATE, amount))
        return made
