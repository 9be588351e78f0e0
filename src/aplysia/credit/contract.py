"""The contract between a net and everything that trains it.

    spatial rule      where the error of each layer comes from
    temporal scheme   which past activity it is paired with, and when
    loss              the error at the output

Every combination ends the same way: `.grad` of the parameters is filled, and any optimiser can take it from there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from aplysia.errors import PairError
from aplysia.nets.layer import Layer
from aplysia.nets.net import Input, Net
from aplysia.types import Claim, Cost, Paper


@dataclass(frozen=True)
class Record:
    """What learning saw of one batch; tensors stay on the device until someone looks.

    Attributes:
        logits: mean output over time, `[B, C]`.
        loss: the loss, summed over time and averaged over the batch, 0-dim.
        spikes: number of spikes per layer, `[L]`.
        slots: places where a spike could have been, per layer (T · B · units).
        saturated: number of spikes per layer that could not have been earlier, `[L]`; None: no such thing.
    """

    logits: Tensor
    loss: Tensor
    spikes: Tensor
    slots: list[int]
    saturated: Tensor | None = None


class AbstractLoss(ABC):
    """A loss on the readout.

    Attributes:
        per_step: whether the loss is a sum over steps, so that the error of a step is known at that step.
    """

    per_step: ClassVar[bool]

    @abstractmethod
    def value(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        """The loss of a chunk of outputs `[K, B, C]` out of `steps` in all, for labels `[B]`; averaged over the batch."""

    def error(self, out: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The loss and its derivative by the outputs, `[K, B, C]`; may be replaced by a closed form."""
        return error_by_autograd(self, out, target, steps)

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


@dataclass(kw_only=True)
class AbstractSpatial(ABC):
    """A rule for where errors come from.

    A concrete rule is a dataclass: its fields are its settings, `tensors` is what it owns (feedback weights). It is
    attached to one net, once. Three methods may be replaced besides the abstract ones, and do nothing here: `check_net`,
    `check_optimiser`, `after`.

    Attributes:
        paper: where the rule comes from.
        claims: facts about the class, each measured by the contract tests.
        summary: one line for `aplysia list rules`.
        tensors: what the rule owns; goes into checkpoints, never into the model's state.
    """

    paper: ClassVar[Paper]
    claims: ClassVar[frozenset[Claim]]
    summary: ClassVar[str]

    tensors: dict[str, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)
    _attached: bool = field(init=False, repr=False, compare=False, default=False)
    seed: int = field(init=False, repr=False, compare=False, default=0)

    def attach(self, net: Net, *, seed: int) -> None:
        """Take charge of a net: make the feedback tensors.

        Raises:
            PairError: the rule already has a net, or makes no sense on this one.
        """
        if self._attached:
            raise PairError(
                f"rule {type(self).__name__}",
                expected="a rule without a net",
                got="one that is attached already",
                fix="make a new one",
            )
        self.check_net(net)
        self.seed = seed
        with torch.no_grad():
            # A view of a forward weight would turn any rule into backpropagation without a word.
            self.tensors = {name: tensor.detach().clone() for name, tensor in self.start(net).items()}
        self._attached = True

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` held when it was saved."""
        if tensors.keys() != self.tensors.keys():
            raise PairError(
                f"rule {type(self).__name__}",
                expected=f"saved tensors {sorted(self.tensors)}",
                got=f"{sorted(tensors)}",
                fix="resume with the recipe the run was started with",
            )
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)

    def check_net(self, net: Net) -> None:
        """Raise `PairError` where the rule makes no sense on this net."""

    def check_optimiser(self, net: Net, optimiser: torch.optim.Optimizer) -> None:
        """Raise `PairError` where the rule's law fails under this optimiser."""

    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        """What happens once the optimiser has stepped (copies, decays, mirror phases); `step` counts from 0."""
        return Cost()

    @abstractmethod
    def start(self, net: Net) -> dict[str, Tensor]:
        """The tensors the rule begins with, by layer name where they belong to a layer. They are copied."""

    @property
    @abstractmethod
    def cuts(self) -> bool:
        """Whether layers are detached from each other."""

    @abstractmethod
    def slot(self, layer: Layer, weight: Tensor) -> Tensor | None:
        """The tensor in the error slot of a layer with this effective weight; None: no error leaves downwards."""

    @abstractmethod
    def roots(self, net: Net, outs: list[Tensor], error: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Where errors are planted: tensors and, for each, its seed.

        Args:
            outs: the layers' outputs of a chunk, `[K, B, …]` each.
            error: the derivative of the loss by the readout, `[K, B, C]`.
        """


@dataclass(kw_only=True)
class AbstractChained(AbstractSpatial):
    """A rule that sends the error down layer by layer, through `feedback` in place of the weight."""

    @abstractmethod
    def feedback(self, layer: Layer, weight: Tensor) -> Tensor:
        """The tensor in the layer's error slot, shaped like the weight. Never called for the first layer."""

    @property
    def cuts(self) -> bool:
        return False

    def slot(self, layer: Layer, weight: Tensor) -> Tensor | None:
        return self.feedback(layer, weight)

    def roots(self, net: Net, outs: list[Tensor], error: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return [outs[-1]], [error]


@dataclass(kw_only=True)
class AbstractSeeded(AbstractSpatial):
    """A rule that cuts the net into layers and gives each hidden one an error of its own."""

    @abstractmethod
    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        """The error of a hidden layer's output `[K, B, …]`, or None where it is to learn nothing."""

    @property
    def cuts(self) -> bool:
        return True

    def slot(self, layer: Layer, weight: Tensor) -> Tensor | None:
        return None

    def roots(self, net: Net, outs: list[Tensor], error: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        tensors, seeds = [outs[-1]], [error]
        for layer, out in zip(net.hidden, outs[:-1], strict=True):
            seed = self.seed_error(layer, out.detach(), error)
            if seed is not None:
                tensors.append(out)
                seeds.append(seed)
        return tensors, seeds


Apply = Callable[[], Any]


class AbstractTemporal(ABC):
    """A scheme for time: which past activity an error is paired with, and when errors are sent.

    Attributes:
        paper: where the scheme comes from.
        summary: one line for `aplysia list temporal`.
        accepts: the kind of neurons it can train.
    """

    paper: ClassVar[Paper]
    summary: ClassVar[str]
    accepts: ClassVar[str] = "stepped"

    def check_kind(self, net: Net) -> None:
        """Raise `PairError` where the net's neurons are of another kind than the scheme can train."""
        if net.kind != self.accepts:
            raise PairError(
                f"temporal {type(self).__name__}",
                expected=f"{self.accepts} neurons",
                got=f"{type(net.all[0].neuron).__name__}, a {net.kind} neuron",
                fix="set temporal=spike_time for first-spike neurons, and trace, traceless or through_time for stepped ones",
            )

    @property
    @abstractmethod
    def updates_inside(self) -> bool:
        """Whether weights change inside a sequence, so that `learn` needs `apply`."""

    @abstractmethod
    def check(self, net: Net, loss: AbstractLoss, spatial: AbstractSpatial) -> None:
        """Raise `PairError`, with the reason, where the parts make no sense together."""

    @abstractmethod
    def learn(
        self,
        net: Net,
        x: Input,
        target: Tensor,
        loss: AbstractLoss,
        spatial: AbstractSpatial,
        *,
        generator: torch.Generator | None = None,
        apply: Apply | None = None,
    ) -> Record:
        """Run one batch and fill `.grad`.

        Args:
            x: `[T, B, …]`, or a constant input held for T steps.
            target: labels `[B]`.
            generator: source of dropout masks; None: no dropout.
            apply: for schemes that change weights inside a sequence: called whenever the gradients are to be applied,
                except for the last time, which is the caller's. It must step the optimiser and clear the gradients.
        """
