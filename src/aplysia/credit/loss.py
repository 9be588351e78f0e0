"""Losses on the readout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.credit.seen import AbstractLoss
from aplysia.errors import RecipeError
from aplysia.ops.readout import softmax_error


@dataclass(frozen=True, kw_only=True)
class StepwiseLoss(AbstractLoss):
    """Cross-entropy with a share of squared error, at every step:

        L = (1/T)·Σ_t [ (1 − c)·CE(o[t], y) + c·mean_k (o_k[t] − 1[k = y])² ],   averaged over the batch

    The loss of OTTT (Xiao et al. 2022), there with c = 0.05 for CIFAR and 0.001 for event data.

    Attributes:
        mse_share: c in [0, 1].
    """

    per_step: ClassVar[bool] = True

    mse_share: float = 0.05

    def __post_init__(self) -> None:
        if not 0.0 <= self.mse_share <= 1.0:
            raise RecipeError("loss.mse_share", expected="a number in [0, 1]", got=repr(self.mse_share), fix="use 0.05")

    def value(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        flat, labels = out.flatten(0, 1), target.repeat(len(out))
        share = len(out) / steps
        loss = F.cross_entropy(flat, labels) * (1.0 - self.mse_share)
        if self.mse_share:
            loss = loss + self.mse_share * F.mse_loss(flat, F.one_hot(labels, out.shape[-1]).to(out.dtype))
        return loss * share

    @torch.no_grad()
    def error(self, out: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """In closed form, which takes a third of autograd's time:

        ∂L/∂o_k[t] = [ (1 − c)·(softmax_k(o[t]) − 1[k = y]) + (2c/C)·(o_k[t] − 1[k = y]) ] / (T·B)
        """
        c, (_, batch, classes) = self.mse_share, out.shape
        share = 1.0 / (steps * batch)
        if (found := softmax_error(out, target, (1.0 - c) * share, 2.0 * c * share / classes)) is not None:
            return found
        answer = target.expand(len(out), batch).unsqueeze(-1)
        logarithms = torch.log_softmax(out, -1)
        value = logarithms.gather(-1, answer).sum() * (-(1.0 - c) * share)
        error = logarithms.exp_().mul_((1.0 - c) * share)
        hit = -(1.0 - c) * share
        if c:
            distance = out.scatter_add(-1, answer, torch.full_like(out[..., :1], -1.0))
            value = value + distance.square().sum() * (c * share / classes)
            error.add_(distance, alpha=2.0 * c * share / classes)
        return value, error.scatter_add_(-1, answer, torch.full_like(out[..., :1], hit))


@dataclass(frozen=True, kw_only=True)
class MeanOutputLoss(AbstractLoss):
    """Cross-entropy of the output averaged over time, CE((1/T)·Σ_t o[t], y): known only when the sequence is over."""

    per_step: ClassVar[bool] = False

    def value(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        return F.cross_entropy(out.sum(0) / steps, target)


@dataclass(frozen=True, kw_only=True)
class SpikeTimeLoss(AbstractLoss):
    """Cross-entropy of a softmax over negative spike times: the class whose unit fires first wins.

        p_k = softmax_k(−t_k/ξ) = softmax_k(x_k/ξ),    x = T − t; a silent unit counts as firing at the end of the window

    For readouts that fire (`readout=windowed`, `ramp`, ...). As in Mostafa (2018) and Zhou et al. (2021), in linear time.

    Attributes:
        scale: ξ > 0, in units of time: differences much larger than it are certain decisions.
    """

    per_step: ClassVar[bool] = True
    reads: ClassVar[str] = "spike times"

    scale: float = 0.3

    def __post_init__(self) -> None:
        if not self.scale > 0.0:
            raise RecipeError("loss.scale", expected="a number > 0", got=repr(self.scale), fix="use 0.3")

    def value(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        return F.cross_entropy(out.flatten(0, 1) / self.scale, target.repeat(len(out))) * (len(out) / steps)

    def of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits / self.scale, target)


@dataclass(frozen=True, kw_only=True)
class WinnerLoss(AbstractLoss):
    """Softmax cross-entropy by the spikes of a winner-take-all layer, for streams of bits.

        e[t] = s[t] − y,    e⁺ = s AND NOT y,   e⁻ = y AND NOT s,    E[e] = softmax(m) − y

    with s the winner of a step, one-hot, and y the label. A winner has no derivative: e is that of the cross-entropy, in the
    mean, and `value` the share of steps that another class won.
    """

    per_step: ClassVar[bool] = True
    reads: ClassVar[str] = "winners"

    def value(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        won = out.gather(-1, target.expand(len(out), len(target)).unsqueeze(-1))
        return (1.0 - won).sum() / (steps * len(target))

    @torch.no_grad()
    def error(self, out: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The value and e; e is not averaged over steps and samples, so that bits stay bits."""
        answer = target.expand(len(out), len(target)).unsqueeze(-1)
        return self.value(out, target, steps), out.scatter_add(-1, answer, torch.full_like(out[..., :1], -1.0))
