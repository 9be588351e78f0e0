"""LIF against SpikingJelly (`LIFNode`, `ParametricLIFNode`), forward and backward.

What is the same, with `decay_input=False`: the current is not scaled, u ≥ θ fires, the reset acts before the next leak, and
the surrogates Sigmoid (slope = alpha), ATan (alpha), PiecewiseQuadratic (Triangle of width 1/alpha), Rect (Rectangle of
width 1/alpha) are the same functions. What has another name:

    tau                 λ = 1 − 1/tau;  for ParametricLIFNode 1/tau = sigmoid(w), so λ = 1 − sigmoid(w)
    v_reset=None        SoftReset();  v_reset=0.0 is HardReset()
    v_reset=r ≠ 0       also the level the membrane starts from and leaks to. Measure from there: threshold θ − r, HardReset()
    decay_input=True    the current is divided by tau first: scale ours by 1 − λ
    detach_reset        the same, False unless said (ours True)
"""

from __future__ import annotations

import math

import pytest
import torch
from helpers import assert_rate
from torch import Tensor

from aplysia.neurons.lif import LIF
from aplysia.ops.scan import AbstractReset, HardReset, SoftReset
from aplysia.ops.surrogate import AbstractSurrogate, Arctan, Rectangle, Sigmoid, Triangle

neuron = pytest.importorskip(
    "spikingjelly.activation_based.neuron", reason="SpikingJelly is not installed (extra 'peers')"
)
surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate", reason="SpikingJelly is not installed")
functional = pytest.importorskip("spikingjelly.activation_based.functional", reason="SpikingJelly is not installed")


def lif_node(v_reset: float | None, *, v_threshold: float = 0.9, decay_input: bool = False) -> object:
    return neuron.LIFNode(
        tau=2.5,
        decay_input=decay_input,
        v_threshold=v_threshold,
        v_reset=v_reset,
        surrogate_function=surrogate.Sigmoid(alpha=4.0),
        detach_reset=True,
    )


def currents(steps: int = 13) -> Tensor:
    return (torch.randn(steps, 4, 9, dtype=torch.float64) * 0.8 + 0.4).requires_grad_()


def theirs(node: object, x: Tensor) -> Tensor:
    out = torch.stack([node(step) for step in x])  # type: ignore[operator]
    functional.reset_net(node)
    return out


def ours(lif: LIF, x: Tensor) -> Tensor:
    out, _ = lif.scan(x, lif.init(x[0].detach()), through_time=True)
    return out


def same(lif: LIF, node: object, *, scale: float = 1.0) -> None:
    x = currents()
    want, got = theirs(node, x), ours(lif, x * scale)
    assert_rate(got.detach())
    assert torch.equal(got.detach(), want.detach().to(got.dtype))
    by_s = torch.randn_like(got)
    (want_x,), (got_x,) = torch.autograd.grad(want, x, by_s), torch.autograd.grad(got, x, by_s)
    assert want_x.abs().max() > 0.1
    torch.testing.assert_close(got_x, want_x, rtol=1e-9, atol=1e-11)


PAIRS = [
    (Sigmoid(slope=4.0), lambda: surrogate.Sigmoid(alpha=4.0)),
    (Arctan(alpha=2.0), lambda: surrogate.ATan(alpha=2.0)),
    (Triangle(width=2.0), lambda: surrogate.PiecewiseQuadratic(alpha=0.5)),
    (Rectangle(width=2.0), lambda: surrogate.Rect(alpha=0.5)),
]


@pytest.mark.parametrize(("psi", "their_psi"), PAIRS, ids=["sigmoid", "arctan", "triangle", "rectangle"])
@pytest.mark.parametrize(("reset", "v_reset"), [(SoftReset(), None), (HardReset(), 0.0)], ids=["soft", "hard"])
@pytest.mark.parametrize("detached", [True, False])
def test_lif_node(
    psi: AbstractSurrogate, their_psi: object, reset: AbstractReset, v_reset: float | None, detached: bool
) -> None:
    node = neuron.LIFNode(
        tau=2.5,
        decay_input=False,
        v_threshold=0.9,
        v_reset=v_reset,
        surrogate_function=their_psi(),
        detach_reset=detached,  # type: ignore[operator]
    )
    same(LIF(leak=1 - 1 / 2.5, threshold=0.9, surrogate=psi, reset=reset, detach_reset=detached), node)


def test_a_reset_potential_is_where_the_membrane_is_measured_from() -> None:
    lif = LIF(leak=1 - 1 / 2.5, threshold=0.9 - 0.2, surrogate=Sigmoid(slope=4.0), reset=HardReset())
    same(lif, lif_node(v_reset=0.2))


def test_a_decayed_input_is_a_scaled_current() -> None:
    lif = LIF(leak=1 - 1 / 2.5, threshold=0.5, surrogate=Sigmoid(slope=4.0))
    same(lif, lif_node(v_reset=None, v_threshold=0.5, decay_input=True), scale=1 / 2.5)


def test_parametric_lif_node() -> None:
    node = neuron.ParametricLIFNode(
        init_tau=3.0,
        decay_input=False,
        v_threshold=0.9,
        v_reset=None,
        surrogate_function=surrogate.ATan(alpha=2.0),
        detach_reset=True,
    ).double()
    leak = 1.0 - 1.0 / (1.0 + math.exp(-float(node.w.detach())))
    assert leak == pytest.approx(1 - 1 / 3.0)
    same(LIF(leak=leak, threshold=0.9, surrogate=Arctan(alpha=2.0)), node)
