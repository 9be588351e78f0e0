"""LIF against snnTorch's `Leaky`, forward and backward.

What differs:

    beta                     λ; the current is not scaled, in both
    u = θ                    does not fire there (strict >), fires here
    reset_delay=True         (their default) the reset is taken from the *next* step, after the leak:
                             mem[t] = β·mem[t−1] + I[t] − θ·[mem[t−1] > θ]. As u[t] = λ·(u[t−1] − a·s[t−1]) + I[t] here, it is
                             SoftReset(amount=θ/λ). Their `mem` is our u, before the reset. It is detached.
    reset_mechanism="zero"   mem[t] = β·(1 − s[t−1])·mem[t−1] + I[t]: HardReset(), delayed or not
    reset_delay=False        mem[t] = u[t] − θ·s[t], our SoftReset(), but the path through the spike is *not* detached, and a
                             membrane still above θ after the reset is compared with θ at the next step after one more
                             subtraction, which is taken back when it then does not fire: one between θ and 2θ never fires.
                             The two agree only while every u < 2θ.
    spike_grad               atan(alpha) is Arctan(alpha=alpha); sigmoid(slope) is Sigmoid(slope=slope)
"""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers import assert_rate
from torch import Tensor

from aplysia.neurons.lif import LIF
from aplysia.ops.scan import HardReset, SoftReset
from aplysia.ops.surrogate import AbstractSurrogate, Arctan, Sigmoid

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    snntorch = pytest.importorskip("snntorch", reason="snnTorch is not installed (extra 'peers')")
    their_surrogate = pytest.importorskip("snntorch.surrogate", reason="snnTorch is not installed (extra 'peers')")

PAIRS = [
    (Arctan(alpha=2.0), lambda: their_surrogate.atan(alpha=2.0)),
    (Sigmoid(slope=5.0), lambda: their_surrogate.sigmoid(slope=5)),
]
each_surrogate = pytest.mark.parametrize(("psi", "their_psi"), PAIRS, ids=["arctan", "sigmoid"])


def theirs(leaky: object, x: Tensor) -> tuple[Tensor, Tensor]:
    mem, spikes, mems = torch.zeros_like(x[0]), [], []
    for step in x:
        s, mem = leaky(step, mem)
        spikes.append(s)
        mems.append(mem)
    return torch.stack(spikes).double(), torch.stack(mems)


def ours(lif: LIF, x: Tensor) -> Tensor:
    out, _ = lif.scan(x, lif.init(x[0].detach()), through_time=True)
    return out


def same(lif: LIF, leaky: object, x: Tensor) -> None:
    x.requires_grad_()
    (want, _), got = theirs(leaky, x), ours(lif, x)
    assert_rate(got.detach())
    assert torch.equal(got.detach(), want.detach())
    by_s = torch.randn_like(got)
    (want_x,), (got_x,) = torch.autograd.grad(want, x, by_s), torch.autograd.grad(got, x, by_s)
    assert want_x.abs().max() > 0.1
    # Their spikes are single precision, so the errors pass through it on the way back.
    torch.testing.assert_close(got_x, want_x, rtol=1e-5, atol=1e-6)


def currents(scale: float = 0.8) -> Tensor:
    return torch.randn(13, 4, 9, dtype=torch.float64) * scale + 0.4


@each_surrogate
def test_a_delayed_subtraction_is_a_soft_reset_of_threshold_over_leak(
    psi: AbstractSurrogate, their_psi: object
) -> None:
    leaky = snntorch.Leaky(beta=torch.tensor(0.75, dtype=torch.float64), threshold=0.9, spike_grad=their_psi()).double()
    theta = float(leaky.threshold)
    same(LIF(leak=0.75, threshold=theta, surrogate=psi, reset=SoftReset(amount=theta / 0.75)), leaky, currents())


@each_surrogate
def test_a_delayed_reset_to_zero_is_a_hard_reset(psi: AbstractSurrogate, their_psi: object) -> None:
    leaky = snntorch.Leaky(
        beta=torch.tensor(0.75, dtype=torch.float64),
        threshold=0.9,
        spike_grad=their_psi(),
        reset_mechanism="zero",
    ).double()
    same(LIF(leak=0.75, threshold=float(leaky.threshold), surrogate=psi, reset=HardReset()), leaky, currents())


def test_without_delay_a_subtraction_is_our_soft_reset_attached_while_membranes_stay_below_twice_the_threshold() -> (
    None
):
    leaky = snntorch.Leaky(
        beta=torch.tensor(0.5, dtype=torch.float64),
        threshold=1.0,
        spike_grad=their_surrogate.atan(alpha=2.0),
        reset_delay=False,
    ).double()
    lif = LIF(leak=0.5, surrogate=Arctan(alpha=2.0), detach_reset=False)
    x = torch.rand(13, 4, 9, dtype=torch.float64) * 1.2  # u < 0.5·1 + 1.2 < 2
    same(lif, leaky, x)


def test_without_delay_a_membrane_left_above_the_threshold_stops_firing_there() -> None:
    leaky = snntorch.Leaky(beta=1.0, threshold=1.0, reset_delay=False)
    x = torch.tensor([3.5, 0.0, 0.0, 0.0])[:, None, None]
    _, mem = theirs(leaky, x)
    spikes = ours(LIF(leak=1.0), x)
    assert spikes.flatten().tolist() == [1, 1, 1, 0]
    assert mem.flatten().tolist() == [2.5, 1.5, 1.5, 1.5]
    spikes_there, _ = theirs(leaky, x)
    assert spikes_there.flatten().tolist() == [1, 1, 0, 0]


def test_at_the_threshold_only_ours_fires() -> None:
    x = torch.ones(1, 1, 1)
    assert ours(LIF(leak=0.5), x).item() == 1.0
    assert theirs(snntorch.Leaky(beta=0.5), x)[0].item() == 0.0
