"""Feedback from the output straight to a hidden layer that is learnt as a running mean of directional samples.

    M ← λ·M + (1 − λ)·(1/B)·Σ_b d_b·z_bᵀ            M_l ∈ R^{m × n_l},  E[d zᵀ] = the Jacobian of the m outputs by n_l units
    g_l[t] = M_lᵀ·e[t]                               the error of layer l, for the output error e

Rules differ in what d is: the output of a noisy pass over α (pseudo-zeroth order), or the exact change of the output along z
(forward gradient). M is kept in float32 at least, since steps of (1 − λ) vanish in half precision.

From a start at zero, M after k updates is short by 1 − λ^k; it is divided by that, as in Adam. Confirmed of the paper on
pseudo-zeroth-order training: the running mean, and that λ has to be very near 1. Its start, its λ, when it is updated and how
it fits convolutions are not known to us: all forms, starts and moments here are ours.
"""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.errors import PairError, RecipeError
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.ledger.sheet import Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.noise import Drawn
from aplysia.ops.wide import scaled_product, wide_product
from aplysia.ranks import present
from aplysia.rng import generator

_UPDATES, _PENDING, _PROJECTION = "updates", "pending/", "projection"
# Whether a sequence has been gathered that is not in force yet.
_GATHERED = "gathered"


class Late(Protocol):
    """Makes an error of a layer, `[K, B, …]`, once: times a slope in its place, where one is given; None: it has none."""

    def __call__(self, slope: Tensor | None = None) -> Tensor | None: ...


def _as_they_are(device: str) -> contextlib.AbstractContextManager[Any]:
    """No autocast; entering that is not free, so only where there is any."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext()


def _as_it_is(error: Tensor | None, slope: Tensor | None = None) -> Tensor | None:
    return error if error is None or slope is None else slope.mul_(error)


class AbstractForm(ABC):
    """How much of M is kept."""

    @abstractmethod
    def check(self, layer: Layer) -> None:
        """Raise `PairError` where a layer cannot have this form."""

    @abstractmethod
    def rank(self, classes: int) -> int:
        """Number of numbers kept of the m outputs: m, or fewer."""

    @abstractmethod
    def width(self, layer: Layer) -> int:
        """Number of numbers kept of the layer's n units: n, or fewer."""

    @abstractmethod
    def gather(self, layer: Layer, z: Tensor) -> Tensor:
        """`[R, n]` → `[R, width]`, so that the mean over R of d·gatherᵀ is M."""

    @abstractmethod
    def spread(self, layer: Layer, g: Tensor) -> Tensor:
        """`[R, width]` → `[R, n]`; nothing changes where these are the same."""


@dataclass(frozen=True)
class Dense(AbstractForm):
    """One weight per output and unit; for a convolution n = C·H·W."""

    def check(self, layer: Layer) -> None:
        pass

    def rank(self, classes: int) -> int:
        return classes

    def width(self, layer: Layer) -> int:
        return layer.units

    def gather(self, layer: Layer, z: Tensor) -> Tensor:
        return z

    def spread(self, layer: Layer, g: Tensor) -> Tensor:
        return g


@dataclass(frozen=True, kw_only=True)
class Pooled(AbstractForm):
    """One weight per output, channel and cell: positions of a cell share what is the mean over them. Dense layers stay dense.

    Attributes:
        size: cells per side; 1: one weight a channel.
    """

    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise RecipeError(
                "rule.feedback.form.size", expected="at least 1 cell per side", got=repr(self.size), fix="use 1"
            )

    def check(self, layer: Layer) -> None:
        if len(layer.output_shape) == 3 and any(n % self.size for n in layer.output_shape[1:]):
            raise PairError(
                f"rule.feedback.form, layer {layer.name}",
                expected=f"a side that {self.size} cells divide evenly",
                got=f"{layer.output_shape[1]} × {layer.output_shape[2]} positions",
                fix="use size=1, or a divisor of the side",
            )

    def rank(self, classes: int) -> int:
        return classes

    def width(self, layer: Layer) -> int:
        return layer.output_shape[0] * self.size**2 if len(layer.output_shape) == 3 else layer.units

    def gather(self, layer: Layer, z: Tensor) -> Tensor:
        if len(layer.output_shape) != 3:
            return z
        return F.adaptive_avg_pool2d(z.unflatten(1, layer.output_shape), self.size).flatten(1)

    def spread(self, layer: Layer, g: Tensor) -> Tensor:
        if len(layer.output_shape) != 3:
            return g
        channels, height, width = layer.output_shape
        cells = g.view(len(g), channels, self.size, 1, self.size, 1)
        shape = (len(g), channels, self.size, height // self.size, self.size, width // self.size)
        return cells.expand(shape).reshape(len(g), -1)


@dataclass(frozen=True, kw_only=True)
class LowRank(AbstractForm):
    """The m outputs seen through r fixed random orthonormal directions: M = P·A with only A ∈ R^{r × n} kept.

    The error that reaches a layer is that of the projected output, J·P·Pᵀ·e; exact for r = m.

    Attributes:
        directions: r.
    """

    directions: int = 16

    def __post_init__(self) -> None:
        if self.directions < 1:
            raise RecipeError(
                "rule.feedback.form.directions", expected="at least 1", got=repr(self.directions), fix="use 16"
            )

    def check(self, layer: Layer) -> None:
        pass

    def rank(self, classes: int) -> int:
        return min(self.directions, classes)

    def width(self, layer: Layer) -> int:
        return layer.units

    def gather(self, layer: Layer, z: Tensor) -> Tensor:
        return z

    def spread(self, layer: Layer, g: Tensor) -> Tensor:
        return g


class AbstractStart(ABC):
    """What M starts as."""

    @abstractmethod
    def tensor(self, shape: tuple[int, int], seed: int, name: str) -> Tensor:
        """M before the first update."""

    @property
    @abstractmethod
    def from_zero(self) -> bool:
        """Whether it is short at first, and to be corrected for that."""

    @abstractmethod
    def ready(self, step: int) -> bool:
        """Whether hidden layers get errors at this optimiser step."""


@dataclass(frozen=True)
class Zero(AbstractStart):
    """Nothing, corrected for the bias of a start at zero."""

    def tensor(self, shape: tuple[int, int], seed: int, name: str) -> Tensor:
        return torch.zeros(shape)

    @property
    def from_zero(self) -> bool:
        return True

    def ready(self, step: int) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Random(AbstractStart):
    """N(0, scale²/m), as direct feedback alignment has it; forgotten as λ^k.

    Attributes:
        scale: in units of 1/√m. Much larger than the true Jacobian, it does harm that later updates hardly mend.
    """

    scale: float = 0.05

    def __post_init__(self) -> None:
        if not (self.scale >= 0.0 and math.isfinite(self.scale)):
            raise RecipeError(
                "rule.feedback.start.scale", expected="a number ≥ 0", got=repr(self.scale), fix="use 0.05"
            )

    def tensor(self, shape: tuple[int, int], seed: int, name: str) -> Tensor:
        source = generator("cpu", seed, "direct feedback", name)
        return torch.randn(shape, generator=source) * (self.scale / math.sqrt(shape[0]))

    @property
    def from_zero(self) -> bool:
        return False

    def ready(self, step: int) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class WarmUp(AbstractStart):
    """Zero, and hidden layers rest until M has seen some batches.

    Attributes:
        batches: how many.
    """

    batches: int = 50

    def __post_init__(self) -> None:
        if self.batches < 0:
            raise RecipeError(
                "rule.feedback.start.batches", expected="at least 0", got=repr(self.batches), fix="use 50"
            )

    def tensor(self, shape: tuple[int, int], seed: int, name: str) -> Tensor:
        return torch.zeros(shape)

    @property
    def from_zero(self) -> bool:
        return True

    def ready(self, step: int) -> bool:
        return step >= self.batches


class AbstractMoment(ABC):
    """When M is updated."""

    @property
    @abstractmethod
    def every_step(self) -> bool:
        """At every time step, or once a sequence."""


@dataclass(frozen=True)
class EveryStep(AbstractMoment):
    """At every time step, before that step's error is sent."""

    @property
    def every_step(self) -> bool:
        return True


@dataclass(frozen=True)
class EverySequence(AbstractMoment):
    """Once a sequence, by the mean over its steps, in force from the next sequence on; needs a second array beside M."""

    @property
    def every_step(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class MomentumFeedback:
    """Settings of a feedback that is learnt as a running mean.

    Attributes:
        momentum: λ in [0, 1). The window 1/(1 − λ) is counted in updates; 2 to 45 % of all updates of a run worked well.
        form: how much of M is kept.
        start: what it starts as.
        update: when it changes.
        freeze_after: optimiser steps after which it stays as it is; None: never.
    """

    momentum: float = 0.99
    form: AbstractForm = field(default_factory=Dense)
    start: AbstractStart = field(default_factory=Zero)
    update: AbstractMoment = field(default_factory=EverySequence)
    freeze_after: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise RecipeError(
                "rule.feedback.momentum", expected="a number in [0, 1)", got=repr(self.momentum), fix="use 0.99"
            )
        if self.freeze_after is not None and self.freeze_after < 0:
            raise RecipeError(
                "rule.feedback.freeze_after",
                expected="a whole number of steps ≥ 0, or none",
                got=repr(self.freeze_after),
                fix="use none to go on learning",
            )

    def tensors(self, net: Net, classes: int, seed: int) -> dict[str, Tensor]:
        """M of each hidden layer under its name, and what else has to be remembered."""
        made: dict[str, Tensor] = {_UPDATES: torch.zeros((), dtype=torch.int64)}
        if not self.update.every_step:
            made[_GATHERED] = torch.zeros((), dtype=torch.int64)
        rank = self.form.rank(classes)
        for layer in net.hidden:
            self.form.check(layer)
            like = layer.weight.new_empty((), dtype=torch.promote_types(layer.weight.dtype, torch.float32))
            made[layer.name] = self.start.tensor((rank, self.form.width(layer)), seed, layer.name).to(like)
            if not self.update.every_step:
                made[_PENDING + layer.name] = torch.zeros_like(made[layer.name])
        if rank < classes:
            source = generator("cpu", seed, "feedback projection")
            drawn = torch.randn(classes, rank, generator=source, dtype=torch.float64)
            made[_PROJECTION] = torch.linalg.qr(drawn).Q.to(made[net.hidden[0].name])
        return made

    def memory_words(self, tensors: dict[str, Tensor]) -> int:
        """Numbers that have to be remembered for it."""
        return sum(tensor.numel() for name, tensor in tensors.items() if name not in (_UPDATES, _GATHERED))

    def written(self, tensors: dict[str, Tensor], layers: list[Layer], *, step: int, chunk: int, last: bool) -> int:
        """Weights of M written over a chunk of this many steps, the last one of its sequence or not."""
        if not self.learns(step):
            return 0
        times = chunk if self.update.every_step else int(last)
        return times * sum(tensors[layer.name].numel() for layer in layers)

    def errors(self, sheet: Sheet, *, directions: int) -> list[Charge]:
        """What errors through M cost, and learning M from directions, in the batch of a step.

        Args:
            sheet: of the batch.
            directions: how many different ones it learns from, of all samples; 0: none.
        """
        made: list[Charge] = []
        rank, learns = self.form.rank(sheet.classes), directions > 0 and self.learns(sheet.step)
        projects = rank < sheet.classes
        for layer in sheet.net.hidden:
            width = self.form.width(layer)
            if projects:
                made.append(sheet.projected(None, inputs=sheet.classes, outputs=rank))
            if self.start.ready(sheet.step):
                made.append(sheet.projected(layer.name, inputs=rank, outputs=width))
            if learns:
                # Within a sequence the outputs of steps that share a direction are put together first.
                products = (sheet.slots if self.update.every_step else directions) * rank * width
                writes = rank * width * (sheet.activity.steps if self.update.every_step else 1)
                if projects:
                    made.append(sheet.projected(None, inputs=sheet.classes, outputs=rank))
                amount = Amount(dense=products, macs=products, feedback_reads=writes, feedback_writes=writes)
                made.append(Charge(layer.name, Phase.UPDATE, amount))
        return made

    def learns(self, step: int) -> bool:
        """Whether M changes in the batch of this optimiser step."""
        return self.freeze_after is None or step < self.freeze_after

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Tensor | None]:
        """The errors that `run_late` says how to get, all at once."""
        return {name: late() for name, late in self.run_late(*args, **kwargs).items()}

    @torch.no_grad()
    def run_late(
        self,
        tensors: dict[str, Tensor],
        layers: list[Layer],
        directions: Sequence[Drawn | Tensor],
        answers: list[Tensor],
        errors: list[Tensor],
        *,
        step: int,
        steps: int,
        first: bool,
        factors: Sequence[float] | None = None,
    ) -> dict[str, Late]:
        """Go through one chunk in order: update M where due, and say how to get each layer's error.

        Args:
            tensors: what `tensors` made, changed in place.
            layers: those to serve.
            directions: z per layer, of steps `[K, B, …]`; empty where there is none, and M then stays.
            answers: d per layer, `[K, B, m]`.
            errors: e per layer, `[K, B, m]`, averaged over the batch already.
            step: of the optimiser.
            steps: T.
            first: whether the sequence begins with this chunk.
            factors: of each layer's d; None: 1.
        """
        factors = [1.0] * len(layers) if factors is None else factors
        with _as_they_are(errors[0].device.type):
            kept, project = tensors[layers[0].name], tensors.get(_PROJECTION)

            def seen(x: Tensor) -> Tensor:
                x = x.to(kept.dtype)
                return x if project is None else x @ project

            samples = {}
            if self.learns(step) and directions:
                for layer, z, d, factor in zip(layers, directions, answers, factors, strict=True):
                    drawn = z if isinstance(z, Drawn) else Drawn.of(z)
                    samples[layer.name] = (drawn.to(kept.dtype), seen(d), factor)
            sent = {layer.name: seen(error) for layer, error in zip(layers, errors, strict=True)}
            if self.update.every_step:
                found = self._step_by_step(tensors, layers, samples, sent, step)
                return {name: partial(_as_it_is, error) for name, error in found.items()}
            return self._by_sequence(tensors, layers, samples, sent, step, steps, first)

    def _correction(self, tensors: dict[str, Tensor]) -> float:
        updates = int(tensors[_UPDATES])
        return 1.0 / (1.0 - self.momentum**updates) if self.start.from_zero and updates else 1.0

    def _errors(self, tensors: dict[str, Tensor], layer: Layer, error: Tensor, slope: Tensor | None = None) -> Tensor:
        rows, feedback = error.flatten(0, 1), tensors[layer.name]
        if slope is not None and feedback.shape[1] == layer.units:
            return scaled_product(rows, feedback, slope)
        made = self.form.spread(layer, wide_product(rows, feedback)).view(*error.shape[:2], *layer.output_shape)
        return made if slope is None else slope.mul_(made)

    def _mean(self, layer: Layer, z: Drawn, met: Tensor) -> tuple[Tensor, float]:
        """The mean over all samples of Σ met·zᵀ over draws, `[m, width]`, of z and what it meets, `[D, B, m]`; and a factor
        that it is still to be multiplied by."""
        gathered = self.form.gather(layer, z.draws.flatten(0, 1).flatten(1))
        made, team = wide_product(met.flatten(0, 1).t(), gathered), present()
        return (made, 1.0 / met.shape[1]) if team.size == 1 else (team.average(made.div_(met.shape[1])), 1.0)

    def _step_by_step(
        self,
        tensors: dict[str, Tensor],
        layers: list[Layer],
        samples: dict[str, tuple[Drawn, Tensor, float]],
        errors: dict[str, Tensor],
        step: int,
    ) -> dict[str, Tensor | None]:
        ready = self.start.ready(step)
        if not samples:
            # M rests, so all steps go through it at once.
            correction = self._correction(tensors)
            sent = {one.name: self._errors(tensors, one, errors[one.name] * correction) for one in layers}
            return {name: error if ready else None for name, error in sent.items()}
        found: dict[str, list[Tensor]] = {layer.name: [] for layer in layers}
        for t in range(len(errors[layers[0].name])):
            tensors[_UPDATES] += 1
            correction = self._correction(tensors)
            for layer in layers:
                z, d, factor = samples[layer.name]
                mean, share = self._mean(layer, z.step(t), z.step(t).gathered(d[t : t + 1]))
                tensors[layer.name].lerp_(mean.mul_(factor * share), 1.0 - self.momentum)
                found[layer.name].append(self._errors(tensors, layer, errors[layer.name][t : t + 1] * correction))
        return {name: torch.cat(parts) if ready else None for name, parts in found.items()}

    def _by_sequence(
        self,
        tensors: dict[str, Tensor],
        layers: list[Layer],
        samples: dict[str, tuple[Drawn, Tensor, float]],
        errors: dict[str, Tensor],
        step: int,
        steps: int,
        first: bool,
    ) -> dict[str, Late]:
        waiting = bool(tensors[_GATHERED])
        if first and waiting:
            # What the sequence before has gathered comes into force now, so that no error depends on where a chunk ends.
            tensors[_UPDATES] += 1
            for layer in layers:
                tensors[layer.name].lerp_(tensors[_PENDING + layer.name], 1.0 - self.momentum)
                if not samples:
                    tensors[_PENDING + layer.name].zero_()
                    tensors[_GATHERED].zero_()
        if samples and not waiting:
            tensors[_GATHERED].fill_(1)
        correction = self._correction(tensors)
        # Layers that serve one classifier share what their draws meet, and their errors.
        shared: dict[tuple[Any, ...], Tensor] = {}
        for layer in layers if samples else []:
            z, d, factor = samples[layer.name]
            key = (id(d), z.places, z.signs)
            if key not in shared:
                shared[key] = z.gathered(d)
            mean, share = self._mean(layer, z, shared[key])
            if first:
                torch.mul(mean, factor * share / steps, out=tensors[_PENDING + layer.name])
            else:
                tensors[_PENDING + layer.name].add_(mean, alpha=factor * share / steps)
        if not self.start.ready(step):
            return {layer.name: partial(_as_it_is, None) for layer in layers}
        # M changes no more in this sequence, and errors are as large as what layers send: each is made when it is asked for.
        sent = {id(error): error * correction for error in {id(error): error for error in errors.values()}.values()}
        return {one.name: partial(self._later, tensors, one, sent[id(errors[one.name])]) for one in layers}

    @torch.no_grad()
    def _later(self, tensors: dict[str, Tensor], layer: Layer, error: Tensor, slope: Tensor | None = None) -> Tensor:
        with _as_they_are(error.device.type):
            return self._errors(tensors, layer, error, slope)
