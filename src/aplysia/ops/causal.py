"""First spike of linear ramps against a fixed threshold: the causal set, found by one scan over the sorted inputs.

Every input spike starts a ramp, and a unit fires where the sum of its ramps first reaches the threshold. In earliness
x = T − t (0: no spike), with the causal set C_i = {j: x_j > y_i} and A_i = Σ_C w_ij, the slope at the crossing,

    V_i(s) = Σ_{x_j > s} w_ij (x_j − s) = ϑ      ⇒      y_i = (Σ_C w_ij x_j − ϑ)/A_i

What is scanned is the potential itself. With the inputs in order of time, x_1 ≥ x_2 ≥ …, and x_{M+1} = 0, the horizon,

    A ← A + w_k,    V ← V + A·(x_k − x_{k+1}),    and at the first V ≥ ϑ:    y = x_{k+1} + (V − ϑ)/A

This is exact, first crossings that do not last included, and needs no case of its own for anything: inputs at the same time
or silent ones leave V as it is, and a V that has risen from below ϑ to ϑ or above has A > 0, and not less than about ε·ϑ/T.
(Σ_C w·x − ϑ, by contrast, cancels, and its candidates must be checked against their interval with rounded numbers.) A unit
that reaches ϑ only at the horizon, or never, is silent.

Backward, with the error e = ∂L/∂y and the unit's gain 1/A (0 where silent):

    g = e/A      ∂L/∂w_ij = Σ_batch g_i·max(0, x_j − y_i)      ∂L/∂x_j = Σ_i g_i·[x_j > y_i]·B_ij

B is the feedback tensor: the weights themselves for backpropagation. No tensor of batch × inputs × units exists in either
pass: all three are scans in blocks, whose kernels are compiled or eager and give the same numbers.

Sources: Zhang et al. (2021), "Rectified linear postsynaptic potential function", for the neuron; the sorted search of Mostafa
(2018), "Supervised learning based on temporal coding"; the feedback slot as in aplysia.ops.synapse.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from aplysia.ops.backend import fused

# Inputs (forward), samples (update) or units (error) that one kernel goes through; kernels are unrolled over them.
BLOCK = 16

# Blocks of the forward scan between two looks at whether any unit is still below threshold: on a GPU each look is a wait.
BLOCKS_PER_LOOK = 2

# Entries of the update that are summed side by side, where the weight has fewer: what a CPU's caches hold.
UPDATE_ENTRIES = 1 << 19


def _positive(fresh: Tensor) -> Tensor:
    """1 where positive, 0 elsewhere and at a NaN. Two forms of the same numbers: a comparison is what a compiler makes a mask
    of; eager on a CPU it takes five times as long as both operations in place."""
    if torch.compiler.is_compiling():
        return (fresh > 0.0).to(fresh.dtype)
    return fresh.clamp_(min=0.0).sign_()


@fused
def _rise(
    threshold: float, order: Tensor, gap: Tensor, rows: Tensor, slope: Tensor, v: Tensor, count: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    for inputs, wait in zip(order.unbind(0), gap.unbind(0), strict=True):
        below = _positive(threshold - v)
        slope = slope + rows.index_select(0, inputs).mul_(below)
        v = v + (slope * wait.unsqueeze(1)).mul_(below)
        count = count + below
    return slope, v, count


@fused
def _add_update(_: None, x: Tensor, y: Tensor, g: Tensor, update: Tensor) -> Tensor:
    for x_k, y_k, g_k in zip(x.unbind(0), y.unbind(0), g.unbind(0), strict=True):
        update = update + (x_k.unsqueeze(1) - y_k.unsqueeze(2)).clamp_(min=0.0).mul_(g_k.unsqueeze(2))
    return update


@fused
def _add_error(_: None, feedback: Tensor, y: Tensor, g: Tensor, x: Tensor, error: Tensor) -> Tensor:
    for row, y_k, g_k in zip(feedback.unbind(0), y.unbind(0), g.unbind(0), strict=True):
        error = error + _positive(x - y_k.unsqueeze(1)).mul_(g_k.unsqueeze(1) * row)
    return error


def _blocks(count: int, block: int, *tensors: Tensor) -> Any:
    """Copies of the first `count` entries in blocks, the last one filled up by zeros.

    For the compiler all blocks are alike then. It would make kernels anew for another length, and for a view that begins
    where its tensor does.
    """
    for start in range(0, count, block):
        lacking = max(0, start + block - len(tensors[0]))
        yield [F.pad(tensor[start : start + block], (0, 0) * (tensor.ndim - 1) + (0, lacking)) for tensor in tensors]


def _crossing(x: Tensor, weight: Tensor, threshold: float, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Earliness y, slope A and who fired, `[B, N]` each."""
    batch, fan_in = x.shape
    times, order = x.sort(dim=1, descending=True, stable=True)
    order, times = order.int().t().contiguous(), F.pad(times, (0, 1)).t().contiguous()
    gap = times[:-1] - times[1:]
    spikes = int((x > 0.0).sum(1).max()) if x.numel() else 0  # silent inputs come last and do nothing
    rows = weight.t().contiguous()
    slope, v, count = (x.new_zeros(batch, weight.shape[0]) for _ in range(3))
    for number, (inputs, wait) in enumerate(_blocks(spikes, block, order, gap)):
        if number and number % BLOCKS_PER_LOOK == 0 and not bool((v < threshold).any()):
            break
        slope, v, count = _rise(threshold, inputs, wait, rows, slope, v, count)
    # The crossing lies between the last input counted and the one after it.
    last = count.long().clamp_(min=1, max=fan_in)
    before, after = times.t().gather(1, last - 1), times.t().gather(1, last)
    y = after + (v - threshold) / slope
    # Rounding alone would carry a crossing right behind an input past it, and that input out of the causal set.
    y = torch.minimum(y, torch.nextafter(before, torch.zeros_like(before)))
    fired = ~(v < threshold) & ~(y <= 0.0)  # written so that a NaN is not lost
    return torch.where(fired, y, torch.zeros_like(y)), slope, fired


def _update(x: Tensor, y: Tensor, g: Tensor, block: int) -> Tensor:
    """Σ_batch g_i·max(0, x_j − y_i), `[N, M]`."""
    (batch, fan_in), units = x.shape, y.shape[1]
    # Small weights: groups of samples are summed side by side, so that no kernel has next to nothing to do.
    groups = max(
        1, min(UPDATE_ENTRIES // max(1, fan_in * units), batch // BLOCK)
    )  # of no `block`: it is the sums' order
    update = x.new_zeros(groups, units, fan_in)
    for parts in _blocks(batch, block * groups, x, y, g):
        update = _add_update(None, *(part.view(block, groups, part.shape[1]) for part in parts), update)
    return update.sum(0) if groups > 1 else update[0]


def _error(x: Tensor, y: Tensor, g: Tensor, feedback: Tensor, block: int) -> Tensor:
    """Σ_i g_i·[x_j > y_i]·B_ij, `[B, M]`."""
    error = torch.zeros_like(x)
    for rows, times, gains in _blocks(len(feedback), block, feedback, y.t().contiguous(), g.t().contiguous()):
        error = _add_error(None, rows, times, gains, x, error)
    return error


class _CausalRamp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        threshold: float,
        feedback: Tensor | None,
        max_gain: float | None,
        block: int,
    ) -> Tensor:
        y, slope, fired = _crossing(x, weight, threshold, block)
        gain = slope.reciprocal() if max_gain is None else slope.reciprocal().clamp(max=max_gain)
        ctx.block = block
        ctx.save_for_backward(x, y, torch.where(fired, gain, torch.zeros_like(gain)), feedback)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, y, gain, feedback = ctx.saved_tensors
        g = gradients[0] * gain
        error = update = None
        if ctx.needs_input_grad[0] and feedback is not None:
            error = _error(x, y, g, feedback, ctx.block)
        if ctx.needs_input_grad[1]:
            update = _update(x, y, g, ctx.block)
        return error, update, None, None, None, None


def causal_ramp(
    x: Tensor,
    weight: Tensor,
    *,
    threshold: float,
    feedback: Tensor | None,
    max_gain: float | None,
    block: int = BLOCK,
) -> Tensor:
    """Earliness of each unit's first spike.

    Args:
        x: `[B, M]`, the inputs' earliness, ≥ 0; 0 = no spike. Patches of a convolution are rows like any other.
        weight: `[N, M]`.
        threshold: ϑ > 0.
        feedback: the tensor in the error slot, shaped like the weight. None: no error leaves this synapse downwards.
        max_gain: bound on 1/A, in the backward pass only; None: none. It acts on the factor that all of a unit's
            derivatives have in common, so the direction of its update stays.
        block: how many inputs, samples or units a kernel goes through; no result depends on it.

    Returns:
        `[B, N]`, the earliness of the first crossing; 0 = silent.
    """
    feedback = None if feedback is None else feedback.detach()
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        y = _CausalRamp.apply(x, weight, threshold, feedback, max_gain, block)
        assert isinstance(y, Tensor)
        return y
    return _crossing(x.detach(), weight.detach(), threshold, block)[0]
