"""The LIF scan over a chunk of K steps, forward and both backward forms, as fused element-wise kernels.

    u[t] = λ·v[t−1] + I[t]         charge (v is the membrane after the reset)
    s[t] = H(u[t] − θ)             fire, H(0) = 1
    v[t] = reset(u[t], s[t])       soft: u − a·s      hard: u·(1 − s) + r·s

Backward *through time* runs the adjoint recursion over the chunk and hands the adjoint of v on to the chunk before:

    δu[t] = gs[t]·ψ(u[t] − θ) + gv[t]·∂v/∂u,    gI[t] = δu[t],    gv[t−1] = λ·δu[t]

Backward *in the instant* (online schemes) cuts every path through the membrane: gI[t] = gs[t]·ψ(u[t] − θ). Nothing
is then carried from step to step, so it is one product for the whole chunk.

On a CPU the scans of the resets and surrogates that are here are compiled once for all (`lif.cpp`); others, and all on a GPU,
by torch's compiler, which looks at them anew in each process.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aplysia.ops.backend import fused
from aplysia.ops.native import call, library, numbers, ready
from aplysia.ops.surrogate import AbstractSurrogate, Arctan, Rectangle, Sigmoid, Triangle

# Kernels are unrolled over the steps of a block; longer chunks are scanned block by block.
BLOCK = 8


class AbstractReset(ABC):
    """What a spike does to the membrane, and the derivative of that."""

    @abstractmethod
    def after(self, u: Tensor, s: Tensor, threshold: float) -> Tensor:
        """v, the membrane after the reset."""

    @abstractmethod
    def slope(self, u: Tensor, s: Tensor, psi: Tensor, threshold: float, detached: bool) -> Tensor | float:
        """∂v/∂u; `detached` leaves out the path through the spike."""


@dataclass(frozen=True, kw_only=True)
class SoftReset(AbstractReset):
    """v = u − a·s. The amount a is the threshold when None."""

    amount: float | None = None

    def after(self, u: Tensor, s: Tensor, threshold: float) -> Tensor:
        return u - (threshold if self.amount is None else self.amount) * s

    def slope(self, u: Tensor, s: Tensor, psi: Tensor, threshold: float, detached: bool) -> Tensor | float:
        return 1.0 if detached else 1.0 - (threshold if self.amount is None else self.amount) * psi


@dataclass(frozen=True, kw_only=True)
class HardReset(AbstractReset):
    """v = u·(1 − s) + r·s, with reset potential r."""

    value: float = 0.0

    def after(self, u: Tensor, s: Tensor, threshold: float) -> Tensor:
        return u * (1.0 - s) + self.value * s

    def slope(self, u: Tensor, s: Tensor, psi: Tensor, threshold: float, detached: bool) -> Tensor | float:
        return 1.0 - s if detached else 1.0 - s - (u - self.value) * psi


@dataclass(frozen=True)
class Dynamics:
    """The constants of one scan: what a kernel is specialised on."""

    leak: float
    threshold: float
    surrogate: AbstractSurrogate
    reset: AbstractReset
    detach_reset: bool


@fused
def _spikes_only(d: Dynamics, currents: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    spikes = []
    for current in currents.unbind(0):
        u = d.leak * v + current
        s = (u >= d.threshold).to(u.dtype)
        v = d.reset.after(u, s, d.threshold)
        spikes.append(s)
    return torch.stack(spikes), v


@fused
def _spikes_and_slopes(d: Dynamics, currents: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    spikes, slopes = [], []
    for current in currents.unbind(0):
        u = d.leak * v + current
        s = (u >= d.threshold).to(u.dtype)
        v = d.reset.after(u, s, d.threshold)
        spikes.append(s)
        slopes.append(d.surrogate.derivative(u - d.threshold))
    return torch.stack(spikes), v, torch.stack(slopes)


@fused
def _spikes_and_membranes(d: Dynamics, currents: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    spikes, membranes = [], []
    for current in currents.unbind(0):
        u = d.leak * v + current
        s = (u >= d.threshold).to(u.dtype)
        v = d.reset.after(u, s, d.threshold)
        spikes.append(s)
        membranes.append(u)
    return torch.stack(spikes), v, torch.stack(membranes)


@fused
def _adjoint(d: Dynamics, membranes: Tensor, grad_spikes: Tensor, grad_v: Tensor) -> tuple[Tensor, Tensor]:
    currents = []
    for u, grad_s in zip(reversed(membranes.unbind(0)), reversed(grad_spikes.unbind(0)), strict=True):
        s = (u >= d.threshold).to(u.dtype)
        psi = d.surrogate.derivative(u - d.threshold)
        delta = grad_s * psi + grad_v * d.reset.slope(u, s, psi, d.threshold, d.detach_reset)
        grad_v = d.leak * delta
        currents.append(delta)
    currents.reverse()
    return torch.stack(currents), grad_v


@functools.cache
def _told(d: Dynamics) -> tuple[Tensor, list[int]] | None:
    """Numbers and cases of `lif.cpp`: the surrogate, and whether the reset is hard; None: it does not know these dynamics."""
    surrogate, reset = d.surrogate, d.reset
    # Of exactly these types: what is derived from them may be anything.
    if type(surrogate) is Sigmoid:
        case, shape, half = 0, surrogate.slope, 0.0
    elif type(surrogate) is Triangle:
        case, shape, half = 1, surrogate.width, 0.0
    elif type(surrogate) is Arctan:
        case, shape, half = 2, math.pi / 2 * surrogate.alpha, surrogate.alpha / 2
    elif type(surrogate) is Rectangle:
        case, shape, half = 3, surrogate.width, surrogate.width / 2
    else:
        return None
    if type(reset) is SoftReset:
        moved = d.threshold if reset.amount is None else reset.amount
    elif type(reset) is HardReset:
        moved = reset.value
    else:
        return None
    return numbers(d.leak, d.threshold, moved, shape, half), [case, int(type(reset) is HardReset)]


def _ready(*tensors: Tensor) -> bool:
    return all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)


def _natively(
    kernel: Any,
    d: Dynamics,
    currents: Tensor,
    v: Tensor,
    *,
    fired: Tensor | None = None,
    shape: torch.Size | None = None,
) -> tuple[Tensor, ...] | None:
    """What a forward kernel gives, by `lif.cpp` where that can.

    Args:
        kernel: which one.
        d: the constants.
        currents: `[K, n]`.
        v: `[n]`, or one number for all.
        fired: 0-dim in float64, to be filled with the number of spikes.
        shape: `[K, …]` of n units, for what is given; None: that of the currents.
    """
    kernels = library()
    # Dynamics are looked up last: eager kernels take parts that cannot be hashed, too.
    if kernels is None or not _ready(currents, v) or currents.stride(1) != 1 or v.stride(0) not in (0, 1):
        return None
    told = _told(d)
    if told is None:
        return None
    keeps = {_spikes_only: 0, _spikes_and_slopes: 1, _spikes_and_membranes: 2}[kernel]
    given, cases = told
    shape = currents.shape if shape is None else shape
    spikes, last = currents.new_empty(shape), v.new_empty(shape[1:])
    kept = currents.new_empty(shape) if keeps else None
    sizes = [*currents.shape, currents.stride(0), 0 if v.numel() == 1 else v.stride(0), *cases, keeps]
    call(kernels.lif_forward, [currents, v, given, kept, last, fired], sizes, spikes)
    return (spikes, last) if kept is None else (spikes, last, kept)


def _adjoint_natively(
    d: Dynamics, membranes: Tensor, grad_spikes: Tensor, grad_v: Tensor | None
) -> tuple[Tensor, Tensor] | None:
    """What `_adjoint` gives for all steps at once, by `lif.cpp` where that can. `grad_v` None: nothing comes from later."""
    kernels = library()
    if kernels is None or not _ready(membranes, grad_spikes, *(() if grad_v is None else (grad_v,))):
        return None
    told = _told(d)
    if told is None:
        return None
    given, cases = told
    out, earlier = torch.empty_like(membranes), torch.empty_like(membranes[0])
    later = None if grad_v is None else grad_v.contiguous()
    tensors: list[Tensor | None] = [membranes, grad_spikes.contiguous(), later, given, earlier]
    call(kernels.lif_backward, tensors, [*membranes.shape, *cases, int(d.detach_reset)], out)
    return out, earlier


def _blocks(kernel: Any, d: Dynamics, currents: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    """Run a forward kernel block by block; returns its sequence outputs joined, the last v in second place."""
    done = _natively(kernel, d, currents.detach(), v.detach())
    if done is not None:
        return done
    # A compiler would make another kernel for a membrane that is one number everywhere.
    v = v.contiguous()
    if len(currents) <= BLOCK:
        return kernel(d, currents, v)
    parts = []
    for block in currents.split(BLOCK):
        part = kernel(d, block, v)
        v = part[1]
        parts.append(part)
    joined = [torch.cat([p[i] for p in parts]) for i in range(len(parts[0])) if i != 1]
    return (joined[0], v, *joined[1:])


class _ThroughTime(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, d: Dynamics, currents: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        spikes, v_out, membranes = _blocks(_spikes_and_membranes, d, currents, v)
        ctx.dynamics = d
        ctx.save_for_backward(membranes)
        # What no one asks for has no gradient, in place of one full of zeros.
        ctx.set_materialize_grads(False)
        return spikes, v_out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (membranes,) = ctx.saved_tensors
        grad_spikes = torch.zeros_like(membranes) if gradients[0] is None else gradients[0]
        done = _adjoint_natively(ctx.dynamics, membranes, grad_spikes, gradients[1])
        if done is not None:
            return None, *done
        grad_v = torch.zeros_like(membranes[0]) if gradients[1] is None else gradients[1]
        parts = []
        for membrane, grad in zip(
            reversed(membranes.split(BLOCK)), reversed(grad_spikes.contiguous().split(BLOCK)), strict=True
        ):
            part, grad_v = _adjoint(ctx.dynamics, membrane, grad, grad_v)
            parts.append(part)
        currents = parts[0] if len(parts) == 1 else torch.cat(parts[::-1])
        return None, currents, grad_v


class _Instant(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, d: Dynamics, currents: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        spikes, v_out, slopes = _blocks(_spikes_and_slopes, d, currents, v)
        ctx.save_for_backward(slopes)
        ctx.mark_non_differentiable(v_out)
        ctx.set_materialize_grads(False)
        return spikes, v_out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slopes,) = ctx.saved_tensors
        if gradients[0] is None:
            return None, None, None
        # In place: the slopes are ours and serve once. A second backward is refused by autograd's own version check.
        return None, slopes.mul_(gradients[0]), None


def lif_scan(d: Dynamics, currents: Tensor, v: Tensor, *, through_time: bool) -> tuple[Tensor, Tensor]:
    """Scan one chunk.

    Args:
        d: the constants.
        currents: `[K, B, …]`.
        v: `[B, …]`, the membrane after the last step of the chunk before.
        through_time: whether gradients pass through the membrane from step to step.

    Returns:
        spikes `[K, B, …]` and the last membrane `[B, …]`.
    """
    shape, flat, v_flat = currents.shape, currents.reshape(currents.shape[0], -1), _flat(v)
    if not (torch.is_grad_enabled() and (currents.requires_grad or v.requires_grad)):
        spikes, v_out = _blocks(_spikes_only, d, flat, v_flat)[:2]
    elif through_time:
        spikes, v_out = _ThroughTime.apply(d, flat, v_flat)  # type: ignore[misc]
    else:
        spikes, v_out = _Instant.apply(d, flat, v_flat.detach())  # type: ignore[misc]
    return spikes.reshape(shape), v_out.reshape(v.shape)


@torch.no_grad()
def lif_scan_sloped(d: Dynamics, currents: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The same without a graph: spikes, the last membrane, ψ(u[t] − θ) `[K, B, …]`, which is all that a gradient would meet,
    and the number of spikes in float64 where that was counted on the way. `v` None: 0 everywhere."""
    shape = currents.shape
    flat, before = currents.reshape(shape[0], -1), numbers(0.0) if v is None else _flat(v)
    if library() is not None:
        fired = torch.empty((), dtype=torch.float64, device="cpu")
        done = _natively(_spikes_and_slopes, d, flat, before, fired=fired, shape=shape)
        if done is not None:
            spikes, last, slopes = done
            return spikes, last, slopes, fired
    if v is None:
        before = flat.new_zeros(()).expand(flat.shape[1])
    spikes, last, slopes = _blocks(_spikes_and_slopes, d, flat, before)
    return spikes.reshape(shape), last.reshape(shape[1:]), slopes.reshape(shape), None


def _flat(v: Tensor) -> Tensor:
    """`[n]`; at a start it is one number everywhere, which is not written out."""
    return v.as_strided((v.numel(),), (0,)) if v.numel() > 1 and not any(v.stride()) else v.reshape(-1)


def leaky_sum(currents: Tensor, v: Tensor, leak: float, *, through_time: bool) -> tuple[Tensor, Tensor]:
    """The non-spiking integrator v[t] = λ·v[t−1] + I[t] over a chunk; `through_time=False` cuts v from step to step."""
    if leak == 0.0:
        return currents, currents[-1].detach()
    out = []
    for current in currents.unbind(0):
        v = leak * (v if through_time else v.detach()) + current
        out.append(v)
    return torch.stack(out), v


@torch.no_grad()
def decaying_trace(drive: Tensor, trace: Tensor | None, decay: float) -> tuple[Tensor, Tensor]:
    """Eligibility trace a[t] = λ·a[t−1] + x[t] of a drive `[K, B, …]`; returns the chunk's traces and the last one."""
    traces = torch.empty_like(drive)
    if not _traced(drive, trace, decay, traces):
        previous = trace
        for now, made in zip(drive, traces, strict=True):
            made.copy_(now) if previous is None else torch.add(now, previous, alpha=decay, out=made)
            previous = made
    # A view would keep the whole chunk.
    return traces, traces[-1].clone()


@torch.no_grad()
def backward_trace(errors: Tensor, decay: float) -> Tensor:
    """d[t] = λ·d[t+1] + δ[t] of a chunk of errors `[K, B, …]`, with nothing behind it."""
    traces = torch.empty_like(errors)
    if not _traced(errors, None, decay, traces, backwards=True):
        traces[-1].copy_(errors[-1])
        for t in reversed(range(len(errors) - 1)):
            torch.add(errors[t], traces[t + 1], alpha=decay, out=traces[t])
    return traces


@torch.no_grad()
def last_trace(drive: Tensor, trace: Tensor | None, decay: float) -> Tensor:
    """The last of the traces of a drive `[K, B, …]` alone."""
    last = torch.empty_like(drive[0])
    if _traced(drive, trace, decay, last):
        return last
    last = drive[0].clone() if trace is None else torch.add(drive[0], trace, alpha=decay)
    for x in drive[1:]:
        torch.add(x, last, alpha=decay, out=last)
    return last


@torch.no_grad()
def weighted_sum(x: Tensor, weights: Sequence[float]) -> Tensor:
    """Σ_t weights[t]·x[t] over a chunk `[K, …]`."""
    out = torch.empty_like(x[0])
    kernels = library() if x.numel() >= _LEAST and ready(x) else None
    if kernels is not None:
        call(kernels.weighted_sum, [x, numbers(*weights)], [len(x), out.numel()], out)
        return out
    torch.mul(x[0], weights[0], out=out)
    for weight, step in zip(weights[1:], x[1:], strict=True):
        out.add_(step, alpha=weight)
    return out


@torch.no_grad()
def weighted_sums(x: Tensor, weights: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Σ_t weights[t]·x[t] `[B, N]`, and the plain sum over steps and samples `[N]`, of a chunk `[K, B, N]`.

    The first one may lie in memory unit by unit, as an update takes it.
    """
    kernels = library() if x.numel() >= _LEAST and ready(x) else None
    if kernels is None:
        return weighted_sum(x, weights), x.flatten(0, 1).sum(0)
    steps, batch, units = x.shape
    out, plain = x.new_empty(units, batch), x.new_empty(units)
    call(kernels.weighted_sums, [x, numbers(*weights), plain], [steps, batch, units], out)
    return out.t(), plain


# Entries from which on a call pays.
_LEAST = 1 << 14


def _traced(drive: Tensor, trace: Tensor | None, decay: float, out: Tensor, *, backwards: bool = False) -> bool:
    """Have the kernel in C++ fill `out`, where there is one; its numbers are the same."""
    tensors = [drive, out] if trace is None else [drive, out, trace]
    if drive.numel() < _LEAST or not ready(*tensors) or (kernels := library()) is None:
        return False
    sizes = [len(drive), drive[0].numel(), int(backwards), int(out.ndim < drive.ndim)]
    call(kernels.decaying_traces, [drive, trace, numbers(decay)], sizes, out)
    return True
