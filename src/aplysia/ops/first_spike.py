"""Spike times in closed form: the windowed neuron with a falling threshold, and the way between times and earliness.

A unit of a layer with window length T sees inputs that all fired in the window before. At the start of its own window the
potential is z and grows at the slope S; the threshold falls from ϑ to 0 at the slope κ = ϑ/T:

    z + S·τ = ϑ − κ·τ      ⇒      τ = (ϑ − z)/(κ + S),      earliness x = T − τ = (T·S + z)/(κ + S)

With V = z + T·S, the potential at the end, and r = ϑ − z, what is missing at the start, κ + S = (V + r)/T, so

    x = T·V/(V + r)     where V > 0 and r > 0         a sum of two positive numbers: never a division by zero
    x = T               where r ≤ 0                   saturated: fires at once
    x = 0               else                          silent

Derivatives, in the middle case only: ∂x/∂z = 1/(κ + S), ∂x/∂S = τ/(κ + S). Source: Wei et al. (2023), in other words.

A bias b is a threshold ϑ − b at the start, still 0 at the end: r = ϑ − b − z, V as it is, and ∂x/∂b = (x/T)/(κ + S). It must
not enter V even if it would cancel there: what is left of it by rounding would be a spike of a unit without any input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aplysia.errors import DataError
from aplysia.ops.backend import fused


@dataclass(frozen=True)
class Window:
    """The constants of a windowed layer.

    Attributes:
        length: T.
        threshold: ϑ at the start of the window; it falls to 0 at its end.
        max_gain: bound on 1/(κ + S), in the backward pass only; None: none.
    """

    length: float
    threshold: float
    max_gain: float | None


@fused
def _fire(w: Window, z: Tensor, slope: Tensor, *bias: Tensor) -> Tensor:
    return _solve(w, z, slope, *bias)[0]


@fused
def _fire_with_gain(w: Window, z: Tensor, slope: Tensor, *bias: Tensor) -> tuple[Tensor, Tensor]:
    x, gain, between = _solve(w, z, slope, *bias)
    bounded = gain if w.max_gain is None else gain.clamp(max=w.max_gain)
    return x, torch.where(between, bounded, torch.zeros_like(z))


def _solve(w: Window, z: Tensor, slope: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    end, missing = z + w.length * slope, w.threshold - (z if bias is None else z + bias)
    gain = w.length / (end + missing)
    # Rounding alone would carry a crossing right at the start past T.
    crossing = torch.where(end > 0.0, (end * gain).clamp(max=w.length), torch.zeros_like(z))
    x = torch.where(missing <= 0.0, torch.full_like(z, w.length), crossing)
    return x, gain, (end > 0.0) & (missing > 0.0)


@fused
def _adjoint(w: Window, error: Tensor, gain: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    by_z = error * gain
    return by_z, by_z * (w.length - x)


class _Windowed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, w: Window, z: Tensor, slope: Tensor, bias: Tensor | None) -> Tensor:
        x, gain = _fire_with_gain(w, *_flats(z, slope, bias))
        x = _unflat(x, z)
        ctx.window = w
        ctx.save_for_backward(gain, x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gain, x = ctx.saved_tensors
        by_z, by_slope = (_unflat(by, x) for by in _adjoint(ctx.window, _flat(gradients[0], like=x), gain, _flat(x)))
        by_bias = None
        if ctx.needs_input_grad[3]:
            by_bias = (by_z * x).sum([n for n in range(x.ndim) if n != 1]) / ctx.window.length
        return None, by_z, by_slope, by_bias


def windowed_spike(w: Window, z: Tensor, slope: Tensor, bias: Tensor | None = None) -> Tensor:
    """Earliness of each unit's spike.

    Args:
        w: the constants.
        z: `[B, …]`, the potential at the start of the window.
        slope: `[B, …]`, S, at which it grows.
        bias: `[N]`, by which the threshold starts lower, of each unit or channel; None: 0.

    Returns:
        `[B, …]` in [0, T]; 0 = silent, T = saturated. A unit whose potential only touches the threshold at the very end is
        silent: else a unit without any input would fire.
    """
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (z, slope, bias)):
        x = _Windowed.apply(w, z, slope, bias)
        assert isinstance(x, Tensor)
        return x
    return _unflat(_fire(w, *_flats(z, slope, bias)), z)


def _flats(z: Tensor, slope: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
    made = (_flat(z), _flat(slope, like=z))
    if bias is None:
        return made
    return *made, _flat(bias.view(-1, *[1] * (z.ndim - 2)).expand_as(z), like=z)


def _flat(x: Tensor, like: Tensor | None = None) -> Tensor:
    """`[1, n]` in the order of memory, without a copy where there is an order. (Kernels are specialised on the first length,
    which must not be the batch's.)"""
    if _by_channels(x if like is None else like):
        x = x.movedim(1, -1)
    return x.reshape(1, -1)


def _unflat(flat: Tensor, like: Tensor) -> Tensor:
    if _by_channels(like):
        batch, channels, *space = like.shape
        return flat.view(batch, *space, channels).movedim(-1, 1)
    return flat.view(like.shape)


def _by_channels(x: Tensor) -> bool:
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


@fused
def _count(saturation: float | None, x: Tensor) -> tuple[Tensor, Tensor]:
    # Sums of 0/1 values in place of comparisons and counts, which take five times as long eager on a CPU. No quotient by T
    # either: a GPU multiplies by the reciprocal, and T·(1/T) may be less than 1.
    fired = x.sign().sum(2)
    return fired, fired if saturation is None else x.shape[2] - (saturation - x).sign().sum(2)


@torch.no_grad()
def count_spikes(x: Tensor, saturation: float | None) -> tuple[Tensor, Tensor]:
    """How many units fired, and how many as early as they can: exact integers in float64, 0-dim each."""
    # Per sample first: a float32 sum over a whole batch would no longer be an exact integer.
    fired, saturated = _count(saturation, _flat(x.detach()).view(1, len(x), -1))
    total = fired.sum(dtype=torch.float64)
    return total, torch.zeros_like(total) if saturation is None else saturated.sum(dtype=torch.float64)


def to_times(x: Tensor, window: float) -> Tensor:
    """Spike times t = T − x in the local window, ∞ where there is no spike."""
    return torch.where(x > 0, window - x, torch.full_like(x, torch.inf))


def from_times(times: Tensor, window: float) -> Tensor:
    """Earliness x = T − t of spike times in [0, T); ∞ (no spike) and T itself become 0.

    Raises:
        DataError: a NaN, or a finite time outside [0, T].
    """
    if bool(times.isnan().any()):
        raise DataError("spike times", expected="numbers, or ∞ for no spike", got="NaN", fix="mend the data")
    spikes = times[times != torch.inf]
    if spikes.numel() and (float(spikes.min()) < 0.0 or float(spikes.max()) > window):
        raise DataError(
            "spike times",
            expected=f"times in [0, {window:g}], or ∞ for no spike",
            got=f"times from {float(spikes.min()):g} to {float(spikes.max()):g}",
            fix="shift and scale them into the window",
        )
    return torch.where(times == torch.inf, torch.zeros_like(times), window - times)


def check_earliness(x: Tensor, window: float | None, where: str) -> None:
    """Refuse inputs that are no earliness in a window.

    Raises:
        DataError: NaN, a negative value (a spike after its window), or one above T (a spike before it).
    """
    low, high = (float(v) for v in torch.aminmax(x))
    if not (
        low >= 0.0 and (high <= window if window is not None else high < float("inf"))
    ):  # so that NaN is refused too
        top = "" if window is None else f" to {window:g}"
        raise DataError(
            where,
            expected=f"earliness from 0 (no spike){top}: spike times inside the window",
            got=f"values from {low:g} to {high:g}",
            fix="scale the input to [0, T], or turn times into earliness by aplysia.from_times",
        )
