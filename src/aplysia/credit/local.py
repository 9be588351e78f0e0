"""Local errors: what a hidden layer can learn from by itself, laid beside any rule with `rule.local=...`.

    readouts      o_l[t] = C_l·pool(s_l[t]),   e_l[t] = ∂L/∂o_l[t],   g_l[t] = weight·unpool(Fᵀ·e_l[t])
    similarity    g_l[t] = weight·∂/∂s_l[t] ‖S(s_l[t]) − S(onehot)‖²,   S the matrix of cosines between samples

C is trained (by its own exact gradient, on the net's optimiser) or fixed; F is C itself, or fixed random, or learns as C does
(Kolen-Pollack). In a rule that sends errors down layer by layer, local errors join the chain and are passed on like the rest.

Confirmed of the paper on pseudo-zeroth-order training: local readouts whose error returns through the transposed readout.
Its losses, weights, pooling and layers are not known to us.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.seen import AbstractLoss, Seen
from aplysia.errors import PairError, RecipeError
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.ledger.sheet import Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.ops.wide import wide_product
from aplysia.ranks import present
from aplysia.rng import generator

_FEEDBACK = "feedback/"


class AbstractLocal(ABC):
    """Errors that hidden layers make for themselves, beside those a rule sends them.

    A frozen dataclass of settings; what it owns lives among the rule's tensors.
    """

    @abstractmethod
    def start(self, net: Net, seed: int) -> dict[str, Tensor]:
        """The tensors it begins with. They are copied."""

    @abstractmethod
    def trained(self, net: Net) -> list[str]:
        """Which of them an optimiser trains; `seeds` fills their `.grad`."""

    @abstractmethod
    def seeds(self, net: Net, seen: Seen, tensors: dict[str, Tensor], seed: int) -> list[Tensor | None]:
        """The error of each hidden layer's output `[K, B, …]`, None where there is none."""

    @abstractmethod
    def charges(self, sheet: Sheet) -> list[Charge]:
        """What they cost in one batch."""

    @abstractmethod
    def served(self, net: Net) -> list[Layer]:
        """The hidden layers that get such errors."""


@dataclass(frozen=True)
class NoLocal(AbstractLocal):
    """Hidden layers make no errors of their own."""

    def start(self, net: Net, seed: int) -> dict[str, Tensor]:
        return {}

    def trained(self, net: Net) -> list[str]:
        return []

    def seeds(self, net: Net, seen: Seen, tensors: dict[str, Tensor], seed: int) -> list[Tensor | None]:
        return [None for _ in net.hidden]

    def charges(self, sheet: Sheet) -> list[Charge]:
        return []

    def served(self, net: Net) -> list[Layer]:
        return []


class AbstractReturn(ABC):
    """The way of an error from a local readout into its layer."""

    @property
    @abstractmethod
    def own(self) -> bool:
        """Whether it has weights of its own."""

    @property
    @abstractmethod
    def learns(self) -> bool:
        """Whether these learn."""


@dataclass(frozen=True)
class Transposed(AbstractReturn):
    """Through the readout's own weights, as in backpropagation: weight symmetry inside one layer."""

    @property
    def own(self) -> bool:
        return False

    @property
    def learns(self) -> bool:
        return False


@dataclass(frozen=True)
class Fixed(AbstractReturn):
    """Through fixed random weights."""

    @property
    def own(self) -> bool:
        return True

    @property
    def learns(self) -> bool:
        return False


@dataclass(frozen=True)
class Learnt(AbstractReturn):
    """Through weights that get the readout's own gradient and the same decay (Kolen-Pollack)."""

    @property
    def own(self) -> bool:
        return True

    @property
    def learns(self) -> bool:
        return True


def _check_weight(weight: float) -> None:
    if not (weight >= 0.0 and math.isfinite(weight)):
        raise RecipeError("rule.local.weight", expected="a number ≥ 0", got=repr(weight), fix="use 1")


@dataclass(frozen=True, kw_only=True)
class Readouts(AbstractLocal):
    """A linear classifier on every hidden layer.

    Attributes:
        weight: factor on the local errors.
        learns: whether C learns; fixed random readouts make DECOLLE.
        back: how the error returns.
        loss: of the local readout, a sum over steps.
        cells: a convolution is averaged over cells × cells parts of its image first.
        decay: of C and, where that learns, of F: what makes the two align.
        layers: names of the layers that have one; none named: all hidden ones.
    """

    weight: float = 1.0
    learns: bool = True
    back: AbstractReturn = field(default_factory=Transposed)
    loss: AbstractLoss = field(default_factory=StepwiseLoss)
    cells: int = 4
    decay: float = 0.0
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        if self.cells < 1:
            raise RecipeError("rule.local.cells", expected="at least 1", got=repr(self.cells), fix="use 4")
        if not self.loss.per_step:
            raise RecipeError(
                "rule.local.loss",
                expected="a loss that is a sum over steps",
                got=type(self.loss).__name__,
                fix="use rule.local.loss=stepwise",
            )
        if not (self.decay >= 0.0 and math.isfinite(self.decay)):
            raise RecipeError("rule.local.decay", expected="a number ≥ 0", got=repr(self.decay), fix="use 0")

    def _chosen(self, net: Net) -> list[Layer]:
        known = [layer.name for layer in net.hidden]
        unknown = [name for name in self.layers if name not in known]
        if unknown:
            raise PairError(
                "rule.local.layers",
                expected=f"hidden layers, of {', '.join(known)}",
                got=", ".join(unknown),
                fix="name those, or none for all",
            )
        return [layer for layer in net.hidden if not self.layers or layer.name in self.layers]

    def start(self, net: Net, seed: int) -> dict[str, Tensor]:
        made = {}
        for layer in self._chosen(net):
            width = math.prod(self._shape(layer))
            for name in (layer.name, _FEEDBACK + layer.name) if self.back.own else (layer.name,):
                drawn = torch.randn(net.classes, width, generator=generator("cpu", seed, "local readout", name))
                made[name] = (drawn / math.sqrt(width)).to(layer.weight)
        return made

    def trained(self, net: Net) -> list[str]:
        names = [layer.name for layer in self._chosen(net)]
        return (names if self.learns else []) + ([_FEEDBACK + n for n in names] if self.back.learns else [])

    def seeds(self, net: Net, seen: Seen, tensors: dict[str, Tensor], seed: int) -> list[Tensor | None]:
        return [
            self._seed(layer, out.detach(), seen, tensors) if layer.name in tensors else None
            for layer, out in zip(net.hidden, seen.outs[:-1], strict=True)
        ]

    def charges(self, sheet: Sheet) -> list[Charge]:
        made: list[Charge] = []
        for layer in self._chosen(sheet.net):
            shape = self._shape(layer)
            width = math.prod(shape)
            spikes = width == layer.units and sheet.net.kind != "first-spike"
            made += sheet.local_readout(layer, inputs=width, spikes=spikes, learns=self.learns)
            if self.back.learns:
                writes = sheet.habits.applies * width * sheet.classes
                made.append(Charge(layer.name, Phase.UPDATE, Amount(feedback_reads=writes, feedback_writes=writes)))
        return made

    def served(self, net: Net) -> list[Layer]:
        return self._chosen(net)

    @torch.no_grad()
    def _seed(self, layer: Layer, out: Tensor, seen: Seen, tensors: dict[str, Tensor]) -> Tensor:
        readout, rows = tensors[layer.name], out.flatten(0, 1)
        drive = self._pooled(layer, rows)
        answer = (drive @ readout.t()).unflatten(0, out.shape[:2])
        error = self.loss.error(answer, seen.target, seen.steps)[1].flatten(0, 1)
        owned = [tensors[name] for name in (layer.name, _FEEDBACK + layer.name) if name in tensors]
        learning = [tensor for tensor in owned if tensor.requires_grad]
        update = wide_product(error.t(), drive).to(readout.dtype) if learning else None
        for tensor in learning:
            assert update is not None
            own = torch.add(update, tensor, alpha=self.decay) if self.decay and seen.start == 0 else update
            tensor.grad = own.clone() if tensor.grad is None else tensor.grad + own
        back = wide_product(error, tensors[_FEEDBACK + layer.name if self.back.own else layer.name])
        return self._unpooled(layer, back * self.weight).view_as(out)

    def _shape(self, layer: Layer) -> tuple[int, ...]:
        shape = layer.output_shape
        return shape if len(shape) != 3 else (shape[0], *(min(self.cells, n) for n in shape[1:]))

    def _pooled(self, layer: Layer, rows: Tensor) -> Tensor:
        shape = self._shape(layer)
        if shape == layer.output_shape:
            return rows.flatten(1)
        return F.adaptive_avg_pool2d(rows, (shape[1], shape[2])).flatten(1)

    def _unpooled(self, layer: Layer, errors: Tensor) -> Tensor:
        """The adjoint of `_pooled`."""
        shape = self._shape(layer)
        if shape == layer.output_shape:
            return errors
        with torch.enable_grad():
            leaf = errors.new_zeros(len(errors), *layer.output_shape).requires_grad_()
            pooled = F.adaptive_avg_pool2d(leaf, (shape[1], shape[2]))
        return torch.autograd.grad(pooled, leaf, errors.view_as(pooled))[0]


@dataclass(frozen=True, kw_only=True)
class Similarity(AbstractLocal):
    """Samples of one class are to look alike (Nøkland & Eidnes 2019): needs batches, and compares them step by step.

    L_l = (1/T)·Σ_t mean over pairs of (S(s_l[t]) − S(onehot))², S the cosines between samples, centred per sample.

    Attributes:
        weight: factor on the local errors.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weight(self.weight)

    def start(self, net: Net, seed: int) -> dict[str, Tensor]:
        return {}

    def trained(self, net: Net) -> list[str]:
        return []

    def seeds(self, net: Net, seen: Seen, tensors: dict[str, Tensor], seed: int) -> list[Tensor | None]:
        _check_alone()
        wanted = _cosines(F.one_hot(seen.target, net.classes).to(seen.error.dtype)[None])
        found: list[Tensor | None] = []
        for out in seen.outs[:-1]:
            with torch.enable_grad():
                leaf = out.detach().requires_grad_()
                distance = (_cosines(leaf.flatten(2)) - wanted).square().mean((1, 2)).sum()
            (error,) = torch.autograd.grad(distance, leaf)
            found.append(error * (self.weight / seen.steps))
        return found

    def charges(self, sheet: Sheet) -> list[Charge]:
        """Cosines of all pairs of samples of a step, and their derivatives: three products of B × B × n."""
        batch, made = sheet.activity.batch, []
        for layer in sheet.net.hidden:
            products = 3 * sheet.activity.steps * batch * batch * layer.units
            made.append(Charge(layer.name, Phase.ERROR, Amount(dense=products, macs=products)))
        return made

    def served(self, net: Net) -> list[Layer]:
        return net.hidden


def _check_alone() -> None:
    if present().size > 1:
        raise PairError(
            "rule.local",
            expected="all samples of a batch in one process, since similarity compares each with each",
            got=f"{present().size} processes",
            fix="train in one process, or use rule.local=readouts",
        )


def _cosines(x: Tensor) -> Tensor:
    """`[K, B, n]` to `[K, B, B]`; a silent sample is like no other."""
    centred = x - x.mean(2, keepdim=True)
    unit = centred * torch.rsqrt(centred.square().sum(2, keepdim=True) + 1e-8)
    return unit @ unit.transpose(1, 2)
