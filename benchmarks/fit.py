"""How a cost grows: the exponent of a power law, by least squares in logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class PowerLaw(NamedTuple):
    """y ≈ factor · x^exponent.

    Attributes:
        error: standard error of the exponent; None for two points, which any line meets.
        points: how many were fitted.
    """

    exponent: float
    error: float | None
    factor: float
    points: int


def upper_half(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """The points of the larger half, where what does not grow weighs least; at least two, the middle one counted in."""
    order = sorted(range(len(xs)), key=lambda i: xs[i])
    keep = order[-max(2, (len(order) + 1) // 2) :]
    return [xs[i] for i in keep], [ys[i] for i in keep]


def power_law(xs: Sequence[float], ys: Sequence[float]) -> PowerLaw | None:
    """The law that fits best; None where there are fewer than two points, or one that has no logarithm."""
    if len(set(xs)) < 2 or min(*xs, *ys) <= 0:
        return None
    u, v = [math.log(x) for x in xs], [math.log(y) for y in ys]
    n, u_mean, v_mean = len(u), sum(u) / len(u), sum(v) / len(v)
    square = sum((a - u_mean) ** 2 for a in u)
    exponent = sum((a - u_mean) * (b - v_mean) for a, b in zip(u, v, strict=True)) / square
    level = v_mean - exponent * u_mean
    rest = sum((b - level - exponent * a) ** 2 for a, b in zip(u, v, strict=True))
    error = math.sqrt(rest / (n - 2) / square) if n > 2 else None
    return PowerLaw(exponent, error, math.exp(level), n)
