"""Optimisers and learning-rate schedules, as settings; but for arrays of devices the optimisers themselves are torch's."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from aplysia.devices.array import PulsedArray
from aplysia.devices.base import AbstractDevice
from aplysia.devices.soft_bounds import SoftBounds
from aplysia.errors import RecipeError

# Bytes of the number of steps that Adam keeps of each tensor.
_COUNTER = 4


def _positive(key: str, value: float, *, zero: bool = False) -> None:
    if not (math.isfinite(value) and (value > 0.0 or (zero and value == 0.0))):
        kind = "a finite number ≥ 0" if zero else "a finite number > 0"
        raise RecipeError(key, expected=kind, got=repr(value), fix="choose one, e.g. 0.1 for SGD or 0.001 for Adam")


class AbstractOptimiser(ABC):
    """Settings that build a torch optimiser."""

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter], *, seed: int = 0) -> torch.optim.Optimizer:
        """The optimiser for these parameters.

        Args:
            parameters: to be trained.
            seed: of what is random in it.
        """

    def state_bytes(self, tensor: torch.Tensor) -> int | None:
        """What it keeps of a tensor that it trains; None: not known, which may be replaced."""
        return None


@dataclass(frozen=True, kw_only=True)
class SGD(AbstractOptimiser):
    """Stochastic gradient descent with momentum."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        _positive("optimiser.lr", self.lr)
        _positive("optimiser.momentum", self.momentum, zero=True)
        _positive("optimiser.weight_decay", self.weight_decay, zero=True)

    def state_bytes(self, tensor: torch.Tensor) -> int | None:
        return tensor.numel() * tensor.element_size() if self.momentum else 0

    def build(self, parameters: Iterable[nn.Parameter], *, seed: int = 0) -> torch.optim.Optimizer:
        made = torch.optim.SGD(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
            fused=True,
        )
        if self.momentum:
            # The fused step cannot start some parameters later than others (a layer that rests at first), unless all have a
            # buffer; from zero the first step is the same.
            for group in made.param_groups:
                for parameter in group["params"]:
                    made.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return made


@dataclass(frozen=True, kw_only=True)
class Adam(AbstractOptimiser):
    """Adam (Kingma & Ba 2015). It hides the scale of an error, so compare feedback rules under SGD too."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _positive("optimiser.lr", self.lr)
        _positive("optimiser.weight_decay", self.weight_decay, zero=True)

    def state_bytes(self, tensor: torch.Tensor) -> int | None:
        return 2 * tensor.numel() * tensor.element_size() + _COUNTER

    def build(self, parameters: Iterable[nn.Parameter], *, seed: int = 0) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class AdamW(AbstractOptimiser):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        _positive("optimiser.lr", self.lr)
        _positive("optimiser.weight_decay", self.weight_decay, zero=True)

    def state_bytes(self, tensor: torch.Tensor) -> int | None:
        return 2 * tensor.numel() * tensor.element_size() + _COUNTER

    def build(self, parameters: Iterable[nn.Parameter], *, seed: int = 0) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class Pulsed(AbstractOptimiser):
    """Arrays of resistive devices that are moved by pulses, see `aplysia.devices.array` and docs/devices.md.

    Attributes:
        lr: η, as for SGD without momentum.
        device: the cells of every array.
        weight_decay: λ of a gradient λ·w beside the other.
        several: whether a coincidence may ask for more than one pulse; else a rate that needs it is refused.
        netted: whether pulses up and down of one update cancel each other before they are sent to a cell.
    """

    lr: float = 0.1
    device: AbstractDevice = field(default_factory=SoftBounds)
    weight_decay: float = 0.0
    several: bool = False
    netted: bool = False

    def __post_init__(self) -> None:
        _positive("optimiser.lr", self.lr)
        _positive("optimiser.weight_decay", self.weight_decay, zero=True)

    def build(self, parameters: Iterable[nn.Parameter], *, seed: int = 0) -> torch.optim.Optimizer:
        return PulsedArray(
            parameters,
            device=self.device,
            lr=self.lr,
            weight_decay=self.weight_decay,
            several=self.several,
            netted=self.netted,
            seed=seed,
        )


class AbstractSchedule(ABC):
    """Factor on the learning rate, a pure function of the epoch: nothing to save, nothing to get out of step."""

    @abstractmethod
    def factor(self, epoch: int, epochs: int) -> float:
        """The factor in epoch 0 … epochs − 1."""


@dataclass(frozen=True, kw_only=True)
class Constant(AbstractSchedule):
    """Factor 1."""

    def factor(self, epoch: int, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Cosine(AbstractSchedule):
    """½·(1 + cos(π·epoch/epochs)), from 1 towards `floor`."""

    floor: float = 0.0

    def factor(self, epoch: int, epochs: int) -> float:
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))


@dataclass(frozen=True, kw_only=True)
class Step(AbstractSchedule):
    """Times `gamma` at each milestone, given as fractions of the run."""

    gamma: float = 0.1
    milestones: tuple[float, ...] = (0.5, 0.75)

    def factor(self, epoch: int, epochs: int) -> float:
        return self.gamma ** sum(epoch >= m * epochs for m in self.milestones)


@dataclass(frozen=True, kw_only=True)
class Exponential(AbstractSchedule):
    """gamma^epoch."""

    gamma: float = 0.999

    def __post_init__(self) -> None:
        _positive("schedule.gamma", self.gamma)

    def factor(self, epoch: int, epochs: int) -> float:
        return self.gamma**epoch
