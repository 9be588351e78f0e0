"""First-spike neuron with linear ramps and a fixed threshold: the causal set decides (ReL-PSP, STDBP).

    V(t) = Σ_{t_j < t} w_j·(t − t_j) = ϑ      ⇒      t = (ϑ + Σ_C w_j·t_j)/A,    A = Σ_C w_j,    C = {j: t_j < t}

There are no windows: a unit fires as soon as the inputs so far suffice, and later ones change nothing. All times lie before a
horizon T; with the earliness x = T − t of the inputs, x_out = (Σ_C w·x − ϑ)/A, and a crossing at or after T is silence. Row
sums of the Jacobian ∂t/∂t_j are 1. Source: Zhang et al. (2022, arXiv 2003.11837); the search is `aplysia.ops.causal`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.errors import RecipeError
from aplysia.neurons.base import AbstractFirstSpike
from aplysia.ops.causal import causal_ramp
from aplysia.ops.geometry import Conv2d
from aplysia.ops.synapse import Connection


@dataclass(frozen=True, kw_only=True)
class Ramp(AbstractFirstSpike):
    """Linear ramps against a fixed threshold.

    Neither a bias nor an average pool is defined for it: the first would be a threshold that may fall to 0, the second would
    need the causal set of spikes that are averaged away.

    Attributes:
        horizon: T > 0, the end of time for all layers.
        threshold: ϑ > 0.
        max_gain: bound on 1/A in the backward pass; none: no bound.
    """

    spiking: ClassVar[bool] = True
    summary: ClassVar[str] = "first spike of linear ramps at a fixed threshold, causal set (Zhang 2022)"
    real_drives: ClassVar[tuple[bool, ...]] = (True, False)
    averages: ClassVar[bool] = False
    biased: ClassVar[bool] = False

    horizon: float = 1.0
    threshold: float = 0.1
    max_gain: float | None = 10.0

    def __post_init__(self) -> None:
        for key in ("horizon", "threshold", "max_gain"):
            value = getattr(self, key)
            if value is not None and not (value > 0.0 and math.isfinite(value)):
                raise RecipeError(f"neuron.{key}", expected="a number > 0", got=repr(value), fix="use 1.0")

    @property
    def input_window(self) -> float | None:
        return self.horizon

    @property
    def saturation(self) -> float | None:
        return None

    def drives(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    def respond(self, drives: tuple[Tensor, ...], connection: Connection) -> Tensor:
        (x,), geometry = drives, connection.geometry
        if not isinstance(geometry, Conv2d):
            return self._fire(x, connection.weight, connection.feedback)
        # A causal set belongs to one unit, so a convolution is taken apart into the patches its units see.
        weight, feedback, k = connection.weight, connection.feedback, connection.weight.shape[-1]
        shape = geometry.output_shape(tuple(x.shape[1:]), weight.shape)
        patches = F.unfold(x, k, padding=geometry.padding, stride=geometry.stride).transpose(1, 2).flatten(0, 1)
        groups = geometry.groups
        parts = [
            self._fire(p, w.flatten(1), None if f is None else f.flatten(1))
            for p, w, f in zip(
                patches.chunk(groups, 1),
                weight.chunk(groups),
                [None] * groups if feedback is None else feedback.chunk(groups),
                strict=True,
            )
        ]
        return _images(parts, len(x), shape)

    def _fire(self, x: Tensor, weight: Tensor, feedback: Tensor | None) -> Tensor:
        return causal_ramp(x, weight, threshold=self.threshold, feedback=feedback, max_gain=self.max_gain)


def _images(parts: list[Tensor], batch: int, shape: tuple[int, ...]) -> Tensor:
    """`[B·H·W, N/groups]` per group to `[B, N, H, W]`, in channels-last order."""
    joined = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    return joined.view(batch, *shape[1:], shape[0]).movedim(-1, 1)
