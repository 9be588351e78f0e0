"""One neuron, four conventions: how λ, θ and reset of a LIF stand in NIR, and how its readers and writers take them.

Ours, per step (`aplysia.neurons.lif`):

    u[t] = λ·v[t−1] + I[t]        s[t] = H(u[t] ≥ θ)        v[t] = u[t]·(1 − s[t]) + ρ·s[t]        v before the first step: 0

NIR's LIF is an equation in time (seconds), its spike a strict inequality:

    τ·dv/dt = (v_leak − v) + R·I        z = 1 where v > v_threshold, and then v ← v_reset

A step of Euler's method of length dt turns it into

    v ← (1 − dt/τ)·v + (dt/τ)·(v_leak + R·I)

so that the two are the same neuron where

    leak                  λ = 1 − dt/τ            ⇔   τ = dt/(1 − λ)
    scale of the input    1 = (dt/τ)·R            ⇔   R = τ/dt = 1/(1 − λ)
    rest, reset           v_leak = 0,   v_reset = ρ
    threshold             u ≥ θ   ⇔   u > θ⁻,  θ⁻ the floating-point number next below θ:      v_threshold = θ⁻
    λ = 1                 IF, dv/dt = R·I, with R = 1/dt
    readout, λ > 0        LI (I where λ = 1) by the same τ and R;  λ = 0: no node, the current itself is the output

The order of a step is the same on both sides: leak, input, comparison, reset. θ⁻ is that of the weights' own precision, so that
a reader that computes in it fires on the same membranes, bit for bit.

With R = 1 the membrane is (1 − λ)·u, and so θ and ρ become (1 − λ)·θ and (1 − λ)·ρ, the weights staying as they are.

What libraries make of that, measured by `tests/exchange` with the versions of `constraints.txt`:

    snnTorch 1.0       reads with dt = 1e-4, always. λ, R and the strict threshold are taken rightly. v_reset is ignored (0). IF
                       is refused unless R = 1, and then read as a neuron of leak 0.9 in a graph that cannot be run:
                       `SnnTorch` writes a LIF with τ = 2⁴⁰·dt instead. Its writer has λ and θ right but says nothing of the
                       reset, by default a soft one a step later.
    SpikingJelly 2.0   reads with a dt of choice. Fires on v ≥ v_threshold: `SpikingJelly` writes θ, not θ⁻. Starts at v_reset,
                       so that must be 0. λ = 0 is refused there. Its writer means ≥ as well.
    Norse 1.1          reads with a dt of choice. R is ignored (1): `Norse` writes R = 1 and scales θ. v_reset is ignored (0).
                       AvgPool2d is dropped without a word: `Norse` writes SumPool2d and weights divided by k². Its writer has
                       τ = dt·τ, too small by a factor dt, which `Norse` takes back when reading.

None of the three reads LI, I or Threshold. A negative `start_dim` of Flatten is the only one they all read alike: a positive
one counts the axis of the batch in snnTorch and Norse, and does not in SpikingJelly, nor in NIR. A maximum over spikes is an
OR, a sum that exceeds ½: SumPool2d and a neuron without memory.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from aplysia.errors import RecipeError, near

# Of a LIF that stands for an IF: 1 − 2⁻⁴⁰ is 1 in single precision, and all quotients of it are exact.
_LONG = 2.0**40


class Point(NamedTuple):
    """A spiking neuron in our convention, or the parameters of NIR for it.

    Attributes:
        leak: λ per step.
        threshold: θ, which fires at u = θ.
        reset: ρ, where a spike puts the membrane.
    """

    leak: float
    threshold: float
    reset: float


def below(value: float, dtype: Any) -> float:
    """The number of this precision next below the one that stands for `value`."""
    return float(np.nextafter(dtype(value), dtype(-np.inf)))


def above(value: float, dtype: Any) -> float:
    """The number of this precision next above the one that stands for `value`."""
    return float(np.nextafter(dtype(value), dtype(np.inf)))


def time_constant(leak: float, dt: float) -> float:
    """τ = dt/(1 − λ) in seconds, such that 1 − dt/τ rounds to λ where there is such a number; ∞ for λ = 1."""
    if leak == 1.0:
        return math.inf
    first = dt / (1.0 - leak)
    for tau in (first, math.nextafter(first, 0.0), math.nextafter(first, math.inf)):
        if 1.0 - dt / tau == leak:
            return tau
    return first


def leak_of(tau: float, dt: float) -> float:
    """λ = 1 − dt/τ."""
    return 1.0 - dt / tau


class AbstractDialect(ABC):
    """How one library reads and writes NIR. Frozen dataclasses without fields.

    Attributes:
        name: as `--for` takes it.
        dt: seconds per step unless said.
        dt_fixed: whether its reader can be told no other.
        strict: whether it fires on v > v_threshold only.
        averages: whether it reads AvgPool2d.
        integrates: whether it reads LI and I, which readouts with a memory need.
        resets: whether it takes v_reset over.
        zero_leak: whether it reads λ = 0.
    """

    name: ClassVar[str]
    dt: ClassVar[float] = 1e-4
    dt_fixed: ClassVar[bool] = False
    strict: ClassVar[bool] = True
    averages: ClassVar[bool] = True
    integrates: ClassVar[bool] = False
    resets: ClassVar[bool] = False
    zero_leak: ClassVar[bool] = True

    @abstractmethod
    def neuron(self, nir: Any, point: Point, shape: tuple[int, ...], dt: float, dtype: Any) -> Any:
        """The node of a spiking neuron `point`, one for each place of `shape`."""

    @abstractmethod
    def either(self, nir: Any, shape: tuple[int, ...], dt: float) -> Any:
        """A neuron without memory that fires where the number of input spikes exceeds ½."""

    @abstractmethod
    def true_tau(self, tau: float, dt: float) -> float:
        """τ in seconds, from what the library's writer says."""

    def problems(self, point: Point, dt: float) -> list[str]:
        """Why its reader would make another neuron of this one; empty if it would not."""
        found = []
        if self.dt_fixed and dt != self.dt:
            found.append(f"dt={dt:g}, where {self.name} always reads with {self.dt:g}")
        if not self.resets and point.reset != 0.0:
            found.append(f"a reset to {point.reset:g}, which {self.name} does not take over")
        if not self.zero_leak and point.leak == 0.0:
            found.append(f"leak 0, which {self.name} refuses")
        return found

    def threshold(self, value: float, dtype: Any) -> float:
        """v_threshold, from θ."""
        return below(value, dtype) if self.strict else float(dtype(value))

    def theta(self, threshold: float, dtype: Any) -> float:
        """θ, from what its writer calls v_threshold."""
        return above(threshold, dtype) if self.strict else float(dtype(threshold))


@dataclass(frozen=True)
class Specification(AbstractDialect):
    """NIR as its equations say."""

    name: ClassVar[str] = "nir"
    integrates: ClassVar[bool] = True
    resets: ClassVar[bool] = True

    def neuron(self, nir: Any, point: Point, shape: tuple[int, ...], dt: float, dtype: Any) -> Any:
        return _plain(nir, point, self.threshold(point.threshold, dtype), shape, dt)

    def either(self, nir: Any, shape: tuple[int, ...], dt: float) -> Any:
        return nir.Threshold(np.full(shape, 0.5))

    def true_tau(self, tau: float, dt: float) -> float:
        return tau


@dataclass(frozen=True)
class SnnTorch(AbstractDialect):
    """snnTorch 1.0."""

    name: ClassVar[str] = "snntorch"
    dt_fixed: ClassVar[bool] = True

    def neuron(self, nir: Any, point: Point, shape: tuple[int, ...], dt: float, dtype: Any) -> Any:
        threshold = self.threshold(point.threshold, dtype)
        if point.leak < 1.0:
            return _plain(nir, point, threshold, shape, dt)
        return _lif(nir, shape, tau=_LONG * dt, r=_LONG, threshold=threshold, reset=point.reset)

    def either(self, nir: Any, shape: tuple[int, ...], dt: float) -> Any:
        return _lif(nir, shape, tau=dt, r=1.0, threshold=0.5, reset=0.0)

    def true_tau(self, tau: float, dt: float) -> float:
        return tau


@dataclass(frozen=True)
class SpikingJelly(AbstractDialect):
    """SpikingJelly 2.0."""

    name: ClassVar[str] = "spikingjelly"
    strict: ClassVar[bool] = False
    zero_leak: ClassVar[bool] = False

    def neuron(self, nir: Any, point: Point, shape: tuple[int, ...], dt: float, dtype: Any) -> Any:
        return _plain(nir, point, self.threshold(point.threshold, dtype), shape, dt)

    def either(self, nir: Any, shape: tuple[int, ...], dt: float) -> Any:
        return _plain(nir, Point(1.0, 0.5, 0.0), 0.5, shape, dt)

    def true_tau(self, tau: float, dt: float) -> float:
        return tau


@dataclass(frozen=True)
class Norse(AbstractDialect):
    """Norse 1.1."""

    name: ClassVar[str] = "norse"
    dt: ClassVar[float] = 1e-3
    averages: ClassVar[bool] = False

    def neuron(self, nir: Any, point: Point, shape: tuple[int, ...], dt: float, dtype: Any) -> Any:
        if point.leak == 1.0:
            return _plain(nir, point, self.threshold(point.threshold, dtype), shape, dt)
        scaled = self.threshold((1.0 - point.leak) * point.threshold, dtype)
        return _lif(nir, shape, tau=time_constant(point.leak, dt), r=1.0, threshold=scaled, reset=0.0)

    def either(self, nir: Any, shape: tuple[int, ...], dt: float) -> Any:
        return _plain(nir, Point(1.0, 0.5, 0.0), 0.5, shape, dt)

    def true_tau(self, tau: float, dt: float) -> float:
        return tau / dt


DIALECTS: dict[str, AbstractDialect] = {d.name: d for d in (Specification(), SnnTorch(), SpikingJelly(), Norse())}


def dialect(name: str) -> AbstractDialect:
    """The dialect of that name.

    Raises:
        RecipeError: there is none.
    """
    if name not in DIALECTS:
        raise RecipeError("NIR", expected="a library that reads NIR", got=f"'{name}'", fix=near(name, DIALECTS))
    return DIALECTS[name]


def _plain(nir: Any, point: Point, threshold: float, shape: tuple[int, ...], dt: float) -> Any:
    if point.leak == 1.0:
        full = (np.full(shape, value) for value in (1.0 / dt, threshold, point.reset))
        return nir.IF(*full)
    tau = time_constant(point.leak, dt)
    return _lif(nir, shape, tau=tau, r=tau / dt, threshold=threshold, reset=point.reset)


def _lif(nir: Any, shape: tuple[int, ...], *, tau: float, r: float, threshold: float, reset: float) -> Any:
    tau_, r_, leak, threshold_, reset_ = (np.full(shape, value) for value in (tau, r, 0.0, threshold, reset))
    return nir.LIF(tau=tau_, r=r_, v_leak=leak, v_threshold=threshold_, v_reset=reset_)
