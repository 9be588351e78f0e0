"""Thinning and rounding: whole numbers with the right law."""

from __future__ import annotations

import pytest
import torch
from device_parts import assert_scores, mean_score, source, variance_score

from aplysia.devices.pulses import rounded, split, thinned


@pytest.mark.parametrize("p", [0.004, 0.3, 0.97, 1.0, 1.6, 3.0])
def test_thinning_has_the_mean_and_variance_of_a_binomial(p: float) -> None:
    """⌊p⌋ sure pulses and Binomial(count, p − ⌊p⌋) more."""
    rest = p - int(p)
    for count in (1, 7, 40):
        drawn = thinned(torch.full((200, 200), float(count), dtype=torch.float64), p, source(count))
        assert torch.equal(drawn, drawn.round())
        assert drawn.min() >= count * int(p)
        assert drawn.max() <= count * (int(p) + (rest > 0.0))
        if rest == 0.0:
            assert (drawn == count * p).all()
            continue
        mean, variance = count * p, count * rest * (1.0 - rest)
        assert_scores(mean_score(drawn, mean, variance), variance_score(drawn, mean, variance))


def test_each_cell_is_thinned_by_itself() -> None:
    count = torch.tensor([[0.0, 5.0], [100.0, 0.0]]).expand(5000, 2, 2).clone()
    drawn = thinned(count, 0.25, source())
    assert (drawn[:, 0, 0] == 0).all()
    assert (drawn[:, 1, 1] == 0).all()
    a, b = drawn[:, 0, 1], drawn[:, 1, 0]
    assert_scores(mean_score(a, 1.25, 5 * 0.1875), mean_score(b, 25.0, 100 * 0.1875))
    assert_scores(mean_score((a - 1.25) * (b - 25.0), 0.0, 5 * 100 * 0.1875**2))


def test_no_cell_is_left_out() -> None:
    """A probability next to 1 leaves nothing to chance."""
    count = torch.arange(12, dtype=torch.float64).view(3, 4).flip(0)
    assert torch.equal(thinned(count, 1.0 - 1e-12, source()), count)
    assert torch.equal(thinned(count, 3.0 - 1e-12, source()), 3.0 * count)


def test_rounding_is_unbiased_and_takes_the_two_whole_numbers_around() -> None:
    for amount in (0.003, 0.5, 2.9, 4.0):
        drawn = rounded(torch.full((40_000,), amount, dtype=torch.float64), source())
        low = int(amount)
        assert set(drawn.tolist()) <= {float(low), float(low + 1)}
        rest = amount - low
        if rest:
            assert_scores(mean_score(drawn, amount, rest * (1.0 - rest)))
        else:
            assert (drawn == amount).all()


def test_rates_instead_of_counts_keep_their_mean() -> None:
    drawn = thinned(torch.full((60_000,), 0.4, dtype=torch.float64), 0.5, source())
    assert set(drawn.tolist()) == {0.0, 1.0}
    assert_scores(mean_score(drawn, 0.2, 0.2 * 0.8))


def test_layouts_of_memory_make_no_difference() -> None:
    count = torch.randint(0, 9, (4, 3, 5, 5), generator=source()).float()
    other = count.to(memory_format=torch.channels_last)
    assert torch.equal(thinned(count, 0.4, source(1)), thinned(other, 0.4, source(1)))


def test_a_signed_step_is_split_into_its_directions() -> None:
    up, down = split(torch.tensor([2.0, -3.0, 0.0]))
    assert up.tolist() == [2.0, 0.0, 0.0]
    assert down.tolist() == [0.0, 3.0, 0.0]
