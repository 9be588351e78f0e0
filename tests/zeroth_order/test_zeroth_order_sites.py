"""Where noise enters: the density it makes of a threshold, and what it leaves behind, beside a slow simulation."""

from __future__ import annotations

from dataclasses import replace
from math import erf, exp, pi, sqrt

import pytest
import torch
from helpers import DENSE, Case, assert_alive
from torch import Tensor
from zeroth_order_parts import LAWS, assert_scores, feedback_over_time, opzo

from aplysia.nets.net import Net, States, chunks, noise_amplitude
from aplysia.nets.noise import AbstractSite, Activity, Comparator, Membrane, Noise, NoiseSource
from aplysia.nets.route import Route
from aplysia.nets.zoo import build
from aplysia.neurons.lif import LIF
from aplysia.ops.scan import HardReset, SoftReset
from aplysia.types import Held

STEPS, BATCH = 7, 3
CASES = {
    "soft": DENSE,
    "slow, low threshold, other reset, gain": replace(
        DENSE, neuron=LIF(leak=0.9, threshold=0.7, reset=SoftReset(amount=0.6)), gain=1.3, weights=1.2
    ),
    "no memory": replace(DENSE, neuron=LIF(leak=0.0), weights=2.0),
    "hard": replace(DENSE, neuron=LIF(leak=0.8, reset=HardReset(value=0.1))),
}
# Noise at a comparator that resets to a value is refused.
PAIRS = [
    pytest.param(case, site, id=f"{name}-{type(site).__name__}")
    for name, case in CASES.items()
    for site in (Activity(), Membrane(), Comparator())
    if not (isinstance(site, Comparator) and isinstance(case.neuron.reset, HardReset))
]
each_chunk = pytest.mark.parametrize("chunk", [1, 2, 3, STEPS])


def made(site: AbstractSite, alpha: float = 0.3) -> NoiseSource:
    source = Noise(alpha=alpha, site=site).source(11, 2)
    assert source is not None
    return source


def in_chunks(net: Net, x: Tensor, source: NoiseSource, chunk: int) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs of all layers `[T, B, …]`, and the hidden layers' potentials after the last step."""
    states: States | None = None
    outs: list[list[Tensor]] = []
    for piece in chunks(x, chunk):
        start = sum(len(out[-1]) for out in outs)
        done = net(piece, states, Route(noise=source, start=start))
        states = done.states
        outs.append([out.detach() for out in done.outs])
    assert states is not None
    potentials = [state.neuron[0].detach() for state in states[:-1] if state.neuron is not None]
    return [torch.cat(parts) for parts in zip(*outs, strict=True)], potentials


def by_hand(net: Net, x: Tensor, noise: list[Tensor], site: AbstractSite) -> tuple[list[Tensor], list[Tensor]]:
    """The same by a loop over steps and layers; the comparator's noise never touches the potential here."""
    potentials = [torch.zeros(BATCH, *layer.output_shape, dtype=torch.float64) for layer in net.hidden]
    outs: list[list[Tensor]] = [[] for _ in net.all]
    for t in range(STEPS):
        signal = x[t]
        for i, layer in enumerate(net.hidden):
            neuron = layer.neuron
            assert isinstance(neuron, LIF)
            u = neuron.leak * potentials[i] + signal @ layer.weight.t() + layer.bias
            if isinstance(site, Membrane):
                u = u + noise[i][t]
            heard = u + noise[i][t] if isinstance(site, Comparator) else u
            spikes = (heard >= neuron.threshold).double()
            potentials[i] = neuron.reset.after(u, spikes, neuron.threshold).detach()
            outs[i].append((spikes * layer.gain).detach())
            signal = outs[i][-1] + (noise[i][t] if isinstance(site, Activity) else 0.0)
        outs[-1].append((signal @ net.readout.weight.t() + net.readout.bias).detach())
    return [torch.stack(out) for out in outs], potentials


@pytest.mark.parametrize(("case", "site"), PAIRS)
@each_chunk
def test_a_disturbed_pass_is_the_slow_simulation(case: Case, site: AbstractSite, chunk: int) -> None:
    """Every spike equal, outputs and potentials to rounding, in chunks of any size; the comparator's stay clean."""
    net = case.net()
    x, _ = case.input(STEPS, BATCH)
    assert isinstance(x, Tensor)
    assert_alive(net, x)
    source = made(site)
    like = [torch.zeros(BATCH, *layer.output_shape, dtype=torch.float64) for layer in net.hidden]
    noise = [
        source.draw(layer.name, 0, STEPS, zero) * noise_amplitude(layer, source)
        for layer, zero in zip(net.hidden, like, strict=True)
    ]
    outs, potentials = in_chunks(net, x, source, chunk)
    want, clean = by_hand(net, x, noise, site)
    undisturbed = [out.detach() for out in net(x).outs]
    for i, layer in enumerate(net.hidden):
        if isinstance(site, Comparator):
            # The library keeps u + n; the next step takes the old noise away again.
            potentials[i] = potentials[i] - noise[i][-1]
        assert torch.equal(outs[i], want[i]), layer.name
        torch.testing.assert_close(potentials[i], clean[i], rtol=0.0, atol=1e-12)
        # The first layer of a net with noise on its output hears no noise itself.
        assert torch.equal(outs[i], undisturbed[i]) == (isinstance(site, Activity) and i == 0)
    torch.testing.assert_close(outs[-1], want[-1], rtol=0.0, atol=1e-12)


@each_chunk
@pytest.mark.parametrize("leak", [0.5, 1.0])
def test_below_threshold_membrane_noise_leaks_away_and_comparator_noise_is_gone(chunk: int, leak: float) -> None:
    """Without input and spikes, the potential is Σ_τ λ^{T−1−τ}·n[τ] with noise in the membrane, and n[T−1] in front of the
    comparator: nothing of earlier steps."""
    net = build("F6-F3", (4,), neuron=LIF(leak=leak, threshold=50.0)).double()
    x = torch.zeros(STEPS, BATCH, 4, dtype=torch.float64)
    for site in (Membrane(), Comparator()):
        source = made(site, alpha=0.01)
        noise = source.draw("dense1", 0, STEPS, torch.zeros(BATCH, 6, dtype=torch.float64)) * (0.01 * 50.0)
        outs, (potential,) = in_chunks(net, x, source, chunk)
        assert not outs[0].any()
        left = sum(leak ** (STEPS - 1 - t) * noise[t] for t in range(STEPS))
        want = left if isinstance(site, Membrane) else noise[-1]
        assert isinstance(want, Tensor)
        assert want.abs().max() > 0.1
        torch.testing.assert_close(potential, want, rtol=0.0, atol=1e-13)


def thresholds(threshold: float, potentials: Tensor) -> Net:
    """A net whose hidden units have these potentials and whose output is their spikes."""
    n = len(potentials)
    net = build(f"F{n}-F{n}", (1,), neuron=LIF(leak=0.0, threshold=threshold)).double()
    with torch.no_grad():
        net.all[0].weight.copy_(potentials[:, None])
        net.readout.weight.copy_(torch.eye(n))
    return net


@pytest.mark.parametrize("threshold", [1.0, 0.6])
@pytest.mark.parametrize("site", [Membrane(), Comparator()], ids=["membrane", "comparator"])
def test_gaussian_noise_makes_the_threshold_a_normal_density(site: AbstractSite, threshold: float) -> None:
    """E[z·H(u + σz − θ)]/σ = N(θ − u; 0, σ²), σ = α·θ, and 0 between units: 100,000 passes of 7 units, 49 means.

    With c = (θ − u)/σ, E z²·s = c·φ(c) + Φ(−c) gives the variance on the diagonal. False alarms: 3·10⁻⁴ a case.
    """
    alpha, batch = 0.25, 1000
    sigma = alpha * threshold
    u = threshold * torch.tensor([0.4, 0.7, 0.85, 0.95, 1.05, 1.2, 1.5], dtype=torch.float64)
    net = thresholds(threshold, u)
    x = Held(torch.ones(batch, 1, dtype=torch.float64), 100)
    rule = opzo(alpha=alpha, law=LAWS["gaussian"].law, site=site, antithetic=False)
    samples = feedback_over_time(net, rule, x)["dense1"]
    c = ((threshold - u) / sigma).tolist()
    density = torch.tensor([exp(-a * a / 2) / sqrt(2 * pi) for a in c], dtype=torch.float64)
    fires = torch.tensor([(1 - erf(a / sqrt(2))) / 2 for a in c], dtype=torch.float64)
    mean = torch.diag(density / sigma)
    second = fires[:, None].expand(7, 7).clone()
    second.diagonal().add_(torch.tensor(c) * density)
    variance = (second / sigma**2 - mean**2) / (batch * len(samples))
    assert_scores((samples.mean(0) - mean) / variance.sqrt(), count=49)


@pytest.mark.parametrize("site", [Membrane(), Comparator()], ids=["membrane", "comparator"])
def test_one_bit_noise_makes_the_threshold_a_box(site: AbstractSite) -> None:
    """E[z·s]/σ = 1[|u − θ| < σ]/(2σ) for z = ±1: exact inside the box up to how often +1 was drawn, 0 outside. 100,000 passes.

    Inside, s = (1 + z)/2, so the mean of z·s is (1 + mean z)/2: standard error 1/(2σ√N). False alarms: 3·10⁻⁴.
    """
    alpha, batch = 0.2, 1000
    u = torch.tensor([0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 1.6], dtype=torch.float64)
    net = thresholds(1.0, u)
    x = Held(torch.ones(batch, 1, dtype=torch.float64), 100)
    rule = opzo(alpha=alpha, law=LAWS["rademacher"].law, site=site, antithetic=False)
    samples = feedback_over_time(net, rule, x)["dense1"]
    inside, fires = (u - 1.0).abs() < alpha, (u > 1.0 - alpha).double()
    fires = torch.where(inside, 0.5, fires)
    mean = torch.diag(inside.double() / (2 * alpha))
    variance = (fires[:, None].expand(7, 7) / alpha**2 - mean**2) / (batch * len(samples))
    certain = variance == 0
    assert not samples.mean(0)[certain].any()
    assert_scores(((samples.mean(0) - mean) / variance.sqrt())[~certain], count=35)
