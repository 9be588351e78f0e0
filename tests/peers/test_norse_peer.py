"""LIF against Norse's `lif_box_feed_forward_step` and `lif_feed_forward_step`, forward and backward.

What differs:

    tau_mem_inv, dt    λ = 1 − dt·tau_mem_inv (an Euler step, with dt = 0.001 unless said)
    current            scaled there by dt·tau_mem_inv = 1 − λ: scale ours
    u = θ              does not fire there (strict >), fires here
    reset              to v_reset (HardReset), or by `reset_method=reset_subtract` to u − θ (SoftReset); the path through the
                       spike is attached
    v_leak             a constant current of (1 − λ)·v_leak more
    lif_feed_forward   has a synaptic current on top, which decays with 1 − dt·tau_syn_inv. With tau_syn_inv = 1/dt it lasts one
                       step, and the neuron is the box
    method             "triangle" is alpha·max(0, 1 − |x|): Triangle(width=1) for alpha = 1; "super" has no counterpart here
"""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers import assert_rate
from torch import Tensor

from aplysia.neurons.lif import LIF
from aplysia.ops.scan import AbstractReset, HardReset, SoftReset
from aplysia.ops.surrogate import Triangle

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it scripts its kernels when imported, and torch deprecates that
    box = pytest.importorskip("norse.torch.functional.lif_box", reason="Norse is not installed (extra 'peers')")
    full = pytest.importorskip("norse.torch.functional.lif", reason="Norse is not installed (extra 'peers')")
    resets = pytest.importorskip("norse.torch.functional.reset", reason="Norse is not installed (extra 'peers')")

DT, TAU_INV = 0.001, 300.0
LEAK = 1.0 - DT * TAU_INV


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def currents() -> Tensor:
    return (torch.randn(13, 4, 9, dtype=torch.float64) * 2.0 + 1.5).requires_grad_()


def same(lif: LIF, want: Tensor, x: Tensor, *, extra: float = 0.0) -> None:
    scaled = x * (1.0 - LEAK) + extra
    got, _ = lif.scan(scaled, lif.init(scaled[0].detach()), through_time=True)
    assert_rate(got.detach())
    assert torch.equal(got.detach(), want.detach())
    by_s = torch.randn_like(got)
    (want_x,), (got_x,) = torch.autograd.grad(want, x, by_s), torch.autograd.grad(got, x, by_s)
    assert want_x.abs().max() > 0.1
    torch.testing.assert_close(got_x, want_x, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("reset", "v_reset", "method"),
    [
        (HardReset(), 0.0, "reset_value"),
        (HardReset(value=-0.2), -0.2, "reset_value"),
        (SoftReset(), 0.0, "reset_subtract"),
    ],
    ids=["hard", "hard to −0.2", "soft"],
)
def test_lif_box(reset: AbstractReset, v_reset: float, method: str) -> None:
    p = box.LIFBoxParameters(
        tau_mem_inv=number(TAU_INV),
        v_leak=number(0.0),
        v_th=number(0.9),
        v_reset=number(v_reset),
        method="triangle",
        alpha=1.0,
        reset_method=getattr(resets, method),
    )
    x, state, spikes = currents(), box.LIFBoxFeedForwardState(v=torch.zeros(4, 9, dtype=torch.float64)), []
    for step in x:
        z, state = box.lif_box_feed_forward_step(step, state, p, DT)
        spikes.append(z)
    same(LIF(leak=LEAK, threshold=0.9, surrogate=Triangle(), reset=reset, detach_reset=False), torch.stack(spikes), x)


def test_a_leak_potential_is_a_constant_current() -> None:
    p = box.LIFBoxParameters(
        tau_mem_inv=number(TAU_INV),
        v_leak=number(0.3),
        v_th=number(0.9),
        v_reset=number(0.0),
        method="triangle",
        alpha=1.0,
    )
    x, state, spikes = currents(), box.LIFBoxFeedForwardState(v=torch.zeros(4, 9, dtype=torch.float64)), []
    for step in x:
        z, state = box.lif_box_feed_forward_step(step, state, p, DT)
        spikes.append(z)
    lif = LIF(leak=LEAK, threshold=0.9, surrogate=Triangle(), reset=HardReset(), detach_reset=False)
    same(lif, torch.stack(spikes), x, extra=0.3 * (1.0 - LEAK))


def test_lif_with_a_synapse_of_one_step() -> None:
    p = full.LIFParameters(
        tau_syn_inv=number(1.0 / DT),
        tau_mem_inv=number(TAU_INV),
        v_leak=number(0.0),
        v_th=number(0.9),
        v_reset=number(0.0),
        method="triangle",
        alpha=number(1.0),
    )
    zeros = torch.zeros(4, 9, dtype=torch.float64)
    x, state, spikes = currents(), full.LIFFeedForwardState(v=zeros, i=zeros.clone()), []
    for step in x:
        z, state = full.lif_feed_forward_step(step, state, p, DT)
        spikes.append(z)
    same(
        LIF(leak=LEAK, threshold=0.9, surrogate=Triangle(), reset=HardReset(), detach_reset=False),
        torch.stack(spikes),
        x,
    )


def test_at_the_threshold_only_ours_fires() -> None:
    p = box.LIFBoxParameters(tau_mem_inv=number(1.0 / DT))
    z, _ = box.lif_box_feed_forward_step(torch.ones(1), box.LIFBoxFeedForwardState(v=torch.zeros(1)), p, DT)
    assert z.item() == 0.0
    lif = LIF(leak=0.0)
    assert lif.scan(torch.ones(1, 1), lif.init(torch.ones(1)), through_time=True)[0].item() == 1.0
