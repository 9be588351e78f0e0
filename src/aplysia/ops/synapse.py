"""The synapse with three slots: the one place where a drive meets a weight.

    value  = geometry.forward(drive, weight) + bias       forward physics
    error  = geometry.error(δ, feedback)                  spatial credit: where the error below comes from
    update = outer(δ, pre)                                temporal credit: which past activity δ is paired with

Backpropagation is the special case `feedback = weight`, `pre = drive`, `outer = geometry.outer`. Everything a learning
rule of this field does differently, it does by filling these slots differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from aplysia.ops.geometry import AbstractGeometry, Dense
from aplysia.ops.scan import weighted_sum, weighted_sums

Outer = Callable[[Tensor, Tensor, torch.Size], Tensor]


class _Synapse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        feedback: Tensor | None,
        pre: Tensor | None,
        geometry: AbstractGeometry,
        outer: Outer | None,
    ) -> Tensor:
        value = geometry.forward(drive, weight, bias)
        ctx.geometry, ctx.outer = geometry, outer or geometry.outer
        ctx.drive_shape, ctx.weight_shape = drive.shape, weight.shape
        ctx.save_for_backward(feedback, drive if pre is None else pre)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (delta,) = gradients
        feedback, pre = ctx.saved_tensors
        wants_error, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        error = update = bias = None
        if wants_bias:
            # First, while δ is in the cache.
            bias = ctx.geometry.bias_gradient(delta)
        if wants_error and feedback is not None:
            error = ctx.geometry.error(delta, feedback, ctx.drive_shape)
        if wants_weight:
            update = ctx.outer(delta, pre, ctx.weight_shape)
        return error, update, bias, None, None, None, None


def synapse(
    drive: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    geometry: AbstractGeometry | None = None,
    feedback: Tensor | None = None,
    pre: Tensor | None = None,
    outer: Outer | None = None,
) -> Tensor:
    """Drive through weights, with the error slot and the update slot filled by the learning rule.

    Args:
        drive: `[B, …]`, time folded into the batch.
        weight: forward weights; their gradient is `outer(δ, pre)`.
        bias: `[N]` or None; its gradient is Σ δ (a bias is an input that is always 1).
        geometry: dense unless said.
        feedback: the tensor in the error slot, shaped like the weight. None: no error leaves this synapse downwards.
        pre: what δ is paired with, shaped like the drive. None: the drive itself.
        outer: the pairing, `(δ, pre, weight shape) -> update`. None: the geometry's product.

    Returns:
        `[B, …]`, the postsynaptic current.
    """
    geometry = geometry or Dense()
    feedback = None if feedback is None else feedback.detach()
    pre = None if pre is None else pre.detach()
    value = _Synapse.apply(drive, weight, bias, feedback, pre, geometry, outer)
    assert isinstance(value, Tensor)
    return value


@dataclass(frozen=True)
class Connection:
    """One layer's weights with the error slot filled: what a neuron sends its drives through.

    Attributes:
        weight: as the drive meets it.
        bias: `[N]` or None.
        geometry: dense or convolution.
        feedback: the tensor in the error slot; None: no error leaves.
    """

    weight: Tensor
    bias: Tensor | None
    geometry: AbstractGeometry
    feedback: Tensor | None

    def __call__(self, drive: Tensor, bias: Tensor | None = None) -> Tensor:
        """The current `[B, …]` that a drive makes, plus `bias` (the connection's own is not added by itself)."""
        return synapse(drive, self.weight, bias, geometry=self.geometry, feedback=self.feedback)


def _held_adjoint(
    delta: Tensor, weights: Sequence[float], geometry: AbstractGeometry, *, value: bool, bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Σ_t weights[t]·δ[t] and Σ_t δ[t] of a held value and its bias, where they are wanted."""
    if value and bias and delta.ndim == 3:
        # Both while they are in the cache.
        return weighted_sums(delta, weights)
    # Element-wise; a product with a K-vector takes ten times as long.
    return (
        weighted_sum(delta, weights) if value else None,
        geometry.bias_gradient(delta.flatten(0, 1)) if bias else None,
    )


class _HeldSynapse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        drive: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        feedback: Tensor | None,
        weights: Sequence[float],
        geometry: AbstractGeometry,
    ) -> Tensor:
        value = geometry.forward(drive, weight, bias)
        ctx.geometry, ctx.weights, ctx.drive_shape, ctx.weight_shape = geometry, weights, drive.shape, weight.shape
        ctx.save_for_backward(feedback, drive)
        return value.expand(len(weights), *value.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (delta,), (feedback, drive) = gradients, ctx.saved_tensors
        wants_error, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        wants_error = wants_error and feedback is not None
        value, bias = _held_adjoint(
            delta, ctx.weights, ctx.geometry, value=wants_error or wants_weight, bias=wants_bias
        )
        error = update = None
        if value is not None:
            error = ctx.geometry.error(value, feedback, ctx.drive_shape) if wants_error else None
            update = ctx.geometry.outer(value, drive, ctx.weight_shape) if wants_weight else None
        return error, update, bias, None, None, None


def held_synapse(
    drive: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    weights: Sequence[float],
    *,
    geometry: AbstractGeometry,
    feedback: Tensor | None = None,
) -> Tensor:
    """`hold` of a `synapse`, in one: the current that a constant drive makes at each of K steps.

    Args:
        drive: `[B, …]`.
        weight, bias, feedback: as for `synapse`.
        weights: K numbers, as for `hold`.
        geometry: of the connection.

    Returns:
        `[K, B, …]`, a view that repeats one step.
    """
    feedback = None if feedback is None else feedback.detach()
    out = _HeldSynapse.apply(drive, weight, bias, feedback, weights, geometry)
    assert isinstance(out, Tensor)
    return out


class _Hold(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, value: Tensor, bias: Tensor | None, weights: Sequence[float], geometry: AbstractGeometry
    ) -> Tensor:
        ctx.geometry, ctx.weights = geometry, weights
        if bias is not None:
            value = geometry.add_bias(value, bias)
        return value.expand(len(weights), *value.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        value, bias = ctx.needs_input_grad[:2]
        return *_held_adjoint(gradients[0], ctx.weights, ctx.geometry, value=value, bias=bias), None, None


def hold(value: Tensor, bias: Tensor | None, weights: Sequence[float], geometry: AbstractGeometry) -> Tensor:
    """One current, held for K steps: `value + bias` at every step.

    A constant drive x has the trace c[t]·x with scalar c[t], so the whole chunk's update collapses to one product:
    Σ_t δ[t] ⊗ c[t]·x = (Σ_t c[t]·δ[t]) ⊗ x. The coefficients c are this function's `weights` (all one: no trace).

    Args:
        value: `[B, …]`, without bias.
        bias: `[N]` or None; its gradient is the plain Σ_t δ[t].
        weights: K numbers.
        geometry: which adds the bias.

    Returns:
        `[K, B, …]`, a view that repeats one step.
    """
    out = _Hold.apply(value, bias, weights, geometry)
    assert isinstance(out, Tensor)
    return out
