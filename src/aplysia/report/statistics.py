"""Mean, spread and Student's interval of a handful of seeds, from the standard library alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """What a sample says about its mean.

    Attributes:
        mean: of the values.
        sd: sample standard deviation; None for a single value.
        n: how many.
        low, high: ends of the 95 % confidence interval; None for a single value.
    """

    mean: float
    sd: float | None
    n: int
    low: float | None
    high: float | None

    @property
    def within_noise(self) -> bool | None:
        """Whether the interval holds 0; None where there is no interval to tell by."""
        return None if self.low is None or self.high is None else self.low <= 0.0 <= self.high


def estimate(values: Sequence[float], level: float = 0.95) -> Estimate:
    """Mean, sd and the confidence interval of the mean, the values taken as normal.

    Raises:
        ValueError: no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None, 1, None, None)
    sd = statistics.stdev(values)
    half = t_quantile(0.5 + level / 2, n - 1) * sd / math.sqrt(n)
    return Estimate(mean, sd, n, mean - half, mean + half)


def t_quantile(p: float, df: int) -> float:
    """The value below which Student's t with `df` degrees of freedom lies with probability p.

    Raises:
        ValueError: p outside (0, 1), or df below 1.
    """
    if not 0.0 < p < 1.0 or df < 1:
        raise ValueError(f"p={p}, df={df}")
    if p < 0.5:
        return -t_quantile(1.0 - p, df)
    # With t = √df·tan θ the probability is a finite sum in θ for whole df, and θ lies in a bounded interval to halve.
    low, high, want = 0.0, math.pi / 2, 2.0 * p - 1.0
    while (middle := (low + high) / 2) not in (low, high):
        if _inside(middle, df) < want:
            low = middle
        else:
            high = middle
    return math.sqrt(df) * math.tan(low)


def _inside(theta: float, df: int) -> float:
    """P(|T| ≤ √df·tan θ), by Abramowitz and Stegun 26.7.3 (odd df) and 26.7.4 (even)."""
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = df % 2 == 1
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(2 + odd, df + 1 + odd, 2):
        total += term
        term *= cosine * cosine * (k - 1) / k
    return (2.0 / math.pi) * (theta + sine * total) if odd else sine * total
