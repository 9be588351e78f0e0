"""A geometry is one trilinear form read three ways."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aplysia.ops.geometry import AbstractGeometry, Conv2d, Dense


@st.composite
def geometries(draw: st.DrawFn) -> tuple[AbstractGeometry, tuple[int, ...], tuple[int, ...]]:
    batch = draw(st.integers(1, 3))
    if draw(st.booleans()):
        m, n = draw(st.integers(1, 6)), draw(st.integers(1, 6))
        return Dense(), (batch, m), (n, m)
    groups, k = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    below, above = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    height, width = draw(st.integers(max(1, k - 2 * padding), 7)), draw(st.integers(max(1, k - 2 * padding), 7))
    return Conv2d(stride, padding, groups), (batch, below, height, width), (above, below // groups, k, k)


def inner(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a * b).sum())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(geometries(), st.integers(0, 10))
def test_error_and_outer_are_the_adjoints_of_forward(
    made: tuple[AbstractGeometry, tuple[int, ...], tuple[int, ...]], seed: int
) -> None:
    geometry, drive_shape, weight_shape = made
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(drive_shape, generator=source, dtype=torch.float64)
    w = torch.randn(weight_shape, generator=source, dtype=torch.float64)
    y = geometry.forward(x, w)
    assert tuple(y.shape[1:]) == geometry.output_shape(drive_shape[1:], w.shape)
    delta = torch.randn(y.shape, generator=source, dtype=torch.float64)
    want = inner(delta, y)
    assert inner(geometry.error(delta, w, x.shape), x) == pytest.approx(want, rel=1e-9, abs=1e-9)
    assert inner(geometry.outer(delta, x, w.shape), w) == pytest.approx(want, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(geometries())
def test_a_bias_is_an_input_that_is_always_one(made: tuple[AbstractGeometry, tuple[int, ...], tuple[int, ...]]) -> None:
    geometry, drive_shape, weight_shape = made
    y = geometry.forward(torch.randn(drive_shape, dtype=torch.float64), torch.randn(weight_shape, dtype=torch.float64))
    bias, delta = torch.randn(weight_shape[0], dtype=torch.float64), torch.randn_like(y)
    added = geometry.add_bias(torch.zeros_like(y), bias)
    assert inner(delta, added) == pytest.approx(inner(geometry.bias_gradient(delta), bias), rel=1e-9, abs=1e-9)
