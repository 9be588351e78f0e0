"""The three slots of a synapse, and an input that is held, against plain autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.ops.geometry import AbstractGeometry, Conv2d, Dense
from aplysia.ops.synapse import held_synapse, hold, synapse

GEOMETRIES: dict[str, tuple[AbstractGeometry, tuple[int, ...], tuple[int, ...]]] = {
    "dense": (Dense(), (5, 7), (3, 7)),
    "conv": (Conv2d(), (2, 3, 6, 5), (4, 3, 3, 3)),
    "conv, padding": (Conv2d(1, 1), (2, 3, 6, 5), (4, 3, 3, 3)),
    "conv, stride that leaves a rest": (Conv2d(2, 0), (2, 3, 6, 6), (4, 3, 3, 3)),
    "conv, stride and padding": (Conv2d(3, 2), (2, 3, 7, 8), (4, 3, 3, 3)),
    "conv, groups": (Conv2d(1, 1, 2), (2, 4, 5, 5), (6, 2, 3, 3)),
    "conv, depthwise, stride": (Conv2d(2, 1, 4), (2, 4, 6, 6), (4, 1, 3, 3)),
    "conv, even kernel": (Conv2d(1, 1), (2, 3, 5, 5), (4, 3, 2, 2)),
    "conv, 1 × 1": (Conv2d(), (2, 3, 4, 4), (5, 3, 1, 1)),
}
each_geometry = pytest.mark.parametrize("name", list(GEOMETRIES))


def plain(geometry: AbstractGeometry, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    if isinstance(geometry, Conv2d):
        return F.conv2d(x, w, b, geometry.stride, geometry.padding, 1, geometry.groups)
    return F.linear(x, w, b)


def parts(name: str, *, bias: bool = True) -> tuple[AbstractGeometry, Tensor, Tensor, Tensor | None]:
    geometry, drive_shape, weight_shape = GEOMETRIES[name]
    drive = torch.randn(drive_shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(weight_shape, dtype=torch.float64, requires_grad=True)
    return (
        geometry,
        drive,
        weight,
        torch.randn(weight_shape[0], dtype=torch.float64, requires_grad=True) if bias else None,
    )


@each_geometry
@pytest.mark.parametrize("bias", [True, False])
def test_with_its_own_weight_in_the_slot_a_synapse_is_plain_autograd(name: str, bias: bool) -> None:
    geometry, x, w, b = parts(name, bias=bias)
    leaves = [t for t in (x, w, b) if t is not None]
    want = plain(geometry, x, w, b)
    got = synapse(x, w, b, geometry=geometry, feedback=w)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    delta = torch.randn_like(want)
    for a, c in zip(torch.autograd.grad(got, leaves, delta), torch.autograd.grad(want, leaves, delta), strict=True):
        torch.testing.assert_close(a, c, rtol=1e-11, atol=1e-11)


@each_geometry
def test_other_feedback_sends_the_error_another_network_would_send(name: str) -> None:
    """The error slot with B is what plain autograd gives on a synapse with weights B; the update does not see B."""
    geometry, x, w, b = parts(name)
    feedback, delta = torch.randn_like(w), torch.randn_like(plain(geometry, x, w, b))
    error, update, bias = torch.autograd.grad(synapse(x, w, b, geometry=geometry, feedback=feedback), (x, w, b), delta)
    (want_error,) = torch.autograd.grad(plain(geometry, x, feedback, None), x, delta)
    want_update, want_bias = torch.autograd.grad(plain(geometry, x, w, b), (w, b), delta)
    torch.testing.assert_close(error, want_error, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(update, want_update, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(bias, want_bias, rtol=1e-11, atol=1e-11)


@each_geometry
def test_another_pre_is_paired_with_the_error(name: str) -> None:
    geometry, x, w, b = parts(name)
    pre, delta = torch.randn_like(x), torch.randn_like(plain(geometry, x, w, b))
    error, update = torch.autograd.grad(synapse(x, w, b, geometry=geometry, feedback=w, pre=pre), (x, w), delta)
    (want_error,) = torch.autograd.grad(plain(geometry, x, w, None), x, delta)
    (want_update,) = torch.autograd.grad(plain(geometry, pre, w, None), w, delta)
    torch.testing.assert_close(error, want_error, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(update, want_update, rtol=1e-11, atol=1e-11)


@each_geometry
def test_an_empty_slot_sends_no_error_and_still_updates(name: str) -> None:
    geometry, x, w, b = parts(name)
    synapse(x, w, b, geometry=geometry).sum().backward()
    assert x.grad is None or not x.grad.any()
    assert w.grad is not None
    assert w.grad.any()


def test_another_outer_makes_the_update() -> None:
    _, x, w, b = parts("dense")
    seen = []

    def outer(delta: Tensor, pre: Tensor, shape: torch.Size) -> Tensor:
        seen.append((delta, pre, shape))
        return torch.full(shape, 7.0, dtype=delta.dtype)

    delta = torch.randn(5, 3, dtype=torch.float64)
    synapse(x, w, b, feedback=w, outer=outer).backward(delta)
    assert w.grad is not None
    assert (w.grad == 7.0).all()
    (got_delta, pre, shape) = seen[0]
    assert torch.equal(got_delta, delta)
    assert torch.equal(pre, x)
    assert shape == w.shape


def test_no_gradient_reaches_what_is_put_into_the_slots() -> None:
    _, x, w, b = parts("dense")
    feedback, pre = torch.randn_like(w).requires_grad_(), torch.randn_like(x).requires_grad_()
    synapse(x, w, b, feedback=feedback, pre=pre).sum().backward()
    assert feedback.grad is None
    assert pre.grad is None


@each_geometry
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_held_input_equals_the_same_input_written_out(name: str, bias: bool, steps: int, at_once: bool) -> None:
    """With coefficients c: δ[t] is paired with c[t]·x in the weight, and with 1 in the bias."""
    geometry, x, w, b = parts(name, bias=bias)
    c = torch.rand(steps, dtype=torch.float64) + 0.5
    if at_once:
        got = held_synapse(x, w, b, c.tolist(), geometry=geometry)
    else:
        got = hold(synapse(x, w, geometry=geometry), b, c.tolist(), geometry)
    want = [plain(geometry, x, w, b) for _ in range(steps)]
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-12, atol=1e-12)
    delta = torch.randn_like(got)
    leaves = [t for t in (w, b) if t is not None]
    made = torch.autograd.grad(got, leaves, delta)
    update = sum(torch.autograd.grad(plain(geometry, c[t] * x, w, None), w, delta[t])[0] for t in range(steps))
    torch.testing.assert_close(made[0], update, rtol=1e-11, atol=1e-11)
    if b is not None:
        torch.testing.assert_close(made[1], torch.autograd.grad(torch.stack(want), b, delta)[0], rtol=1e-11, atol=1e-11)


@each_geometry
def test_a_held_input_gets_the_error_of_the_feedback(name: str) -> None:
    """Σ_t c[t]·δ[t] through the tensor in the error slot."""
    geometry, x, w, b = parts(name)
    x, feedback, c = x.clone().requires_grad_(), torch.randn_like(w), [0.5, 1.5]
    got = held_synapse(x, w, b, c, geometry=geometry, feedback=feedback)
    delta = torch.randn_like(got)
    (error,) = torch.autograd.grad(got, x, delta, retain_graph=True)
    torch.testing.assert_close(error, geometry.error(0.5 * delta[0] + 1.5 * delta[1], feedback, x.shape))
    closed = held_synapse(x, w, b, c, geometry=geometry)
    assert torch.autograd.grad(closed, x, delta, allow_unused=True) == (None,)


def test_a_bias_does_not_change_the_callers_current() -> None:
    value, bias = torch.randn(3, 4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    before = value.clone()
    hold(value, bias, [1.0, 1.0], Dense())
    assert torch.equal(value, before)
