"""What learning looks at: the loss on the readout, and the chunk of a sequence that an error is made for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.nets.layer import Root
from aplysia.nets.net import Net, Pass, noise_amplitude
from aplysia.nets.noise import NoiseSource


class AbstractLoss(ABC):
    """A loss on the readout.

    Attributes:
        per_step: whether the loss is a sum over steps, so that the error of a step is known at that step.
        reads: what the readout must give, see `aplysia.neurons.base`.
    """

    per_step: ClassVar[bool]
    reads: ClassVar[str] = "potentials"

    @abstractmethod
    def value(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        """The loss of a chunk of outputs `[K, B, C]` out of `steps` in all, for labels `[B]`; averaged over the batch."""

    def error(self, out: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The loss and its derivative by the outputs, `[K, B, C]`; may be replaced by a closed form."""
        return error_by_autograd(self, out, target, steps)

    def samples(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        """The loss of each step and sample, `[K, B]`: their sum over steps and mean over samples is `value`."""

        # A loss may be an average over the batch, but nothing else may pass between samples: so each one is a batch of its own.
        def alone(step: Tensor, label: Tensor) -> Tensor:
            return self.value(step[None, None], label[None], steps)

        return torch.vmap(torch.vmap(alone), in_dims=(0, None))(out, target)

    def of_logits(self, logits: Tensor, target: Tensor) -> Tensor:
        """What is reported for held-out data: cross-entropy of the mean output `[B, C]`; may be replaced."""
        return torch.nn.functional.cross_entropy(logits, target)


def error_by_autograd(loss: AbstractLoss, out: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """The loss of a chunk and its derivative by the outputs."""
    leaf = out.detach().requires_grad_()
    with torch.enable_grad():
        value = loss.value(leaf, target, steps)
    (error,) = torch.autograd.grad(value, leaf)
    return value.detach(), error


@dataclass(frozen=True)
class Seen:
    """What a rule may see of one chunk of a sequence.

    Attributes:
        done: outputs, noise and states.
        error: the derivative of the loss by the readout, `[K, B, C]`.
        target: labels `[B]`.
        loss: on the readout.
        steps: T, of the whole sequence.
        start: number of the chunk's first step.
        source: of the noise; None: there was none.
        share: what a sum over all steps and samples is to be multiplied by, where errors are not yet averaged over them.
    """

    done: Pass
    error: Tensor
    target: Tensor
    loss: AbstractLoss
    steps: int
    start: int = 0
    source: NoiseSource | None = None
    share: float = 1.0

    @property
    def outs(self) -> list[Tensor]:
        """The layers' outputs `[K, B, …]`, without noise, with the graph behind them but where there is a `root`."""
        return self.done.outs

    def root(self, place: int) -> Root | None:
        """Where an error of a hidden layer's own enters, if not at its output."""
        return self.done.states[place].root if self.done.states else None

    def sent(self, net: Net, place: int) -> Tensor:
        """What a hidden layer sends on, its noise included, `[K, B, …]`, without a graph."""
        out = self.outs[place].detach()
        if self.source is None or not self.source.noise.site.at_output:
            return out
        return self.done.noise[place].onto(out, noise_amplitude(net.hidden[place], self.source))

    @property
    def drawn(self) -> int:
        """Random numbers that the chunk's noise took; those of a pair of steps count where the pair begins."""
        if self.source is None:
            return 0
        size, end = 2 if self.source.noise.antithetic else 1, self.start + len(self.error)
        draws = -(-end // size) - -(-self.start // size)
        return draws * sum(z.units for z in self.done.noise)

    @property
    def last(self) -> bool:
        """Whether the sequence ends with this chunk."""
        return self.start + len(self.error) >= self.steps
