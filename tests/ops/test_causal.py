"""The causal-set kernel of the ramp neuron against the form that sorts, gathers and accumulates in plain torch."""

from __future__ import annotations

import torch

from aplysia.ops.causal import causal_ramp


def reference(x: torch.Tensor, weight: torch.Tensor, threshold: float) -> torch.Tensor:
    """Sort, gather to `[B, M, N]`, cumulative sums, earliest valid candidate; autograd does the rest."""
    times, order = x.sort(1, descending=True)
    spiked = (times > 0).unsqueeze(2)
    sorted_weight = weight.t()[order] * spiked
    slope = sorted_weight.cumsum(1)
    candidates = ((sorted_weight * times.unsqueeze(2)).cumsum(1) - threshold) / slope
    after = torch.cat([times[:, 1:], torch.zeros_like(times[:, :1])], 1).unsqueeze(2)
    valid = (slope > 0) & spiked & (candidates <= times.unsqueeze(2)) & (candidates >= after)
    y = candidates.gather(1, valid.int().argmax(1, keepdim=True)).squeeze(1)
    return torch.where(valid.any(1) & (y > 0), y, torch.zeros_like(y))


def test_values_and_gradients_of_the_reference() -> None:
    x = (torch.rand(33, 50, dtype=torch.float64) * (torch.rand(33, 50) < 0.6)).requires_grad_()
    weight = (torch.randn(17, 50, dtype=torch.float64) + 0.1).requires_grad_()
    want = reference(x, weight, 1.0)
    got = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None)
    assert 0.3 < float((got > 0).double().mean()) < 0.95
    torch.testing.assert_close(got, want)
    error = torch.randn_like(want)
    for a, b in zip(
        torch.autograd.grad(got, (x, weight), error), torch.autograd.grad(want, (x, weight), error), strict=True
    ):
        torch.testing.assert_close(a, b)
