"""z: moments of each law, independence of what is to be independent, pairs, and draws that no chunk changes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from zeroth_order_parts import LAWS, LIMIT, Moments, assert_scores, each_law, z_scores

from aplysia.nets.noise import Fading, Noise, NoiseSource

UNITS = 12
LIKE = torch.zeros(100, UNITS, dtype=torch.float64)


def source(known: Moments, *, antithetic: bool = False, seed: int = 1, step: int = 4) -> NoiseSource:
    made = Noise(law=known.law, antithetic=antithetic).source(seed, step)
    assert made is not None
    return made


@each_law
def test_moments(known: Moments) -> None:
    """Mean 0, second moments 1 on the diagonal and 0 beside it, fourth moments; 20,000 samples. False alarms: 7·10⁻⁴."""
    z = source(known).draw("dense1", 0, 200, LIKE).flatten(0, 1)
    mixed, fourth, eighth = (f(UNITS) for f in (known.mixed, known.fourth, known.eighth))
    assert_scores(z_scores(z, 0.0, 1.0), count=UNITS)
    pairs = torch.combinations(torch.arange(UNITS))
    assert_scores(z_scores(z[:, pairs[:, 0]] * z[:, pairs[:, 1]], 0.0, mixed), count=UNITS * (UNITS - 1) // 2)
    if known is LAWS["rademacher"]:
        assert torch.equal(z * z, torch.ones_like(z))
        return
    assert_scores(z_scores(z**2, 1.0, fourth - 1.0), count=UNITS)
    assert_scores(z_scores(z**4, fourth, eighth - fourth**2), count=UNITS)
    assert_scores(z_scores(z**3, 0.0), count=UNITS)
    if known is LAWS["sphere"]:
        torch.testing.assert_close(z.square().sum(1), torch.full((len(z),), float(UNITS), dtype=torch.float64))


@each_law
def test_the_sphere_and_the_others_take_images_as_units(known: Moments) -> None:
    """A convolution's C·H·W units are the n of the law; second moment over 3 × 4 × 4 of them. False alarms: 7·10⁻⁶."""
    z = source(known).draw("conv1", 0, 50, torch.zeros(20, 3, 4, 4, dtype=torch.float64))
    assert z.shape == (50, 20, 3, 4, 4)
    energy = z.square().sum((2, 3, 4)).flatten()
    if known is LAWS["gaussian"]:
        assert_scores(z_scores(energy, 48.0, 96.0), count=1)
    else:
        torch.testing.assert_close(energy, torch.full_like(energy, 48.0))


def uncorrelated(a: Tensor, b: Tensor, known: Moments) -> None:
    """Σ a·b and Σ (a² − 1)(b² − 1) are those of independent draws; equal or opposite draws would give z = √N."""
    n = a.numel()
    assert n >= 10_000
    assert abs(float((a * b).sum())) / n**0.5 < LIMIT
    spread = known.fourth(UNITS) - 1.0
    if known is LAWS["gaussian"]:
        assert abs(float(((a**2 - 1.0) * (b**2 - 1.0)).sum())) / (spread * n**0.5) < LIMIT


@each_law
def test_draws_are_independent(known: Moments) -> None:
    """Of layers, pairs of steps, batches, seeds, samples and purposes; 7 comparisons a law. False alarms: 10⁻⁴ a law."""
    first = source(known)
    z = first.draw("dense1", 0, 20, LIKE)
    uncorrelated(z, first.draw("dense2", 0, 20, LIKE), known)
    uncorrelated(z, source(known, step=5).draw("dense1", 0, 20, LIKE), known)
    uncorrelated(z, source(known, seed=2).draw("dense1", 0, 20, LIKE), known)
    uncorrelated(z, replace(first, purpose="else").draw("dense1", 0, 20, LIKE), known)
    uncorrelated(z[1:], z[:-1], known)
    uncorrelated(z[:, 1:], z[:, :-1], known)
    paired = source(known, antithetic=True).draw("dense1", 0, 40, LIKE)
    uncorrelated(paired[2::2], paired[:-2:2], known)


def test_bits_of_one_random_word_are_independent() -> None:
    """One word serves eight units: products of units 1 … 16 places apart, 96,000 each. False alarms: 10⁻⁴."""
    z = source(LAWS["rademacher"]).draw("dense1", 0, 4, torch.zeros(1, 24_000, dtype=torch.float64)).flatten()
    scores = torch.stack([(z[lag:] * z[:-lag]).sum() / (len(z) - lag) ** 0.5 for lag in range(1, 17)])
    assert_scores(scores, count=16)
    places = z.view(-1, 8)
    assert_scores(places.mean(0) * len(places) ** 0.5, count=8)


def test_a_number_of_units_that_no_word_divides() -> None:
    """3 samples of 5 units: every place is drawn. 400 draws each, False alarms: 10⁻⁴."""
    z = source(LAWS["rademacher"]).draw("dense1", 0, 400, torch.zeros(3, 5, dtype=torch.float64)).flatten(1)
    assert_scores(z_scores(z, 0.0, 1.0), count=15)


@each_law
@pytest.mark.parametrize("steps", [1, 2, 6, 7])
def test_antithetic_steps_are_exact_opposites_and_an_odd_last_one_stays_alone(known: Moments, steps: int) -> None:
    z = source(known, antithetic=True).draw("dense1", 0, steps, LIKE)
    for even in range(0, steps - 1, 2):
        assert torch.equal(z[even + 1], -z[even])
    for one, other in itertools.combinations(range(0, steps, 2), 2):
        assert not torch.equal(z[one].abs(), z[other].abs()) or known is LAWS["rademacher"]
        assert not torch.equal(z[one], z[other])
        assert not torch.equal(z[one], -z[other])


@each_law
@pytest.mark.parametrize("antithetic", [False, True])
def test_a_draw_is_a_function_of_seed_layer_and_step_whatever_the_chunk(known: Moments, antithetic: bool) -> None:
    """Every window of a sequence of 7, in any order, from new sources, is that part of the whole."""
    like = torch.zeros(4, 5)
    whole = source(known, antithetic=antithetic).draw("dense1", 0, 7, like)
    windows = [(start, stop) for start in range(7) for stop in range(start + 1, 8)]
    for start, stop in reversed(windows):
        torch.manual_seed(start)
        part = source(known, antithetic=antithetic).draw("dense1", start, stop - start, like)
        assert torch.equal(part, whole[start:stop])


def test_the_amount_fades_with_the_optimiser_step() -> None:
    noise = Noise(alpha=0.4, amount=Fading(half_life=10, floor=0.25))
    amplitudes = [NoiseSource(noise, 0, step).amplitude(gain=2.0, threshold=0.7) for step in (0, 10, 100_000)]
    assert amplitudes == pytest.approx([0.8, 0.8 * 0.625, 0.8 * 0.25])
