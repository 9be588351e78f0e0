"""Full products by oneDNN, against float64, and when they are left to torch."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers import normal
from torch import Tensor

from aplysia.ops import full
from aplysia.ops.full import full_product
from aplysia.ops.geometry import Dense

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch has no oneDNN here")


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "compiled_kernels", lambda: True)


def within(got: Tensor, a: Tensor, b: Tensor, bias: Tensor | None = None) -> bool:
    """Whether it is a·bᵀ within the rounding of a sum in any order."""
    exact, sizes = a.double() @ b.double().t(), a.double().abs() @ b.double().abs().t()
    if bias is not None:
        exact, sizes = exact + bias, sizes + bias.abs()
    return bool(((got - exact).abs() <= torch.finfo(torch.float32).eps / 2 * (a.shape[1] + 1) * sizes).all())


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("rows", "depth", "units"), [(129, 784, 801), (1, 4099, 4111), (3001, 77, 91)])
@torch.no_grad()
def test_it_is_the_product(serving: None, rows: int, depth: int, units: int, biased: bool, turned: bool) -> None:
    a, b = normal(rows, depth), normal(units, depth, seed=1)
    if turned:
        b = b.t().contiguous().t()
    bias = normal(units, seed=2) if biased else None
    got = full_product(a, b, bias)
    assert got is not None
    assert got.shape == (rows, units)
    assert got.is_contiguous()
    assert within(got, a, b, bias)
    again = full_product(a, b, bias)
    assert again is not None
    assert torch.equal(got, again)


def test_what_it_is_not_made_for_is_left_to_torch(serving: None, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(800, 300), normal(200, 300, seed=1)
    with torch.no_grad():
        assert full_product(a, b) is not None
        for left, right in (
            (a[:2], b),
            (a.double(), b.double()),
            (a.bfloat16(), b.bfloat16()),
            (a.repeat(1, 2)[:, ::2], b),
            (a, b.repeat(1, 2)[:, ::2]),
            (a.view(8, 100, 300), b),
        ):
            assert full_product(left, right) is None
        assert full_product(a, b, normal(400)[::2]) is None
        with torch.autocast("cpu"):
            assert full_product(a, b) is None
        with warnings.catch_warnings():
            # torch warns of a switch for other processors.
            warnings.simplefilter("ignore", UserWarning)
            with torch.backends.mkldnn.flags(enabled=False):
                assert full_product(a, b) is None
        monkeypatch.setattr(full, "_product", lambda: None)
        assert full_product(a, b) is None
    assert full_product(a, b) is None, "a graph may be wanted"


def test_without_compiled_kernels_nothing_changes() -> None:
    with torch.no_grad():
        assert full_product(normal(800, 300), normal(200, 300)) is None


def test_an_update_takes_it_where_errors_lie_unit_by_unit(serving: None, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []

    def noted(*of: Tensor) -> Tensor | None:
        found = full_product(*of)
        taken.append(found is not None)
        return found

    monkeypatch.setattr("aplysia.ops.geometry.full_product", noted)
    drive, delta = normal(800, 300), normal(800, 200, seed=1)
    shape = torch.Size((200, 300))
    with torch.no_grad():
        plain, got = Dense().outer(delta, drive, shape), Dense().outer(delta.t().contiguous().t(), drive, shape)
    assert taken == [False, True]
    assert within(got, delta.t(), drive.t())
    torch.testing.assert_close(got, plain, rtol=0, atol=1e-5 * float(plain.abs().max()))


def test_a_geometry_takes_it_forward_and_for_the_error_below(serving: None, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr("aplysia.ops.geometry.full_product", lambda *of: taken.append(len(of)) or full_product(*of))
    drive, weight, delta, bias = normal(800, 300), normal(200, 300), normal(800, 200), normal(200)
    with torch.no_grad():
        assert within(Dense().forward(drive, weight, bias), drive, weight, bias)
        assert within(Dense().error(delta, weight, drive.shape), delta, weight.t())
    assert taken == [3, 2]
    leaf = weight.clone().requires_grad_()
    (found,) = torch.autograd.grad(Dense().forward(drive, leaf, bias), leaf, delta)
    assert torch.equal(found, delta.t() @ drive)
