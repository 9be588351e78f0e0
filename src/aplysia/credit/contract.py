"""The contract between a net and everything that trains it.

    spatial rule      where the error of each layer comes from
    temporal scheme   which past activity it is paired with, and when
    loss              the error at the output

Every combination ends the same way: `.grad` of the parameters is filled, and any optimiser can take it from there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from aplysia.credit.local import AbstractLocal, NoLocal
from aplysia.credit.seen import AbstractLoss, Seen
from aplysia.errors import PairError
from aplysia.ledger.amount import Charge
from aplysia.ledger.sheet import Habits, Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Input, Net
from aplysia.nets.noise import Comparator, Noise, NoiseSource
from aplysia.neurons.base import AbstractStepped
from aplysia.ops.scan import HardReset
from aplysia.ranks import present
from aplysia.types import Claim, Cost, Paper, Tunable


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


# Where an error enters a graph: a tensor, or a `GradientEdge` where one has left it; torch's types know no lists of both.
Entry = Any

# Tensors that belong to what is laid beside a rule.
_LOCAL = "local/"


@dataclass(kw_only=True)
class AbstractSpatial(ABC):
    """A rule for where errors come from.

    A concrete rule is a dataclass: its fields are its settings, `tensors` is what it owns (feedback weights). It is
    attached to one net, once. Some methods may be replaced besides the abstract ones, and do nothing here: `check_net`,
    `check_optimiser`, `check_loss`, `trained`, `slopes`, `after`; and what the rule says of its costs: `learning`, `errors`,
    `transported`.

    Two things can be laid beside any rule: `noise` in its forward pass while it learns, and `local` errors.

    Attributes:
        paper: where the rule comes from.
        claims: facts about the class, each measured by the contract tests.
        summary: one line for `aplysia list rules`.
        tunable: settings worth a search beside the learning rate, and where: `aplysia tune` takes them unless told others.
        noise: in the forward pass while learning; none unless the rule lives on it.
        local: errors that hidden layers make for themselves; none unless said.
        tensors: what the rule owns; goes into checkpoints, never into the model's state.
        step: number of the optimiser step under way.
        part: number of the batch within that step.
    """

    paper: ClassVar[Paper]
    claims: ClassVar[frozenset[Claim]]
    summary: ClassVar[str]
    tunable: ClassVar[Tunable] = {}

    noise: Noise = field(default_factory=lambda: Noise(alpha=0.0))
    local: AbstractLocal = field(default_factory=NoLocal)

    tensors: dict[str, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)
    _attached: bool = field(init=False, repr=False, compare=False, default=False)
    seed: int = field(init=False, repr=False, compare=False, default=0)
    step: int = field(init=False, repr=False, compare=False, default=0)
    part: int = field(init=False, repr=False, compare=False, default=0)
    _drawn: int = field(init=False, repr=False, compare=False, default=0)

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
        self._check_noise(net)
        self.check_net(net)
        self.seed = seed
        with torch.no_grad():
            made = self.start(net) | {_LOCAL + name: tensor for name, tensor in self.local.start(net, seed).items()}
            # A view of a forward weight would turn any rule into backpropagation without a word.
            self.tensors = {name: tensor.detach().clone() for name, tensor in made.items()}
        for name in (*self.trained(net), *(_LOCAL + name for name in self.local.trained(net))):
            self.tensors[name].requires_grad_()
        self._attached = True

    def begin(self, step: int, part: int = 0) -> None:
        """A batch begins: the one of optimiser step `step`, counted from 0.

        Args:
            step: of the optimiser.
            part: number of the batch within the step, where gradients are gathered over several.
        """
        self.step, self.part = step, part

    @property
    def noise_source(self) -> NoiseSource | None:
        """The noise of the batch under way; None where there is none."""
        return self.noise.source(self.seed, self.step, self.purpose("noise"))

    def purpose(self, what: str) -> str:
        """What numbers are drawn for in this batch: batches of one optimiser step, and other processes, draw others."""
        part = (f"part {self.part}",) if self.part else ()
        return ", ".join((what, *part, *present().keys))

    @property
    def slopes(self) -> bool:
        """Whether the rule looks at the neurons' surrogate derivatives."""
        return False

    def upkeep(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        """`after`, and what the noise since the last time has cost."""
        cost = self.after(net, optimiser, step) + Cost(random_numbers=present().count(self._drawn))
        self._drawn = 0
        return cost

    def parameters(self) -> list[Tensor]:
        """Those of its tensors that the optimiser is to train beside the net's parameters."""
        return [tensor for tensor in self.tensors.values() if tensor.requires_grad]

    @property
    def plants(self) -> bool:
        """Whether all errors of hidden layers may enter at their currents, where nothing passes through states."""
        return False

    def planted(self, net: Net, seen: Seen) -> tuple[list[Entry], list[Tensor]]:
        """`roots`, and the local errors."""
        self._drawn += seen.drawn
        tensors, seeds = self.roots(net, seen)
        own = {name.removeprefix(_LOCAL): t for name, t in self.tensors.items() if name.startswith(_LOCAL)}
        for out, seed in zip(seen.outs[:-1], self.local.seeds(net, seen, own, self.seed), strict=True):
            if seed is not None and out.requires_grad:
                tensors.append(out)
                seeds.append(seed)
        return tensors, seeds

    def plant(self, net: Net, seen: Seen) -> Iterator[tuple[list[Entry], list[Tensor]]]:
        """`planted` in parts, each of which may go backward before the next is asked for."""
        yield self.planted(net, seen)

    def _check_noise(self, net: Net) -> None:
        if self.noise.alpha == 0.0:
            return
        hidden = [layer.neuron for layer in net.hidden]
        if not all(isinstance(neuron, AbstractStepped) for neuron in hidden):
            raise PairError(
                f"rule {type(self).__name__}",
                expected="stepped neurons under noise, which has no place in a spike time or in a bit",
                got=f"{type(hidden[0]).__name__}, a {net.kind} neuron",
                fix="set rule.noise.alpha=0, or neuron=lif",
            )
        if isinstance(self.noise.site, Comparator):
            hard = [type(n).__name__ for n in hidden if isinstance(getattr(n, "reset", None), HardReset)]
            if hard:
                raise PairError(
                    "rule.noise.site",
                    expected="a soft reset for noise in front of the comparator",
                    got=f"{hard[0]} with a hard reset, which would wipe the potential but not the noise",
                    fix="set rule.noise.site=membrane, or neuron.reset=soft_reset",
                )

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` held when it was saved."""
        if tensors.keys() != self.tensors.keys():
            raise PairError(
                f"rule {type(self).__name__}",
                expected=f"saved tensors {sorted(self.tensors)}",
                got=f"{sorted(tensors)}",
                fix="resume with the recipe the run was started with",
            )
        with torch.no_grad():
            for name, tensor in tensors.items():
                self.tensors[name].copy_(tensor)

    def check_net(self, net: Net) -> None:
        """Raise `PairError` where the rule makes no sense on this net."""

    def check_optimiser(self, net: Net, optimiser: torch.optim.Optimizer) -> None:
        """Raise `PairError` where the rule's law fails under this optimiser."""

    def check_loss(self, loss: AbstractLoss) -> None:
        """Raise `PairError` where the rule cannot learn from this loss."""

    def trained(self, net: Net) -> list[str]:
        """Names of the rule's tensors that the optimiser trains; the rule fills their `.grad`."""
        return []

    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        """What happens once the optimiser has stepped (copies, decays, mirror phases); `step` counts from 0."""
        return Cost()

    def learning(self, net: Net, step: int) -> list[Layer]:
        """The synapses that get a gradient at an optimiser step; may be replaced by a rule that leaves some out."""
        return net.synapses

    def errors(self, sheet: Sheet) -> list[Charge]:
        """What the rule's errors, and feedback that learns, cost in one batch; all but the layers' own slopes and updates."""
        return []

    def transported(self, net: Net, steps: int) -> list[Charge]:
        """What `after` moves from the forward to the feedback side over the first `steps` optimiser steps."""
        return []

    def charges(self, sheet: Sheet) -> list[Charge]:
        """What one batch costs beside the forward pass and the layers' own updates: errors, local errors, noise."""
        made = [*self.errors(sheet), *self.local.charges(sheet)]
        if self.noise.alpha:
            draws = -(-sheet.activity.steps // 2) if self.noise.antithetic else sheet.activity.steps
            made += [sheet.drawn(layer, draws) for layer in sheet.net.hidden]
        return made

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
    def roots(self, net: Net, seen: Seen) -> tuple[list[Entry], list[Tensor]]:
        """Where the rule's own errors are planted and, for each place, its seed."""


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

    def roots(self, net: Net, seen: Seen) -> tuple[list[Entry], list[Tensor]]:
        return [seen.outs[-1]], [seen.error]

    def errors(self, sheet: Sheet) -> list[Charge]:
        return [sheet.error_below(layer) for layer in sheet.net.fed_back]


@dataclass(kw_only=True)
class AbstractSeeded(AbstractSpatial):
    """A rule that cuts the net into layers and gives each hidden one an error of its own.

    `observe`, which does nothing here, may be replaced: it sees each chunk before errors are asked for. So may `delta`.
    """

    @abstractmethod
    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        """The error of a hidden layer's output `[K, B, …]`, or None where it is to learn nothing."""

    def delta(self, layer: Layer, out: Tensor, error: Tensor, slope: Tensor) -> Tensor | None:
        """slope ∘ `seed_error`, the same error at the layer's currents; may be replaced by what makes it at once.

        The slope, ψ or what else it is, may be written to.
        """
        seed = self.seed_error(layer, out, error)
        return None if seed is None else slope.mul_(seed)

    @property
    def cuts(self) -> bool:
        return True

    @property
    def plants(self) -> bool:
        # A layer's own error and its local one go through its neurons together.
        return isinstance(self.local, NoLocal)

    def slot(self, layer: Layer, weight: Tensor) -> Tensor | None:
        return None

    def observe(self, net: Net, seen: Seen) -> None:
        """Look at a chunk, in order, before errors are asked for."""

    def roots(self, net: Net, seen: Seen) -> tuple[list[Entry], list[Tensor]]:
        pairs = list(self._pairs(net, seen))
        return [tensor for tensor, _ in pairs], [seed for _, seed in pairs]

    def plant(self, net: Net, seen: Seen) -> Iterator[tuple[list[Entry], list[Tensor]]]:
        if not self.plants or seen.root(0) is not None:
            # Behind its neurons an error takes the slopes' place, so that no memory is saved by going layer by layer.
            yield self.planted(net, seen)
            return
        self._drawn += seen.drawn
        for tensor, seed in self._pairs(net, seen):
            yield [tensor], [seed]
            del seed

    def _pairs(self, net: Net, seen: Seen) -> Iterator[tuple[Entry, Tensor]]:
        with torch.no_grad():
            self.observe(net, seen)
        # A layer with frozen weights has no graph, and learns nothing.
        if seen.outs[-1].requires_grad:
            yield seen.outs[-1], seen.error
        for place, (layer, out) in enumerate(zip(net.hidden, seen.outs[:-1], strict=True)):
            root = seen.root(place)
            if root is None:
                entry = out
                seed = self.seed_error(layer, out.detach(), seen.error) if out.requires_grad else None
            else:
                with torch.no_grad():
                    entry, seed = root.currents, self.delta(layer, out, seen.error, root.slope)
            if seed is not None:
                yield entry, seed
                # An error is as large as what its layer sends; it need not outlive its use.
                del seed


Apply = Callable[[], Any]


class AbstractTemporal(ABC):
    """A scheme for time: which past activity an error is paired with, and when errors are sent.

    Some methods may be replaced besides the abstract ones: `fresh` and `tensors`, by a scheme that remembers something from
    batch to batch, `predict`, `endless` and `charges`.

    Attributes:
        paper: where the scheme comes from.
        summary: one line for `aplysia list temporal`.
        accepts: the kind of neurons it can train.
    """

    paper: ClassVar[Paper]
    summary: ClassVar[str]
    accepts: ClassVar[str] = "stepped"

    def fresh(self) -> AbstractTemporal:
        """A scheme of the same settings that remembers nothing."""
        return self

    @property
    def memory(self) -> dict[str, Tensor]:
        """What it remembers from batch to batch; goes into checkpoints."""
        return {}

    @abstractmethod
    def habits(self, steps: int, width: int = 1) -> Habits:
        """What it does with a sequence of so many steps, for the ledger.

        Args:
            steps: T.
            width: numbers that the widest layer sends in a step, of all samples of the batch (`aplysia.nets.net.widest`).
        """

    def charges(self, sheet: Sheet) -> list[Charge]:
        """What it costs in one batch beside passes, errors and updates."""
        return []

    def endless(self) -> AbstractTemporal | None:
        """The scheme under which a stochastic net answers as its own limit would; None: there is no other."""
        return None

    @torch.no_grad()
    def predict(
        self, net: Net, x: Input, *, noise: NoiseSource | None = None, seed: int = 0, batch: int = 0
    ) -> tuple[Tensor, Tensor]:
        """What the net answers `[B, C]`, and the number of spikes per layer `[L]`.

        Args:
            x: `[T, B, …]`, or a constant input held for T steps.
            noise: that disturbs the layers; None: nothing.
            seed, batch: what a stochastic net's random numbers are a function of.
        """
        return net.predict(x, noise=noise)

    def check_kind(self, net: Net) -> None:
        """Raise `PairError` where the net's neurons are of another kind than the scheme can train."""
        if net.kind != self.accepts:
            raise PairError(
                f"temporal {type(self).__name__}",
                expected=f"{self.accepts} neurons",
                got=f"{type(net.all[0].neuron).__name__}, a {net.kind} neuron",
                fix="set temporal=spike_time for first-spike neurons, coincidence for streams of bits, and trace, traceless or "
                "through_time for stepped ones",
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
