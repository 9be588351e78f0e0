"""The engine of counts against the bits it stands for: laws of what is drawn, mean and variance of what is learnt."""

from __future__ import annotations

import pytest
import torch
from stream_parts import (
    LIMIT,
    assert_scores,
    assert_streams_alive,
    drawn,
    gap,
    rates,
    repeated,
    stream_net,
    variance_scores,
    z_scores,
)
from torch import Tensor

from aplysia.credit.temporal.coincidence import Coincidence, Constant
from aplysia.neurons.bitstream import AbstractTransfer, ClippedLinear, Sigmoid
from aplysia.neurons.stream_memory import BlockMean
from aplysia.ops.geometry import Dense
from aplysia.ops.stream import AbstractEngine, Bits, Counts, Matched, Meeting, RankOne
from aplysia.types import Held

STEPS = 24
ENGINES: tuple[AbstractEngine, ...] = (Bits(), Counts())
P = torch.tensor([0.0, 0.0625, 0.25, 0.5, 0.875, 1.0], dtype=torch.float64)
CHANCE = (P > 0.0) & (P < 1.0)


def test_counts_of_streams_are_binomial() -> None:
    """Mean and variance of 20,000 counts of 24 steps. False alarms: 6·10⁻⁵."""
    counts = drawn(STEPS, 3, engine=Counts()).unipolar(P.expand(1, 20_000, 6), "spike")[0] * STEPS
    torch.testing.assert_close(counts, counts.round(), rtol=0.0, atol=1e-9)
    assert torch.equal(counts[:, ~CHANCE], (STEPS * P).expand(20_000, 6)[:, ~CHANCE])
    mean, variance = (STEPS * P)[CHANCE], (STEPS * P * (1.0 - P))[CHANCE]
    assert_scores(z_scores(counts[:, CHANCE], mean, variance), count=4)
    assert_scores(variance_scores(counts[:, CHANCE], mean, variance), count=4)


def hypergeometric(counted: Tensor, other: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and variance of the number of steps at which two lines both fire, given how often each does."""
    mean = counted[:, None] * other / steps
    variance = mean * (1.0 - counted[:, None] / steps) * (steps - other) / (steps - 1)
    return mean, variance


def test_coincidences_of_two_bit_streams_are_hypergeometric_given_both_counts() -> None:
    """(C − n·m/N)²/Var over 20,000 pairs of streams is 1 in the mean, and C − n·m/N is 0. False alarms: 10⁻⁴."""
    draws = drawn(STEPS, 4)
    x, delta = (draws.unipolar(P[1:5].expand(STEPS, 20_000, 4), purpose) for purpose in ("input", "gradient"))
    count = torch.einsum("nri,nrj->rij", x, delta)
    n, m = x.sum(0)[:, :, None], delta.sum(0)[:, None, :]
    mean = n * m / STEPS
    variance = mean * (1.0 - n / STEPS) * (STEPS - m) / (STEPS - 1)
    assert_scores(z_scores(count - mean, 0.0), count=16)
    square = (count - mean).square() - variance
    assert_scores(z_scores(square, 0.0), count=16)


def meeting(batch: int = 7) -> tuple[Meeting, Tensor, Tensor]:
    """Signed rates of 4 gradient lines and rates of 5 inputs, multiples of 1/N, and the unit of the gradient."""
    source = torch.Generator().manual_seed(8)
    m = torch.randint(-STEPS, STEPS + 1, (batch, 4), generator=source).double()
    n = torch.randint(0, STEPS + 1, (batch, 5), generator=source).double()
    return Meeting(0.5 * m / STEPS, n / STEPS, Dense(), torch.Size((4, 5))), m, n


def test_matched_coincidences_have_the_sums_mean_and_variance() -> None:
    """Over 7 samples, 20,000 draws, in units of the gradient: mean Σ ±n·m/N, variance Σ of the hypergeometric ones.

    False alarms: 3·10⁻⁴.
    """
    met, m, n = meeting()
    mean, variance = torch.zeros(4, 5, dtype=torch.float64), torch.zeros(4, 5, dtype=torch.float64)
    for sample in range(len(m)):
        one, spread = hypergeometric(m[sample].abs(), n[sample], STEPS)
        mean += one * m[sample].sign()[:, None]
        variance += spread
    draws, unit = drawn(STEPS, 6, engine=Counts()), torch.tensor(0.5, dtype=torch.float64)
    made = torch.stack([Counts().paired(met, unit, draws) for _ in range(20_000)])
    scale = 0.5 / STEPS  # of one coincidence
    assert_scores(z_scores(made, mean * scale, variance * scale**2), count=20)
    assert_scores(variance_scores(made, mean * scale, variance * scale**2), count=20)
    flat = Counts(pairing=RankOne()).paired(met, unit, draws)
    torch.testing.assert_close(flat, mean * scale)


def test_a_single_step_leaves_nothing_to_draw() -> None:
    """N = 1: given both bits, C is their product."""
    met, _, _ = meeting()
    assert Matched().variance(met, 1) is None


@pytest.mark.parametrize("transfer", [ClippedLinear(), Sigmoid(slope=6.0)], ids=["clipped", "sigmoid"])
def test_rates_wins_and_spikes_of_a_pass_agree_with_the_bits(transfer: AbstractTransfer) -> None:
    """Hidden counts and wins of two hidden layers: means and variances of 400 passes. False alarms: 10⁻³."""
    net, (x, _) = stream_net("F10-F8-F4", memory=BlockMean(), transfer=transfer), rates(batch=1)
    made: list[tuple[Tensor, Tensor]] = []
    for engine in (Bits(), Counts()):
        scheme = Coincidence(engine=engine)
        answers = [scheme.predict(net, Held(x.expand(20, 12), STEPS), seed=1, batch=k) for k in range(100)]
        wins = torch.cat([logits.exp() * (STEPS + 2.0) - 0.5 for logits, _ in answers])
        spikes = torch.stack([spikes for _, spikes in answers])
        assert torch.equal(spikes[:, -1], torch.full_like(spikes[:, -1], 20.0 * STEPS))
        made.append((wins, spikes[:, :2]))
    for bits, counts in zip(*made, strict=True):
        spread = (bits.var(0) / len(bits) + counts.var(0) / len(counts)).sqrt()
        assert ((bits.mean(0) - counts.mean(0)) / spread).abs().max() < LIMIT
        squares = [(v - v.mean(0)).square() for v in (bits, counts)]
        spread = sum(s.var(0) / len(s) for s in squares).sqrt()  # type: ignore[union-attr]
        assert ((squares[0].mean(0) - squares[1].mean(0)) / spread).abs().max() < LIMIT


def squared(made: Tensor) -> Tensor:
    return (made - made.mean(0)).square()


@pytest.mark.parametrize("text", ["F10-F4", "F8-F6-F4"])
def test_gradients_have_the_mean_and_the_variance_of_those_of_bits(text: str) -> None:
    """Each entry, over 250 batches. False alarms: 3·10⁻³."""
    net, (x, target) = stream_net(text, memory=BlockMean()), rates()
    assert_streams_alive(net, Held(x, 32))
    bits, counts = (repeated(net, Held(x, STEPS), target, engine, 250, seed=k) for k, engine in enumerate(ENGINES))
    assert bits.keys() == counts.keys()
    for name in bits:
        assert gap(bits[name], counts[name]).abs().max() < LIMIT, name
        assert gap(squared(bits[name]), squared(counts[name])).abs().max() < LIMIT, name
        # All entries together: a variance that is off by a tenth would show.
        ratio = squared(counts[name]).mean() / squared(bits[name]).mean()
        assert float(ratio) == pytest.approx(1.0, abs=0.1), name


def test_coincidences_of_rank_one_have_the_mean_and_too_little_variance() -> None:
    """At a high ceiling, where gradient spikes are rare and it is their coincidences that vary. False alarms: 10⁻³."""
    net, (x, target) = stream_net("F10-F4", memory=BlockMean()), rates()
    engines = (Bits(), Counts(pairing=RankOne()), Counts())
    made = [
        repeated(net, Held(x, STEPS), target, engine, 250, seed=k, ceiling=Constant(gamma=32.0))["dense1.weight"]
        for k, engine in enumerate(engines)
    ]
    assert gap(made[0], made[1]).abs().max() < LIMIT
    assert float(squared(made[1]).mean() / squared(made[0]).mean()) < 0.8
    assert float(squared(made[2]).mean() / squared(made[0]).mean()) == pytest.approx(1.0, abs=0.15)
