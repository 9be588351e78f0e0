"""Surrogate derivatives ψ(u − θ) of the Heaviside step, as objects.

The spike itself is always s = H(u − θ) with H(0) = 1. A surrogate only says what stands in for H' in the backward pass.
Each one is a frozen dataclass whose `derivative(x)` is pure and element-wise, so that it fuses into the scan kernel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class AbstractSurrogate(ABC):
    """ψ(x) with x = u − θ, in units of the membrane potential."""

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """ψ(x), same shape as x."""


@dataclass(frozen=True, kw_only=True)
class Sigmoid(AbstractSurrogate):
    """Derivative of a logistic: ψ(x) = k·σ(k·x)·(1 − σ(k·x)); peak k/4 at x = 0, area 1.

    With k = 4 the peak is 1: the choice of OTTT (Xiao et al. 2022).
    """

    slope: float = 4.0

    def derivative(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(self.slope * x)
        return self.slope * y * (1.0 - y)


@dataclass(frozen=True, kw_only=True)
class Triangle(AbstractSurrogate):
    """ψ(x) = max(0, 1 − |x|/w)/w; support (−w, w), area 1 (Bellec et al. 2018; Esser et al. 2016 in shape)."""

    width: float = 1.0

    def derivative(self, x: Tensor) -> Tensor:
        return torch.clamp(1.0 - x.abs() / self.width, min=0.0) / self.width


@dataclass(frozen=True, kw_only=True)
class Arctan(AbstractSurrogate):
    """Derivative of an arc tangent: ψ(x) = (α/2) / (1 + (π·α·x/2)²); peak α/2, area 1 (Fang et al. 2021)."""

    alpha: float = 2.0

    def derivative(self, x: Tensor) -> Tensor:
        return (self.alpha / 2) / (1.0 + (math.pi / 2 * self.alpha * x).square())


@dataclass(frozen=True, kw_only=True)
class Rectangle(AbstractSurrogate):
    """ψ(x) = 1/w for |x| < w/2, else 0; area 1 (Wu et al. 2018)."""

    width: float = 1.0

    def derivative(self, x: Tensor) -> Tensor:
        return (x.abs() < self.width / 2).to(x.dtype) / self.width
