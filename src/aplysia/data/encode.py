"""From a sample to what drives the first layer over T steps.

    encoder(x, steps, generator) -> Held(x, T)  or  drive [T, B, …]

x is a batch of images `[B, C, H, W]` (or vectors `[B, N]`), or of frames `[B, T, C, H, W]`, which have five dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from aplysia.errors import DataError, RecipeError
from aplysia.types import Held

_FRAMES = 5  # dimensions of a batch of frames


class AbstractEncoder(ABC):
    """Turns a batch into a drive; subclasses are frozen dataclasses.

    Attributes:
        serves: the kind of neurons it encodes for.
        real: whether what it gives is real numbers (currents, counts, times); else spikes.
    """

    serves: ClassVar[str] = "stepped"
    real: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, x: Tensor, steps: int, generator: torch.Generator) -> Tensor | Held:
        """The drive of `steps` steps; `generator` lies on the device of `x`."""


@final
@dataclass(frozen=True, kw_only=True)
class Direct(AbstractEncoder):
    """The value itself as a current: an image is held for T steps, frame t of a recording drives step t."""

    def __call__(self, x: Tensor, steps: int, generator: torch.Generator) -> Tensor | Held:
        if x.ndim != _FRAMES:
            return Held(x, steps)
        if x.shape[1] != steps:
            raise DataError(
                "Direct encoder",
                expected=f"recordings of {steps} frames",
                got=f"{x.shape[1]} frames",
                fix="load the data with the number of steps the net runs for",
            )
        return x.transpose(0, 1)


@final
@dataclass(frozen=True, kw_only=True)
class Poisson(AbstractEncoder):
    """Rate coding: independent spikes, one draw per value and step.

        s_t ~ Bernoulli(p),    p = clamp(gain·x, 0, 1),    t = 1 … T

    Attributes:
        gain: probability of a spike at x = 1.
    """

    real: ClassVar[bool] = False

    gain: float = 1.0

    def __post_init__(self) -> None:
        if not self.gain > 0:
            raise DataError("Poisson encoder", expected="a gain above 0", got=str(self.gain), fix="raise it")

    def __call__(self, x: Tensor, steps: int, generator: torch.Generator) -> Tensor | Held:
        if x.ndim == _FRAMES:
            raise DataError(
                "Poisson encoder",
                expected="images, whose values it turns into spikes",
                got="frames of events, which are spikes already",
                fix="use the Direct encoder",
            )
        low, high = torch.stack(torch.aminmax(x)).tolist()
        if not (low >= 0 and high <= 1):  # written so that NaN is refused too
            raise DataError(
                "Poisson encoder",
                expected="values from 0 to 1, as probabilities are",
                got=f"values from {low:.3g} to {high:.3g}",
                fix="load the data without mean and std, or use the Direct encoder",
            )
        probability = (self.gain * x).clamp(0, 1)
        drawn = torch.rand((steps, *x.shape), generator=generator, device=x.device, dtype=x.dtype)
        return (drawn < probability).to(x.dtype)


@final
@dataclass(frozen=True, kw_only=True)
class FirstSpike(AbstractEncoder):
    """Time to first spike: the brighter, the earlier.

        t = T·(1 − x)   for 0 < x ≤ 1,   no spike for x = 0;   as earliness T − t = T·x

    One window for the whole image, so T of the recipe (`steps`) is 1. Pixels must lie in [0, 1]: mean and deviation taken off
    would move spikes out of the window.

    Attributes:
        window: T, the length of the first layer's input window.
    """

    serves: ClassVar[str] = "first-spike"

    window: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.window < float("inf")):
            raise RecipeError("encoder.window", expected="a number > 0", got=repr(self.window), fix="use 1.0")

    def __call__(self, x: Tensor, steps: int, generator: torch.Generator) -> Tensor | Held:
        if x.ndim == _FRAMES or steps != 1:
            raise DataError(
                "FirstSpike encoder",
                expected="images, and one window (steps=1)",
                got="frames of events" if x.ndim == _FRAMES else f"steps={steps}",
                fix="set steps=1" if x.ndim != _FRAMES else "use the Direct encoder and stepped neurons",
            )
        low, high = torch.stack(torch.aminmax(x)).tolist()
        if not (low >= 0 and high <= 1):  # written so that NaN is refused too
            raise DataError(
                "FirstSpike encoder",
                expected="pixels from 0 (no spike) to 1 (spike at once), so that spikes lie inside the window",
                got=f"values from {low:.3g} to {high:.3g}",
                fix="set normalise=false, and mend the data if it holds NaN",
            )
        return (x if self.window == 1.0 else x * self.window).unsqueeze(0)


@final
@dataclass(frozen=True, kw_only=True)
class Stream(AbstractEncoder):
    """For nets of stochastic streams: a pixel is the probability of a bit, held for N steps; the bits are drawn by the scheme.

    A frame of events is bits already: 1 where anything happened in that step.
    """

    serves: ClassVar[str] = "stream"
    real: ClassVar[bool] = False

    def __call__(self, x: Tensor, steps: int, generator: torch.Generator) -> Tensor | Held:
        if x.ndim == _FRAMES:
            if x.shape[1] != steps:
                raise DataError(
                    "Stream encoder",
                    expected=f"recordings of {steps} frames, one per step of the streams",
                    got=f"{x.shape[1]} frames",
                    fix="load the data with as many steps as the streams have",
                )
            return (x.transpose(0, 1) > 0).to(x.dtype)
        low, high = torch.stack(torch.aminmax(x)).tolist()
        if not (low >= 0 and high <= 1):  # written so that NaN is refused too
            raise DataError(
                "Stream encoder",
                expected="pixels from 0 to 1, as probabilities are",
                got=f"values from {low:.3g} to {high:.3g}",
                fix="set normalise=false, and mend the data if it holds NaN",
            )
        return Held(x, steps)
