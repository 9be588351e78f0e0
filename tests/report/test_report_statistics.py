"""Intervals by hand, by the tables every textbook has, and by scipy where it is installed."""

from __future__ import annotations

import math

import pytest

from aplysia.report.statistics import estimate, t_quantile

# Two-sided 95 %, as printed in textbooks.
TEXTBOOK = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 29: 2.045, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize("df", TEXTBOOK)
def test_t_quantiles_are_those_of_the_textbook(df: int) -> None:
    assert t_quantile(0.975, df) == pytest.approx(TEXTBOOK[df], abs=5e-4)


def test_t_quantiles_in_closed_form() -> None:
    for p in (0.5, 0.6, 0.9, 0.975, 0.9995):
        assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-9, abs=1e-12)
        a = 2 * p - 1
        assert t_quantile(p, 2) == pytest.approx(a * math.sqrt(2 / (1 - a * a)), rel=1e-9, abs=1e-12)
    assert t_quantile(0.025, 7) == -t_quantile(0.975, 7)


def test_t_quantiles_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for df in (*range(1, 31), 100, 999):
        for p in (0.001, 0.3, 0.7, 0.95, 0.975, 0.995):
            assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-10)


@pytest.mark.parametrize(("p", "df"), [(0.0, 3), (1.0, 3), (1.5, 3), (0.5, 0)])
def test_nonsense_is_refused(p: float, df: int) -> None:
    with pytest.raises(ValueError):
        t_quantile(p, df)


def test_an_estimate_by_hand() -> None:
    found = estimate([97.0, 98.0, 99.0])
    assert (found.mean, found.sd, found.n) == (98.0, 1.0, 3)
    half = 4.30265 / math.sqrt(3)
    assert found.low == pytest.approx(98 - half, abs=1e-4)
    assert found.high == pytest.approx(98 + half, abs=1e-4)
    assert found.within_noise is False


def test_one_value_has_no_spread_and_none_is_an_error() -> None:
    found = estimate([97.0])
    assert (found.mean, found.sd, found.low, found.high, found.within_noise) == (97.0, None, None, None, None)
    with pytest.raises(ValueError):
        estimate([])


def test_within_noise_is_an_interval_that_holds_zero() -> None:
    assert estimate([-0.1, 0.1, 0.05]).within_noise
    assert estimate([0.0, 0.0]).within_noise
    assert not estimate([-1.0, -1.1, -0.9]).within_noise
