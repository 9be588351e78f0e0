"""Closed forms against explicit simulations of the potential, 200,000 steps a window."""

from __future__ import annotations

import pytest
import torch
from first_spike_nets import LONG, assert_fires, to_times
from torch import Tensor

from aplysia.nets.net import Net
from aplysia.nets.zoo import build
from aplysia.neurons.constant_slope import ConstantSlope
from aplysia.neurons.windowed import Windowed

STEPS = 200_000
INPUTS, UNITS, BATCH = 12, 40, 3


def a_layer(neuron: Windowed | ConstantSlope, mean: float, std: float, bias: float, top: float) -> tuple[Net, Tensor]:
    """A net whose hidden layer is under test, and its input; the last sample is silent, and so is unit 0's fan-in."""
    source = torch.Generator().manual_seed(11)
    net = build(f"F{UNITS}-F3", (INPUTS,), neuron=neuron, bias=bias > 0.0).double()
    layer = net.hidden[0]
    with torch.no_grad():
        layer.weight.copy_(mean + std * torch.randn(UNITS, INPUTS, generator=source, dtype=torch.float64))
        layer.weight[0] = 0.0
        if layer.bias is not None:
            layer.bias.copy_(bias * torch.randn(UNITS, generator=source, dtype=torch.float64))
            layer.bias[0] = -0.01
    x = torch.rand(1, BATCH, INPUTS, generator=source, dtype=torch.float64) * top
    x = x * (torch.rand(x.shape, generator=source) < 0.7)
    x[:, -1] = 0.0
    assert_fires(net, x[:, :-1])
    return net, x


def simulated_window(net: Net, x: Tensor, neuron: Windowed) -> Tensor:
    """First step in [T, 2T) at which V(t) = Σ w·(t − t_j) has reached the falling threshold; ∞ where there is none."""
    layer, length = net.hidden[0], neuron.window
    arrived = to_times(x[0], length)
    threshold = neuron.threshold if layer.bias is None else neuron.threshold - layer.bias.detach()
    found = torch.full((BATCH, UNITS), torch.inf, dtype=torch.float64)
    for b in range(BATCH):
        for first in range(0, STEPS, 20_000):
            t = length + length / STEPS * torch.arange(first, first + 20_000, dtype=torch.float64)
            ramps = torch.where(torch.isfinite(arrived[b]), t[:, None] - arrived[b], 0.0).clamp(min=0.0)
            crossed = ramps @ layer.weight.detach().T >= threshold * ((2 * length - t) / length)[:, None]
            place = t[crossed.double().argmax(0)]
            hit = crossed.any(0) & torch.isinf(found[b])
            found[b] = torch.where(hit, place - length, found[b])
    return found


@pytest.mark.parametrize(
    ("window", "threshold", "bias", "mean", "std"),
    [
        (1.0, 1.0, 0.0, 0.05, 0.5),
        (1.0, 1.0, 0.4, 0.05, 0.5),
        (2.5, 0.7, 0.0, 0.0, 0.2),
        (2.5, 0.7, 0.2, 0.0, 0.2),
        (0.3, 4.0, 1.0, 0.5, 8.0),
    ],
)
def test_a_windowed_layer_fires_when_its_simulation_does(
    window: float, threshold: float, bias: float, mean: float, std: float
) -> None:
    neuron = Windowed(window=window, threshold=threshold)
    net, x = a_layer(neuron, mean, std, bias, window)
    out = net(x).outs[0][0].detach()
    want, got = simulated_window(net, x, neuron), to_times(out, window)
    assert torch.equal(torch.isinf(got), torch.isinf(want))
    assert torch.equal(out == window, want == 0.0)
    assert (out == window).any()
    spikes = torch.isfinite(got)
    late = (want - got)[spikes]  # the simulation sees a crossing at its next step
    assert float(late.min()) >= -1e-9
    assert float(late.max()) <= window / STEPS + 1e-9
    if not bias:
        assert not spikes[-1].any(), "a unit fired without any input"
    assert not spikes[:, 0].any(), "a unit without weights fired"


def simulated_slope(net: Net, x: Tensor, width: float) -> Tensor:
    """Constant slope: up to t_min every arrived spike adds its weight to dV/dt, from t_min on dV/dt = 1."""
    layer = net.hidden[0]
    arrived, dt = to_times(x[0], width), width / STEPS
    threshold = width - (0.0 if layer.bias is None else layer.bias.detach())
    found = torch.full((BATCH, UNITS), torch.inf, dtype=torch.float64)
    for b in range(BATCH):
        v = torch.zeros(UNITS, dtype=torch.float64)
        for first in range(0, STEPS, 20_000):
            t = dt * torch.arange(first, first + 20_000, dtype=torch.float64)
            v += dt * ((arrived[b] <= t[:, None]).double() @ layer.weight.detach().T).sum(0)
        for first in range(0, STEPS, 20_000):
            t = dt * torch.arange(first, first + 20_000, dtype=torch.float64)
            crossed = v + t[:, None] >= threshold
            hit = crossed.any(0) & torch.isinf(found[b])
            found[b] = torch.where(hit, t[crossed.double().argmax(0)], found[b])
    return found


@pytest.mark.parametrize("window", [None, 1.5])
@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_a_constant_slope_layer_fires_when_its_simulation_does(window: float | None, bias: float) -> None:
    net, x = a_layer(ConstantSlope(window=window), 0.05, 0.5, bias, window or 1.0)
    out = net(x).outs[0][0].detach()
    width = window or 1.5 * float(out.max())
    assert width < LONG
    want, got = simulated_slope(net, x, width), to_times(out, width)
    assert torch.equal(torch.isinf(got), torch.isinf(want))
    assert torch.equal(got == 0.0, want == 0.0)
    assert bool((got == 0.0).any()) == (window is not None)
    assert torch.isinf(got).any()
    spikes = torch.isfinite(got)
    # Each of a unit's inputs is seen up to one step late.
    slack = width / STEPS * (2.0 + net.hidden[0].weight.detach().abs().sum(1)).expand_as(got)
    assert ((want - got).abs() <= slack)[spikes].all()
