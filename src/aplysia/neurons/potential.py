"""Readout of a first-spike net: the potential itself, without a spike.

    start:  V = Σ w·x             when the window of the inputs is over
    end:    V = Σ w·(x + T·m)     one window later, every ramp running on;  m = [x > 0]

The authors' companion code of frozen backpropagation and the direct model of Wei et al. (2023) read at the end, the latter's
proxy network at the start.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import RecipeError
from aplysia.neurons.base import AbstractFirstSpike
from aplysia.ops.synapse import Connection


class AbstractReading(ABC):
    """When the potential is read."""

    @abstractmethod
    def drive(self, x: Tensor) -> Tensor:
        """What a unit weight contributes by then, from the earliness x of its input."""


@dataclass(frozen=True)
class Start(AbstractReading):
    """When the inputs' window is over."""

    def drive(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True, kw_only=True)
class End(AbstractReading):
    """One window later.

    Attributes:
        window: T.
    """

    window: float = 1.0

    def __post_init__(self) -> None:
        if not (self.window > 0.0 and math.isfinite(self.window)):
            raise RecipeError("readout.reading.window", expected="a number > 0", got=repr(self.window), fix="use 1.0")

    def drive(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            fired = x.sign().mul_(self.window)
        return x + fired


@dataclass(frozen=True, kw_only=True)
class Potential(AbstractFirstSpike):
    """Membrane potential at one moment.

    Attributes:
        reading: at which.
    """

    spiking: ClassVar[bool] = False
    summary: ClassVar[str] = "non-spiking potential, for readouts of first-spike nets"

    reading: AbstractReading = field(default_factory=End)

    @property
    def input_window(self) -> float | None:
        return None

    @property
    def saturation(self) -> float | None:
        return None

    def drives(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.reading.drive(x),)

    def respond(self, drives: tuple[Tensor, ...], connection: Connection) -> Tensor:
        return connection(drives[0], connection.bias)
