"""First-spike neuron with a window of its own and a threshold that falls to zero in it.

Layer l fires in [l·T, (l+1)·T]; all its inputs fired in the window before, so every input ramp is running and nothing needs
to be sorted. With x the inputs' earliness in their window and m = [x > 0]:

    z = Σ w·x      S = Σ w·m      V(τ) = z + S·τ = ϑ·(1 − τ/T)      ⇒      x_out = (T·S + z)/(ϑ/T + S)

A spike at once (x_out = T) where z ≥ ϑ, none (x_out = 0) where V(T) ≤ 0, and no gradient in either case. The neuron of Wei et
al. (2023), there with T = ϑ = 1; frozen backpropagation builds on it (Goupy et al. 2025).

The layer's bias, where there is one, is a trainable threshold: ϑ_i = ϑ − b_i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import RecipeError
from aplysia.neurons.base import AbstractFirstSpike
from aplysia.ops.first_spike import Window, windowed_spike
from aplysia.ops.synapse import Connection


@dataclass(frozen=True, kw_only=True)
class Windowed(AbstractFirstSpike):
    """Linear ramps against a threshold falling linearly to 0 in the layer's own window.

    Attributes:
        window: T > 0, of this layer and of the one before.
        threshold: ϑ > 0 at the start of the window.
        max_gain: bound on the factor 1/(ϑ/T + S) of both derivatives, in the backward pass; none: no bound. Bounding the
            common factor keeps the direction of a unit's update, which bounding the derivatives one by one does not.
    """

    spiking: ClassVar[bool] = True
    real_drives: ClassVar[tuple[bool, ...]] = (True, False)
    summary: ClassVar[str] = "first spike in a window of its own, threshold falling to zero (Wei 2023; fBP)"

    window: float = 1.0
    threshold: float = 1.0
    max_gain: float | None = 1.0

    def __post_init__(self) -> None:
        for key in ("window", "threshold", "max_gain"):
            value = getattr(self, key)
            if value is not None and not (value > 0.0 and math.isfinite(value)):
                raise RecipeError(f"neuron.{key}", expected="a number > 0", got=repr(value), fix="use 1.0")

    @property
    def input_window(self) -> float | None:
        return self.window

    @property
    def saturation(self) -> float | None:
        return self.window

    def drives(self, x: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            fired = x.sign()
        return x, fired

    def respond(self, drives: tuple[Tensor, ...], connection: Connection) -> Tensor:
        x, fired = drives
        window = Window(self.window, self.threshold, self.max_gain)
        return windowed_spike(window, connection(x), connection(fired), connection.bias)
