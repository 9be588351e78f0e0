"""Coincidences of two streams: Binomial(N, x·d) where sources differ, min(x, d) where they are one, and what rows share."""

from __future__ import annotations

import pytest
import torch
from stream_parts import CPU, assert_scores, drawn, learnt, stream_net, variance_scores, z_scores
from torch import Tensor

from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.temporal.coincidence import Constant
from aplysia.ops.coincidence import ask_for_coincidences, take_coincidences
from aplysia.ops.stream import Bits
from aplysia.rng import generator
from aplysia.types import Held

STEPS, RUNS = 48, 20_000
X = torch.tensor([0.0625, 0.25, 0.5, 0.9375, 1.0], dtype=torch.float64)
G = torch.tensor([-0.75, -0.125, 0.03125, 0.5, 1.0], dtype=torch.float64)  # errors, ceiling 2

each_comparator = pytest.mark.parametrize("bits", [8, 16, 24])


def streams(bits: int = 16) -> tuple[Tensor, Tensor]:
    """Bits of inputs `[N, R, 5]` and signed gradient spikes `[N, R, 5]`, as a layer draws them."""
    draws = drawn(STEPS, 1, "layer", engine=Bits(random_bits=bits))
    x = draws.unipolar(X.expand(STEPS, RUNS, 5), "input")
    gate = torch.ones(STEPS, RUNS, 5, dtype=torch.float64)
    return x, draws.rails(G.expand(STEPS, RUNS, 5), torch.tensor(2.0, dtype=torch.float64), gate)


@each_comparator
def test_a_count_of_coincidences_is_binomial(bits: int) -> None:
    """Mean and variance of C over 20,000 streams of 48 steps, 25 pairs of rates. False alarms: 3·10⁻⁴."""
    x, delta = streams(bits)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert set(delta.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert torch.equal(delta.sign(), torch.where(delta == 0.0, delta, G.sign().expand_as(delta)))
    counts = torch.einsum("nri,nrj->rij", x, delta.abs())
    p = X[:, None] * (G.abs() / 2.0)
    assert_scores(z_scores(counts, STEPS * p, STEPS * p * (1.0 - p)), count=25)
    assert_scores(variance_scores(counts, STEPS * p, STEPS * p * (1.0 - p)), count=25)


def test_a_shared_random_number_gives_the_minimum_and_ours_do_not() -> None:
    """Both lines from generators of the same key meet min(x, d)·N times, bit for bit the rarer of the two."""
    a, b = X.expand(STEPS, RUNS, 5), (G.abs() / 2.0).expand(STEPS, RUNS, 5)
    one, other = (Bits().unipolar(p, STEPS, generator(CPU, 1, "shared")) for p in (a, b))
    assert torch.equal(one * other, torch.minimum(one, other))
    shared = (one * other).sum(0)
    assert_scores(z_scores(shared[:, :4], STEPS * torch.minimum(X, G.abs() / 2.0)[:4]), count=4)
    x, delta = streams()
    ours = (x * delta.abs()).sum(0)
    wrong = z_scores(ours[:, :4], STEPS * torch.minimum(X, G.abs() / 2.0)[:4])
    assert wrong.abs().min() > 20.0
    assert_scores(z_scores(ours, STEPS * X * G.abs() / 2.0), count=5)


def test_streams_of_all_purposes_layers_batches_and_seeds_are_independent() -> None:
    """Products of centred bits of p = ½, 48,000 each; equal or opposite streams would give |z| = 219. False alarms: 10⁻⁴."""

    def centred(keys: tuple[int | str, ...], purpose: str) -> Tensor:
        p = torch.full((STEPS, 1000), 0.5, dtype=torch.float64)
        return 2.0 * drawn(STEPS, *keys).unipolar(p, purpose) - 1.0

    base = centred((0, "streams", 0, "dense1"), "spike")
    others = [
        centred((0, "streams", 0, "dense1"), purpose) for purpose in ("input", "gradient", "winner", "coincidences")
    ]
    others += [centred((0, "streams", 0, name), "spike") for name in ("dense2", "readout", "input")]
    others += [centred((0, "streams", 1, "dense1"), "spike"), centred((1, "streams", 0, "dense1"), "spike")]
    others += [centred((0, "predict", 0, "dense1"), "spike"), base.roll(1, 0), base.roll(1, 1), base.roll(3, 1)]
    scores = torch.stack([(base * other).sum() / base.numel() ** 0.5 for other in others])
    assert_scores(scores, count=13)


def test_counts_that_share_an_input_line_correlate_as_they_must() -> None:
    """Cov(C_ij, C_ij′) = N·x(1 − x)·d·d′ for one input i, and 0 for two of both. False alarms: 10⁻⁴."""
    x, delta = streams()
    size, d = delta.abs(), G.abs() / 2.0
    for i in (1, 2):
        counts = torch.einsum("nr,nrj->rj", x[..., i], size) - STEPS * X[i] * d
        products, expected = counts[:, 0] * counts[:, 4], STEPS * X[i] * (1.0 - X[i]) * d[0] * d[4]
        assert z_scores(products, 0.0) > 20.0
        assert_scores(z_scores(products, expected), count=1)
    counts = torch.einsum("nri,nrj->rij", x, size) - STEPS * X[:, None] * d
    assert_scores(z_scores(counts[:, 1, 0] * counts[:, 2, 3], 0.0), count=1)


def test_the_counts_of_a_whole_pass_are_binomial() -> None:
    """Weights 0, so that who wins and what comes in are independent: C± ~ Binomial(N·B, x·d±) at every cross point.

    The winner is class k with probability softmax_k(b); the line of a hidden unit fires with |B_k − B_y|/Γ. 32 samples of 40
    steps, 300 batches, at most 30 lines at cross points. False alarms: 4·10⁻⁴.
    """
    net, runs, steps, batch = stream_net("F3-F4", (6,)), 300, 40, 32
    with torch.no_grad():
        for layer in net.all:
            layer.weight.zero_()
        assert net.readout.bias is not None
        net.readout.bias.copy_(torch.tensor([0.5, -0.3, 0.0, 0.8]))
    rule = DirectFeedback(scale=1.0)
    rule.attach(net, seed=2)
    hidden = net.hidden[0]
    ask_for_coincidences(hidden.weight)
    x = torch.tensor([0.125, 0.25, 0.5, 0.75, 1.0, 0.0], dtype=torch.float64)
    target, ceiling = torch.full((batch,), 2), Constant(gamma=4.0)
    up, down = [], []
    for step in range(runs):
        learnt(net, Held(x.expand(batch, 6), steps), target, rule=rule, step=step, ceiling=ceiling)
        (counted,) = take_coincidences(hidden.weight)
        up.append(counted.up)
        down.append(counted.down)
    won = torch.softmax(net.readout.bias.detach(), 0)
    g = (rule.tensors[hidden.name] - rule.tensors[hidden.name][2]) / 4.0  # by winner, `[4, 3]`
    assert g.abs().max() < 1.0
    for seen, rail in ((down, g), (up, -g)):
        p = (won @ rail.clamp_min(0.0))[:, None] * x
        counts, possible = torch.stack(seen), p > 0.0
        places = int(possible.sum())
        assert places >= 10
        assert not counts[:, ~possible].any()
        mean, variance = (steps * batch * p)[possible], (steps * batch * p * (1.0 - p))[possible]
        assert_scores(z_scores(counts[:, possible], mean, variance), count=places)
        assert_scores(variance_scores(counts[:, possible], mean, variance), count=places)
