"""At the edges of firing: exactly at the threshold, exactly touching at the end, gains without bound. All in float32."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from first_spike_nets import CASES, DENSE, assert_fires, attach, learnt, outs
from helpers import close
from torch import Tensor

from aplysia.nets.initial import PositiveMean
from aplysia.nets.zoo import build
from aplysia.neurons.constant_slope import ConstantSlope
from aplysia.neurons.windowed import Windowed
from aplysia.ops.first_spike import Window, windowed_spike

WINDOWS = [(1.0, 1.0), (0.7, 1.3), (2.5, 0.7), (1.9, 1.0)]
each_window = pytest.mark.parametrize(("length", "threshold"), WINDOWS)


def around(value: float) -> list[float]:
    """A float32 and its neighbours, near and less near."""
    at = torch.tensor(value)
    up, down = torch.nextafter(at, torch.tensor(torch.inf)), torch.nextafter(at, torch.tensor(-torch.inf))
    return [float(at), float(up), float(down), float(at) * (1 + 1e-5), float(at) * (1 - 1e-5)]


def edge_cases(length: float, threshold: float) -> tuple[Tensor, Tensor]:
    """z and S at ϑ, at V = 0, at S = −κ, at nothing, and next to each of these."""
    kappa, tiny = threshold / length, float(torch.finfo(torch.float32).tiny)
    zs = [*around(threshold), *around(0.5 * threshold), 0.0, tiny, -tiny, 1e-38, -3.0, 3.0, 1e30]
    pairs = list(itertools.product(zs, [*around(-kappa), *around(kappa), 0.0, tiny, -tiny, -50.0, 50.0]))
    pairs += [(z, s) for z in zs if abs(z) < 1e20 for s in around(-z / length)]
    z, slope = torch.tensor(pairs).T
    return z[None].contiguous(), slope[None].contiguous()


@each_window
@pytest.mark.parametrize("max_gain", [None, 1.0])
def test_values_and_gradients_are_finite_and_the_cases_are_told_apart(
    length: float, threshold: float, max_gain: float | None
) -> None:
    z, slope = (t.requires_grad_() for t in edge_cases(length, threshold))
    x = windowed_spike(Window(length, threshold, max_gain), z, slope)
    by_z, by_slope = torch.autograd.grad(x.sum(), (z, slope))
    for made in (x, by_z, by_slope):
        assert torch.isfinite(made).all()
    with torch.no_grad():
        saturated = z >= torch.tensor(threshold)
        silent = ~saturated & (z + length * slope <= 0)
    between = ~saturated & ~silent
    top = torch.tensor(length)
    assert min(int(saturated.sum()), int(silent.sum()), int(between.sum())) > 20
    assert (x[saturated] == top).all()
    assert (x[silent] == 0).all()
    assert ((x >= 0) & (x <= top)).all()
    assert ((by_z == 0) & (by_slope == 0))[~between].all()
    assert (by_z[between] > 0).all()
    assert (by_slope >= 0).all()
    if max_gain is None:
        assert by_z.max() > 1e5, "no gain is large here: this test would show nothing"
    else:
        assert by_z.max() == max_gain


@each_window
def test_a_graph_changes_no_number(length: float, threshold: float) -> None:
    """Evaluated or learnt from, near the edges and at random."""
    source = torch.Generator().manual_seed(1)
    z, slope = edge_cases(length, threshold)
    z = torch.cat((z, threshold * (1 - 1e-6 * torch.rand(1, 4000, generator=source))), 1)
    slope = torch.cat((slope, 50 * torch.rand(1, 4000, generator=source)), 1)
    for bias in (None, 0.1 * torch.randn(z.shape[1], generator=source)):
        w = Window(length, threshold, 1.0)
        plain = windowed_spike(w, z, slope, bias)
        assert torch.equal(plain, windowed_spike(w, z.clone().requires_grad_(), slope, bias).detach())
        assert plain.max() == torch.tensor(length)


@pytest.mark.parametrize("text", ["F40-F5", "6C3-A2-F5", "6C3p0-P2-F5"])
@each_window
def test_no_unit_without_input_fires(text: str, length: float, threshold: float) -> None:
    """Not by rounding either, whatever its trainable threshold."""
    shape = (12,) if text.startswith("F") else (2, 8, 8)
    net = build(text, shape, neuron=Windowed(window=length, threshold=threshold), bias=True)
    layer = net.hidden[0]
    with torch.no_grad():
        layer.bias.copy_(0.2 * threshold * torch.linspace(-1, 1, len(layer.bias)))  # type: ignore[union-attr, arg-type]
    x = torch.zeros(1, 3, *shape)
    for out in (net(x).outs[0], *outs(net, x)[:1]):
        assert (out == 0).all()
    # nor one whose weights are 0
    with torch.no_grad():
        layer.weight[0] = 0.0
    assert (net(torch.full((1, 3, *shape), length)).outs[0][0, :, 0] == 0).all()


def test_a_constant_slope_unit_at_zero_is_silent_and_gets_no_gradient() -> None:
    net = build("F2-F2", (1,), neuron=ConstantSlope(window=2.0))
    layer = net.hidden[0]
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0], [2.0]]))
    done = net(torch.ones(1, 1, 1))
    assert done.outs[0].tolist() == [[[0.0, 2.0]]]  # just silent, just saturated
    assert (done.spikes[0], done.saturated[0]) == (1, 1)
    done.outs[0].sum().backward()
    assert (layer.weight.grad == 0).all()  # type: ignore[union-attr]


def per_sample(gain: float | None) -> tuple[list[dict[str, Tensor]], Tensor, list[Tensor]]:
    """Gradients of each sample by itself, the input, and what fires."""
    case = replace(DENSE, neuron=Windowed(max_gain=gain), init=PositiveMean(mean=0.2, gain=0.8))
    net, (x, target) = case.net(), case.input(batch=6)
    rule = attach("FeedbackAlignment", net)
    assert_fires(net, x)
    made = [learnt(net, rule, x[:, b : b + 1], target[b : b + 1], case.loss) for b in range(6)]
    return made, x, outs(net, x)


def test_the_bound_on_the_gain_keeps_the_direction_of_a_units_update_and_the_forward_pass() -> None:
    bound = 0.6
    free, _, fired = per_sample(None)
    bounded, _, same = per_sample(bound)
    assert all(torch.equal(a, b) for a, b in zip(fired, same, strict=True))
    clipped = 0
    for a, b in zip(free, bounded, strict=True):
        assert torch.equal(a["readout.weight"], b["readout.weight"])
        for name in ("dense1.weight", "dense2.weight"):
            for row, other in zip(a[name], b[name], strict=True):
                if row.abs().max() == 0:
                    assert other.abs().max() == 0
                    continue
                ratio = float(other.norm() / row.norm())
                if name == "dense2.weight":  # its error is the same, so its own gain is all that differs
                    assert ratio <= 1.0 + 1e-12
                    torch.testing.assert_close(other, row * ratio, rtol=1e-9, atol=1e-15)
                assert abs(float(torch.nn.functional.cosine_similarity(row, other, dim=0).abs()) - 1.0) < 1e-12
                clipped += ratio < 0.999
    assert clipped >= 10


def test_the_gain_is_bounded_at_the_bound() -> None:
    w = Window(1.0, 1.0, 0.8)
    source = torch.Generator().manual_seed(0)
    z, slope = torch.rand(1, 50, generator=source) * 0.9, torch.rand(1, 50, generator=source) * 2 - 0.9
    z, slope = z.double().requires_grad_(), slope.double().requires_grad_()
    x = windowed_spike(w, z, slope)
    by_z, by_slope = torch.autograd.grad(x.sum(), (z, slope))
    want = torch.where(x > 0, (1 / (1 + slope)).clamp(max=0.8), 0.0)
    assert 5 < int((want == 0.8).sum()) < int((x > 0).sum()) - 5
    torch.testing.assert_close(by_z, want)
    torch.testing.assert_close(by_slope, want * (1 - x))


@pytest.mark.parametrize("name", ["conv", "dense, bias, T 2.5, ϑ 0.7", "constant slope, window 1.2, read at the end"])
def test_float32_follows_float64(name: str) -> None:
    case = CASES[name]
    x, target = case.input()
    made = []
    for dtype in (torch.float64, torch.float32):
        net = case.net()
        rule = attach("Symmetric", net)
        made.append(learnt(net.to(dtype), rule, x.to(dtype), target, case.loss))
    for key, want in made[0].items():
        assert float((made[1][key] - want).abs().max()) < 1e-4 * float(want.abs().max()), key
    close(made[0], made[0])
