"""Zeroth order, single point: the loss of a noisy pass, times the noise itself.

    g_l[t] = (ℓ[t] − b)·z_l[t]/α          ℓ[t] the loss of one sample at one step, b a baseline

An unbiased estimate of the gradient of the noise-smoothed loss, whose variance grows with the number of units: nothing but a
scalar comes back from the output. The update is the three-factor one, ψ(u) ∘ g paired with the presynaptic trace; the readout
learns by its exact gradient, which we infer from the published accuracies and could not read. Without antithetic noise and a
baseline, and at rates a hundred times those of other rules, it falls to chance; a fair comparison shows it with both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSeeded, Seen
from aplysia.errors import PairError, RecipeError
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.ledger.sheet import Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net, noise_amplitude
from aplysia.nets.noise import Noise
from aplysia.ranks import present
from aplysia.types import Claim, Paper, Tunable

_MEAN = "baseline"


class AbstractBaseline(ABC):
    """What is subtracted from a loss, independent of the noise it is paired with."""

    @abstractmethod
    def level(self, losses: Tensor, memory: Tensor) -> Tensor:
        """b for the losses `[B]` of one step; `memory`, 0-dim and NaN at first, is kept from step to step."""


@dataclass(frozen=True)
class NoBaseline(AbstractBaseline):
    """Nothing."""

    def level(self, losses: Tensor, memory: Tensor) -> Tensor:
        return torch.zeros_like(losses)


@dataclass(frozen=True, kw_only=True)
class RunningBaseline(AbstractBaseline):
    """The running mean of the losses of earlier steps, whatever the sample: what a chip can have.

    Attributes:
        momentum: of the running mean.
    """

    momentum: float = 0.99

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise RecipeError(
                "rule.baseline.momentum", expected="a number in [0, 1)", got=repr(self.momentum), fix="use 0.99"
            )

    def level(self, losses: Tensor, memory: Tensor) -> Tensor:
        mean = present().average(losses.mean())
        before = torch.where(memory.isnan(), mean, memory)
        memory.copy_(before.lerp(mean, 1.0 - self.momentum))
        return before.expand_as(losses)


@dataclass(frozen=True)
class OthersBaseline(AbstractBaseline):
    """The mean loss of the other samples of the batch at the same step; a chip that learns sample by sample has no batches."""

    def level(self, losses: Tensor, memory: Tensor) -> Tensor:
        ranks = present()
        count = ranks.count(len(losses))
        if count == 1:
            return torch.zeros_like(losses)
        return (ranks.total(losses.sum()) - losses) / (count - 1)


@dataclass(kw_only=True)
class ZerothOrder(AbstractSeeded):
    """A scalar loss and the noise itself.

    Attributes:
        noise: what the forward pass is disturbed by; α > 0.
        baseline: what is subtracted from the loss.
        scale: factor on the hidden layers' errors, since their useful learning rate lies far below the readout's.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Spall; at the neurons as the baseline of Xiao, Meng, Zhang, He, Lin (2024)",
        title="A one-measurement form of simultaneous perturbation stochastic approximation",
        year=1997,
        venue="Automatica 33",
        url="https://arxiv.org/abs/2407.12516",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.UNLOCKED, Claim.RESPONSE})
    summary: ClassVar[str] = "the loss of a noisy pass times the noise (single-point zeroth order)"
    tunable: ClassVar[Tunable] = {"scale": (0.001, 0.5, True)}

    noise: Noise = field(default_factory=Noise)
    baseline: AbstractBaseline = field(default_factory=OthersBaseline)
    scale: float = 0.02

    _errors: dict[str, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.noise.alpha == 0.0:
            raise RecipeError(
                "rule.noise.alpha",
                expected="a number > 0, since the rule learns from noise alone",
                got="0",
                fix="use 0.2",
            )

    def check_loss(self, loss: AbstractLoss) -> None:
        if not loss.per_step:
            raise PairError(
                "rule ZerothOrder",
                expected="a loss that is a sum over steps, since each step's noise is paired with that step's loss",
                got=f"{type(loss).__name__}, known only at the end of the sequence",
                fix="set loss=stepwise, or rule=pseudo_zeroth_order",
            )

    def start(self, net: Net) -> dict[str, Tensor]:
        return {_MEAN: net.readout.weight.new_full((), torch.nan)}

    def observe(self, net: Net, seen: Seen) -> None:
        assert seen.source is not None, "checked above"
        losses = seen.loss.samples(seen.outs[-1].detach(), seen.target, seen.steps)
        gap = torch.stack([step - self.baseline.level(step, self.tensors[_MEAN]) for step in losses])
        # The loss is a mean over the batch, so each sample's share of it is 1/B.
        gap = gap * (self.scale / len(seen.target))
        self._errors = {}
        for layer, drawn in zip(net.hidden, seen.done.noise, strict=True):
            factor, z = gap / noise_amplitude(layer, seen.source), drawn.all()
            self._errors[layer.name] = z.mul_(factor.view(*factor.shape, *[1] * (z.ndim - 2)))

    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        # Not kept beyond its use: it is as large as what the layer sends.
        return self._errors.pop(layer.name)

    def errors(self, sheet: Sheet) -> list[Charge]:
        """One number goes to every unit of a sample and step, which multiplies it with its own noise."""
        width = sheet.width(sheet.net.readout)
        return [
            Charge(
                layer.name,
                Phase.ERROR,
                Amount(words=sheet.slots, bits=sheet.slots * width, updates=sheet.slots * layer.units),
            )
            for layer in sheet.net.hidden
        ]
