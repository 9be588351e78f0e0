"""Laws of the initial weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from aplysia.errors import RecipeError


class Law(NamedTuple):
    """A normal distribution.

    Attributes:
        mean: its mean.
        std: its standard deviation.
        start: factor on the weights at the start alone; random feedback is of the law itself.
        bias: what the biases start at, where there are any.
    """

    mean: float
    std: float
    start: float = 1.0
    bias: float = 0.0


class AbstractInitial(ABC):
    """How weights start."""

    @abstractmethod
    def law(self, fan_in: int, *, readout: bool) -> Law:
        """The law of a layer's weights."""


@dataclass(frozen=True, kw_only=True)
class He(AbstractInitial):
    """N(0, 2/fan_in) in hidden layers (He et al. 2015), N(0, r/fan_in) in the readout; both times `gain`².

    Attributes:
        gain: factor on the standard deviation.
        readout: r.
        zero_readout: the readout's weights start at 0; hidden layers then learn from the second step on.
    """

    gain: float = 1.0
    readout: float = 1.0
    zero_readout: bool = False

    def __post_init__(self) -> None:
        _positive("init.gain", self.gain)
        _positive("init.readout", self.readout)

    def law(self, fan_in: int, *, readout: bool) -> Law:
        std = self.gain * math.sqrt((self.readout if readout else 2.0) / fan_in)
        return Law(0.0, std, 0.0 if readout and self.zero_readout else 1.0)


@dataclass(frozen=True, kw_only=True)
class PositiveMean(AbstractInitial):
    """He's law around a positive mean, N(μ/fan_in, 2·gain²/fan_in), for first-spike nets; the readout's mean is 0.

    With zero-mean weights the slope S of a windowed neuron is about as often negative as positive, and a sixth of the units
    can fire only by saturating. A mean of μ/fan_in adds μ times the share of inputs that fire to S.

    Attributes:
        mean: μ.
        gain: factor on the standard deviation.
    """

    mean: float = 1.0
    gain: float = 0.5

    def __post_init__(self) -> None:
        _positive("init.gain", self.gain)
        if not math.isfinite(self.mean):
            raise RecipeError("init.mean", expected="a finite number", got=repr(self.mean), fix="use 1.0")

    def law(self, fan_in: int, *, readout: bool) -> Law:
        if readout:
            return Law(0.0, self.gain * math.sqrt(1.0 / fan_in))
        return Law(self.mean / fan_in, self.gain * math.sqrt(2.0 / fan_in))


@dataclass(frozen=True, kw_only=True)
class MidRange(AbstractInitial):
    """N(0, gain²/fan_in) and biases that put a hidden membrane into the middle of [0, 1], for units that clip at both ends.

    Attributes:
        gain: factor on the standard deviation.
        bias: of the hidden layers.
    """

    gain: float = 1.0
    bias: float = 0.3

    def __post_init__(self) -> None:
        _positive("init.gain", self.gain)
        if not math.isfinite(self.bias):
            raise RecipeError("init.bias", expected="a finite number", got=repr(self.bias), fix="use 0.3")

    def law(self, fan_in: int, *, readout: bool) -> Law:
        return Law(0.0, self.gain / math.sqrt(fan_in), bias=0.0 if readout else self.bias)


def _positive(key: str, value: float) -> None:
    if not (value > 0.0 and math.isfinite(value)):
        raise RecipeError(key, expected="a number > 0", got=repr(value), fix="use 1.0")
