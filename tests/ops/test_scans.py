"""Scans over time against loops: the LIF scan, the leaky sum, the decaying trace."""

from __future__ import annotations

import pytest
import torch
from helpers import SURROGATES, assert_rate, psi_of
from torch import Tensor

from aplysia.ops.scan import (
    BLOCK,
    AbstractReset,
    Dynamics,
    HardReset,
    SoftReset,
    decaying_trace,
    leaky_sum,
    lif_scan,
    weighted_sum,
    weighted_sums,
)
from aplysia.ops.surrogate import AbstractSurrogate, Sigmoid

RESETS = [SoftReset(), SoftReset(amount=0.3), HardReset(), HardReset(value=-0.4)]
LENGTHS = [1, 6, BLOCK, BLOCK + 3, 2 * BLOCK + 1]


def loop(d: Dynamics, currents: Tensor, v: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    spikes, membranes = [], []
    for current in currents:
        u = d.leak * v + current
        s = (u >= d.threshold).to(u.dtype)
        if isinstance(d.reset, HardReset):
            v = u * (1 - s) + d.reset.value * s
        else:
            v = u - (d.threshold if d.reset.amount is None else d.reset.amount) * s  # type: ignore[attr-defined]
        spikes.append(s)
        membranes.append(u)
    return torch.stack(spikes), v, membranes


def some(steps: int, d: Dynamics) -> tuple[Tensor, Tensor]:
    currents = torch.randn(steps, 5, 4, dtype=torch.float64) + 0.5
    v = 0.3 * torch.randn(5, 4, dtype=torch.float64)
    assert_rate(loop(d, currents, v)[0])
    return currents, v


@pytest.mark.parametrize("reset", RESETS, ids=repr)
@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("leak", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("mode", ["no gradient", "through time", "instant"])
def test_forward_equals_the_loop_bit_for_bit_in_every_mode(
    reset: AbstractReset, steps: int, leak: float, mode: str
) -> None:
    d = Dynamics(leak, 0.8, Sigmoid(), reset, True)
    currents, v = some(steps, d)
    currents.requires_grad_(mode != "no gradient")
    spikes, last = lif_scan(d, currents, v, through_time=mode == "through time")
    want, want_last, _ = loop(d, currents.detach(), v)
    assert torch.equal(spikes, want)
    assert torch.equal(last, want_last)
    assert spikes.requires_grad == (mode != "no gradient")


@pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=list(SURROGATES))
@pytest.mark.parametrize("reset", RESETS, ids=repr)
@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize("steps", LENGTHS)
def test_the_adjoint_through_time_equals_a_loop_backwards(
    surrogate: AbstractSurrogate, reset: AbstractReset, detached: bool, steps: int
) -> None:
    """Gradients by every current and by the first membrane, from errors on every spike and on the last membrane."""
    d = Dynamics(0.7, 0.8, surrogate, reset, detached)
    currents, v = some(steps, d)
    currents.requires_grad_(), v.requires_grad_()
    spikes, last = lif_scan(d, currents, v, through_time=True)
    by_s, by_v = torch.randn_like(spikes), torch.randn_like(last)
    got = torch.autograd.grad((spikes, last), (currents, v), (by_s, by_v))

    _, _, membranes = loop(d, currents.detach(), v.detach())
    psi, want, carried = psi_of(surrogate), [], by_v
    for t in reversed(range(steps)):
        u = membranes[t]
        p, s = psi(u - 0.8), (u >= 0.8).to(u.dtype)
        if isinstance(reset, HardReset):
            slope = 1 - s + (0.0 if detached else (reset.value - u) * p)
        else:
            amount = 0.8 if reset.amount is None else reset.amount  # type: ignore[attr-defined]
            slope = 1 - (0.0 if detached else amount * p)
        delta = by_s[t] * p + carried * slope
        carried = 0.7 * delta
        want.append(delta)
    torch.testing.assert_close(got[0], torch.stack(want[::-1]), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got[1], carried, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", LENGTHS)
def test_in_the_instant_nothing_runs_from_step_to_step(steps: int) -> None:
    d = Dynamics(0.7, 0.8, Sigmoid(), SoftReset(), False)
    currents, v = some(steps, d)
    currents.requires_grad_(), v.requires_grad_()
    spikes, last = lif_scan(d, currents, v, through_time=False)
    assert not last.requires_grad
    by_s = torch.randn_like(spikes)
    (got, by_first) = torch.autograd.grad(spikes, (currents, v), by_s, allow_unused=True)
    _, _, membranes = loop(d, currents.detach(), v.detach())
    want = torch.stack([by_s[t] * psi_of(d.surrogate)(membranes[t] - 0.8) for t in range(steps)])
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    assert by_first is None


def test_a_membrane_at_the_threshold_fires() -> None:
    d = Dynamics(0.5, 1.0, Sigmoid(), SoftReset(), True)
    spikes, v = lif_scan(d, torch.tensor([[[1.0, 1.0 - 1e-7]]]), torch.zeros(1, 2), through_time=True)
    assert spikes.flatten().tolist() == [1.0, 0.0]
    assert v[0, 0] == 0.0


def test_a_scan_leaves_its_inputs_alone() -> None:
    d = Dynamics(0.5, 0.8, Sigmoid(), HardReset(), True)
    currents, v = some(10, d)
    before = currents.clone(), v.clone()
    lif_scan(d, currents, v, through_time=True)
    assert torch.equal(currents, before[0])
    assert torch.equal(v, before[1])


@pytest.mark.parametrize("leak", [0.0, 0.6, 1.0])
def test_leaky_sum_equals_the_loop_forward_and_backward(leak: float) -> None:
    currents = torch.randn(7, 3, 2, dtype=torch.float64, requires_grad=True)
    v = torch.randn(3, 2, dtype=torch.float64)
    out, last = leaky_sum(currents, v, leak, through_time=True)
    want, now = [], v
    for current in currents.detach():
        now = leak * now + current
        want.append(now)
    torch.testing.assert_close(out.detach(), torch.stack(want), rtol=1e-13, atol=0)
    assert torch.equal(last.detach(), out[-1].detach())
    by_out = torch.randn_like(out)
    (got,) = torch.autograd.grad(out, currents, by_out)
    by_current = [sum(leak ** (later - t) * by_out[later] for later in range(t, 7)) for t in range(7)]
    torch.testing.assert_close(got, torch.stack(by_current), rtol=1e-11, atol=1e-12)


def test_leaky_sum_in_the_instant_passes_each_error_to_its_own_step() -> None:
    currents = torch.randn(7, 3, 2, dtype=torch.float64, requires_grad=True)
    out, _ = leaky_sum(currents, torch.ones(3, 2, dtype=torch.float64), 0.6, through_time=False)
    by_out = torch.randn_like(out)
    assert torch.equal(torch.autograd.grad(out, currents, by_out)[0], by_out)


@pytest.mark.parametrize("cut", [1, 3, 7])
def test_a_decaying_trace_equals_its_closed_form_in_any_chunks(cut: int) -> None:
    """a[t] = Σ_k λ^(t−k)·x[k]."""
    x = torch.randn(7, 3, 2, dtype=torch.float64)
    made, last = [], None
    for chunk in x.split(cut):
        traces, last = decaying_trace(chunk, last, 0.8)
        made.append(traces)
    want = torch.stack([sum(0.8 ** (t - k) * x[k] for k in range(t + 1)) for t in range(7)])
    torch.testing.assert_close(torch.cat(made), want, rtol=1e-12, atol=1e-13)
    assert last is not None
    torch.testing.assert_close(last, want[-1], rtol=1e-12, atol=1e-13)


def test_a_trace_does_not_write_into_the_drive() -> None:
    x = torch.randn(4, 2, dtype=torch.float64)
    before = x.clone()
    traces, _ = decaying_trace(x, None, 0.5)
    traces.zero_()
    assert torch.equal(x, before)


@pytest.mark.parametrize("shape", [(1, 5, 70), (6, 37, 801)])
@pytest.mark.parametrize("threads", [1, 2])
def test_weighted_and_plain_sums(compiled: None, shape: tuple[int, ...], threads: int) -> None:
    """Over steps, and over steps and samples, at once; against float64 within the rounding of one sum after another."""
    x, weights = torch.randn(shape, generator=torch.Generator().manual_seed(2)), [0.5**t + 0.1 for t in range(shape[0])]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    weighted, plain = weighted_sums(x, weights)
    torch.set_num_threads(before)
    factors = torch.tensor(weights).double()[:, None, None]
    eps = torch.finfo(torch.float32).eps / 2
    terms = shape[0] * shape[1]
    for found, exact, sizes, count in (
        (weighted, (factors * x).sum(0), (factors * x).abs().sum(0), shape[0]),
        (plain, x.double().sum((0, 1)), x.double().abs().sum((0, 1)), terms),
    ):
        assert bool(((found - exact).abs() <= eps * (count + 2) * sizes).all())
    assert torch.equal(weighted, weighted_sum(x, weights))
