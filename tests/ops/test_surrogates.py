"""Surrogate derivatives: area, peak, symmetry, and the derivative they claim to be."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import psi_of
from torch import Tensor

from aplysia.ops.surrogate import AbstractSurrogate, Arctan, Rectangle, Sigmoid, Triangle

EACH = pytest.mark.parametrize(
    ("surrogate", "peak"),
    [
        (Sigmoid(), 1.0),
        (Sigmoid(slope=10.0), 2.5),
        (Triangle(), 1.0),
        (Triangle(width=2.0), 0.5),
        (Arctan(), 1.0),
        (Arctan(alpha=5.0), 2.5),
        (Rectangle(), 1.0),
        (Rectangle(width=0.5), 2.0),
    ],
    ids=repr,
)


def grid(half: float, count: int) -> Tensor:
    """Midpoints of equal cells over [−half, half]."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * (2 * half / count) - half


@EACH
def test_area_is_one_and_the_peak_at_the_threshold(surrogate: AbstractSurrogate, peak: float) -> None:
    half, count = 5000.0, 4_000_000
    area = float(surrogate.derivative(grid(half, count)).sum()) * 2 * half / count
    tail = 2 / (math.pi**2 * half * surrogate.alpha / 2) if isinstance(surrogate, Arctan) else 0.0
    assert area + tail == pytest.approx(1.0, abs=1e-5)
    at = surrogate.derivative(torch.zeros(1, dtype=torch.float64))
    assert float(at) == pytest.approx(peak, rel=1e-12)
    assert float(surrogate.derivative(grid(3.0, 1001)).max()) <= peak * (1 + 1e-12)


@EACH
def test_it_is_even_nonnegative_and_the_formula_on_paper(surrogate: AbstractSurrogate, peak: float) -> None:
    x = grid(4.0, 997)
    psi = surrogate.derivative(x)
    assert (psi >= 0).all()
    torch.testing.assert_close(psi, psi.flip(0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(psi, psi_of(surrogate)(x), rtol=1e-9, atol=1e-12)
    assert surrogate.derivative(x.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("surrogate", "primitive"),
    [
        (Sigmoid(slope=3.0), lambda x: torch.sigmoid(3.0 * x)),
        (Arctan(alpha=1.5), lambda x: torch.arctan(math.pi / 2 * 1.5 * x) / math.pi),
        (Triangle(width=2.0), lambda x: torch.where(x < 0, (x / 2 + 1) ** 2 / 2, 1 - (1 - x / 2) ** 2 / 2)),
    ],
    ids=["sigmoid", "arctan", "triangle"],
)
def test_it_is_the_derivative_of_its_smooth_step(surrogate: AbstractSurrogate, primitive: object) -> None:
    x, h = grid(1.9, 400), 1e-6
    numerical = (primitive(x + h) - primitive(x - h)) / (2 * h)  # type: ignore[operator]
    torch.testing.assert_close(surrogate.derivative(x), numerical, rtol=1e-6, atol=1e-8)


def test_support_ends_where_it_is_said_to() -> None:
    x = torch.tensor([-1.0, -0.999, 0.0, 0.999, 1.0], dtype=torch.float64)
    assert (Triangle(width=1.0).derivative(x) > 0).tolist() == [False, True, True, True, False]
    assert (Rectangle(width=2.0).derivative(x) > 0).tolist() == [False, True, True, True, False]


def test_far_from_the_threshold_nothing_overflows() -> None:
    x = torch.tensor([-1e30, -1e4, 1e4, 1e30])
    for surrogate in (Sigmoid(slope=50.0), Triangle(), Arctan(), Rectangle()):
        assert torch.isfinite(surrogate.derivative(x)).all()
