"""Devices with the numbers of others, each in the units of its source and scaled to a bound in weights.

The half-range of every source device is 1, so in weights its quantum is quantum·bound; all other numbers are relative to one
of the two. Values from `aihwkit/simulator/presets/devices.py` of IBM's aihwkit (HEAD 4545f11, MIT; numbers only), which were
fitted to the publications named with each device. Left out: the PCM preset, which is one-sided and needs a pair of arrays and
a refresh, and the leak of the capacitor (a lifetime of 10⁶ batches).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.devices.base import AbstractCell, Cells, check_bound
from aplysia.devices.constant_step import ConstantStep
from aplysia.devices.exponential_step import ExponentialStep
from aplysia.devices.law import AbstractStep, Spread
from aplysia.devices.linear_step import LinearStep
from aplysia.devices.soft_bounds import SoftBounds


@dataclass(frozen=True, kw_only=True)
class AbstractPreset(AbstractCell):
    """A law with numbers that are not to be chosen, but for the scale.

    Attributes:
        bound: the weight that half the source's range stands for.
        quiet: leave out the noise of single pulses and writes, to see what law and spreads do by themselves.
        quantum: follows from the bound.
        source: where the numbers are from.
        numbers: in the source's units.
    """

    source: ClassVar[str]
    numbers: ClassVar[AbstractStep]

    quiet: bool = False
    quantum: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        check_bound(self.bound)
        object.__setattr__(self, "quantum", self.law.quantum)

    @cached_property
    def law(self) -> AbstractStep:
        """The device in weights."""
        own = self.numbers
        spread = replace(own.spread, cycle=0.0, additive=0.0, write=0.0) if self.quiet else own.spread
        return replace(own, bound=self.bound, quantum=own.quantum * self.bound, spread=spread)

    def cells(self, weight: Tensor, generator: torch.Generator) -> Cells:
        return self.law.cells(weight, generator)

    def step(self, weight: Tensor, cells: Cells, up: Tensor, down: Tensor, generator: torch.Generator) -> int:
        return self.law.step(weight, cells, up, down, generator)

    def symmetry(self, cells: Cells) -> Tensor:
        return self.law.symmetry(cells)


@dataclass(frozen=True, kw_only=True)
class Idealized(AbstractPreset):
    """10,000 states, symmetric on average."""

    summary: ClassVar[str] = "preset: 10,000 constant steps, symmetric on average"
    source: ClassVar[str] = "Gokmen & Vlasov, Front. Neurosci. 2016, without asymmetry and with more states (aihwkit)"
    numbers: ClassVar[AbstractStep] = ConstantStep(
        quantum=0.0002, spread=Spread(step=0.3, cycle=0.3, high=0.3, low=0.3)
    )


@dataclass(frozen=True, kw_only=True)
class GokmenVlasov(AbstractPreset):
    """The device of the resistive processing unit, about 1,200 states."""

    summary: ClassVar[str] = "preset: the resistive processing unit, about 1,200 constant steps"
    source: ClassVar[str] = "Gokmen & Vlasov, Front. Neurosci. 2016, range scaled to ±1 (aihwkit)"
    numbers: ClassVar[AbstractStep] = ConstantStep(
        quantum=0.0016, spread=Spread(step=0.3, cycle=0.3, asymmetry_spread=0.01, high=0.3, low=0.3)
    )


@dataclass(frozen=True, kw_only=True)
class ReramEs(AbstractPreset):
    """Resistive memory, strongly asymmetric; its write noise is a tenth of the range."""

    summary: ClassVar[str] = "preset: resistive memory, exponential steps, strongly asymmetric"
    source: ClassVar[str] = "fit of Gong et al., Nat. Commun. 2018 (aihwkit)"
    numbers: ClassVar[AbstractStep] = ExponentialStep(
        quantum=0.00135,
        up_amplitude=-1.18445,
        down_amplitude=-0.081404,
        up_rate=5.0,
        down_rate=5.0,
        slope=-0.5,
        offset=-0.5,
        spread=Spread(step=0.2, cycle=5.0, asymmetry=0.259359, asymmetry_spread=0.05, high=0.3, low=0.3, write=75.0),
    )


@dataclass(frozen=True, kw_only=True)
class ReramSb(AbstractPreset):
    """Resistive memory less a reference cell, so that its symmetry point is near 0."""

    summary: ClassVar[str] = "preset: resistive memory with a reference, soft bounds"
    source: ClassVar[str] = "loose fit of Gong et al., Nat. Commun. 2018 (aihwkit)"
    numbers: ClassVar[AbstractStep] = SoftBounds(
        quantum=0.002,
        centre=0.25,
        spread=Spread(step=0.3, additive=3.75, asymmetry_spread=0.01, high=0.3 / 1.25, low=0.3 / 0.75, write=56.0),
    )


@dataclass(frozen=True, kw_only=True)
class Capacitor(AbstractPreset):
    """A capacitor, without its leak."""

    summary: ClassVar[str] = "preset: capacitor, linear steps"
    source: ClassVar[str] = "fit of Li et al., VLSI 2018 (aihwkit)"
    numbers: ClassVar[AbstractStep] = LinearStep(
        quantum=0.005,
        up_slope=0.05,
        down_slope=0.05,
        slope_spread=0.01,
        spread=Spread(step=0.1, additive=0.3, asymmetry_spread=0.06, high=0.07, low=0.07),
    )


@dataclass(frozen=True, kw_only=True)
class Ecram(AbstractPreset):
    """Electrochemical memory based on lithium, its range shifted so that the symmetry point is 0."""

    summary: ClassVar[str] = "preset: electrochemical memory (lithium), linear steps"
    source: ClassVar[str] = "fit of Tang et al., IEDM 2018 (aihwkit)"
    numbers: ClassVar[AbstractStep] = LinearStep(
        quantum=0.002,
        centre=0.1724,
        up_slope=0.1153,
        down_slope=0.5085,
        slope_spread=0.05,
        spread=Spread(step=0.1, cycle=0.3, asymmetry_spread=0.01, high=0.05, low=0.05),
    )


@dataclass(frozen=True, kw_only=True)
class EcramMo(AbstractPreset):
    """Electrochemical memory of metal oxide, its range shifted so that the symmetry point is 0."""

    summary: ClassVar[str] = "preset: electrochemical memory (metal oxide), linear steps"
    source: ClassVar[str] = "Kim et al., IEDM 2019 (aihwkit)"
    numbers: ClassVar[AbstractStep] = LinearStep(
        quantum=2.8214e-4,
        centre=0.1714,
        up_slope=0.4152,
        down_slope=0.7342,
        slope_spread=0.05,
        spread=Spread(step=0.1, cycle=2.0, asymmetry_spread=0.01, high=0.05, low=0.05),
    )
