"""First-spike neuron whose potential has slope 1 at the threshold: a ReLU, exactly (model B1).

Before t_min the inputs move the potential, from t_min on it rises at slope 1 whatever comes. With x the earliness of a spike
before the end of its window and D the trainable part of the threshold, ϑ = t_max − t_min − D:

    t = t_max − D − Σ w·x      ⇒      x_out = max(0, D + Σ w·x)

A unit that would fire at t_max or later is silent, and a silent input weighs 0 by itself. D is the layer's bias. The window
must be long enough for the earliest spike; the authors widen it while training, here a window that is not given is as wide as
it needs to be. Source: Stanojevic et al. (2024), Nature Communications 15, 6793.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import RecipeError
from aplysia.neurons.base import AbstractFirstSpike
from aplysia.ops.synapse import Connection


@dataclass(frozen=True, kw_only=True)
class ConstantSlope(AbstractFirstSpike):
    """Exact ReLU in spike times.

    Attributes:
        window: t_max − t_min, beyond which a unit cannot fire earlier (it saturates, and gets no gradient); none: as wide as
            the earliest spike needs.
    """

    spiking: ClassVar[bool] = True
    summary: ClassVar[str] = "first spike with slope 1 at the threshold, an exact ReLU (Stanojevic 2024, B1)"

    window: float | None = None

    def __post_init__(self) -> None:
        if self.window is not None and not (self.window > 0.0 and math.isfinite(self.window)):
            raise RecipeError("neuron.window", expected="a number > 0, or none", got=repr(self.window), fix="use none")

    @property
    def input_window(self) -> float | None:
        return self.window

    @property
    def saturation(self) -> float | None:
        return self.window

    def drives(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    def respond(self, drives: tuple[Tensor, ...], connection: Connection) -> Tensor:
        current = connection(drives[0], connection.bias)
        return torch.relu(current) if self.window is None else torch.nn.functional.hardtanh(current, 0.0, self.window)
