"""Products of few rows with many columns, in blocks."""

from __future__ import annotations

import pytest
import torch
from helpers import normal

from aplysia.ops import wide
from aplysia.ops.wide import narrow_pairs, narrow_product, scaled_product, wide_product


@pytest.mark.parametrize("columns", [7, (1 << 15) - 1, 1 << 15, (1 << 15) + 4097])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blocks_are_the_product(columns: int, dtype: torch.dtype) -> None:
    source = torch.Generator().manual_seed(0)
    a = torch.randn(12, 9, generator=source).to(dtype).t()
    b = torch.randn(12, columns, generator=source).to(dtype)
    got = wide_product(a, b)
    assert got.is_contiguous()
    torch.testing.assert_close(got.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5)


def test_what_is_trained_gets_no_graph() -> None:
    b = torch.ones(2, 1 << 15, requires_grad=True)
    assert not wide_product(torch.ones(3, 2), b).requires_grad


@pytest.mark.parametrize(
    ("rows", "depth", "columns"),
    [
        (10, 700, 801),
        (700, 10, 801),
        (97, 33, 1600),
        (133, 10, 5000),
        (29, 128, 67),
        (1, 3, 30_000),
        (11, 257, 1111),
        (4, 2, 40_000),
    ],
)
def test_the_kernel_is_the_product_on_any_number_of_threads(
    compiled: None, rows: int, depth: int, columns: int
) -> None:
    """Within the rounding of a sum of parts of 512, one number for all."""
    source = torch.Generator().manual_seed(0)
    a, b = torch.randn(depth, rows, generator=source).t(), torch.randn(depth, columns, generator=source)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(wide_product(a, b))
    torch.set_num_threads(before)
    exact, sizes = a.double() @ b.double(), a.double().abs() @ b.double().abs()
    terms = min(depth, 512) + -(-depth // 512) + 2
    for got in (found[0], wide_product(a.contiguous(), b)):
        assert bool(((got - exact).abs() <= torch.finfo(torch.float32).eps / 2 * terms * sizes).all())
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_what_the_kernel_is_not_made_for_goes_another_way(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "call", lambda *_: pytest.fail("the kernel was called"))
    for a, b in (
        (torch.randn(200, 200), torch.randn(200, 500)),
        (torch.randn(10, 20).double(), torch.randn(20, 5000).double()),
        (torch.randn(10, 20), torch.randn(5000, 20).t()),
        (torch.randn(10, 20), torch.randn(20, 30)),
    ):
        assert torch.equal(wide_product(a, b), a @ b)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "depth", "units"), [(769, 805, 10), (5, 4096, 16), (1, 70_000, 3), (300, 513, 1)])
def test_few_units_have_a_kernel_of_their_own(compiled: None, rows: int, depth: int, units: int, bias: bool) -> None:
    """Within the rounding of a sum in 16 lanes at most, the same for any number of threads."""
    source = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, depth, generator=source), torch.randn(units, depth, generator=source)
    offset = torch.randn(units, generator=source) if bias else None
    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(narrow_product(a, b, offset))
    torch.set_num_threads(before)
    assert torch.equal(*found)
    exact, sizes = a.double() @ b.double().t(), a.double().abs() @ b.double().abs().t()
    if offset is not None:
        exact, sizes = exact + offset, sizes + offset.abs()
    terms = depth // 4 + 20
    assert bool(((found[0] - exact).abs() <= torch.finfo(torch.float32).eps / 2 * terms * sizes).all())


def test_the_kernel_of_few_units_says_what_it_cannot_take(compiled: None) -> None:
    a, b = torch.randn(200, 800), torch.randn(10, 800)
    assert narrow_product(a, b) is not None
    for left, right in (
        (a, torch.randn(17, 800)),
        (a.double(), b.double()),
        (a[:, ::2], b[:, ::2]),
        (a[:2, :8].contiguous(), b[:, :8].contiguous()),
    ):
        assert narrow_product(left, right) is None
    with torch.autocast("cpu"):
        assert narrow_product(a, b) is None


@pytest.mark.parametrize(("rows", "depth", "columns"), [(700, 10, 801), (133, 10, 5000), (29, 128, 67), (40, 600, 500)])
def test_a_product_scales_what_is_there(compiled: None, rows: int, depth: int, columns: int) -> None:
    """Sums of more than one part are taken first."""
    a, b, factor = normal(rows, depth), normal(depth, columns, seed=1), normal(2, rows // 2, columns, seed=2)
    a = a[: rows // 2 * 2]
    want, place = factor * wide_product(a, b).view(factor.shape), factor.data_ptr()
    got = scaled_product(a, b, factor)
    assert got.data_ptr() == place
    assert got.shape == want.shape
    assert torch.equal(got, want)


def test_any_type_is_scaled(compiled: None) -> None:
    a, b, factor = normal(200, 10).double(), normal(10, 500).double(), normal(200, 500).double()
    torch.testing.assert_close(scaled_product(a, b, factor.clone()), factor * (a @ b), rtol=0, atol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("batch", "depth", "units"), [(32, 805, 10), (33, 801, 16), (1, 70_000, 3), (5, 5130, 1)])
def test_few_units_meet_pairs_of_opposite_noise(compiled: None, batch: int, depth: int, units: int, bias: bool) -> None:
    """Three pairs of steps; a batch of its own size for a kernel that takes samples by twos."""
    a, z, b = normal(6 * batch, depth), normal(3 * batch, depth, seed=1), normal(units, depth, seed=2)
    offset = normal(units, seed=3) if bias else None
    noise = 0.3 * z.view(3, batch, depth)
    drive = a.view(3, 2, batch, depth) + torch.stack([noise, -noise], 1)
    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(narrow_pairs(a, z, 0.3, b, offset, batch))
    torch.set_num_threads(before)
    assert torch.equal(*found)
    exact = drive.flatten(0, 2).double() @ b.double().t()
    exact = exact if offset is None else exact + offset
    torch.testing.assert_close(found[0].double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))


def test_the_kernel_of_pairs_says_what_it_cannot_take(compiled: None) -> None:
    a, z, b = normal(200, 800), normal(100, 800), normal(10, 800)
    assert narrow_pairs(a, z, 0.3, b, None, 50) is not None
    assert narrow_pairs(a.double(), z.double(), 0.3, b.double(), None, 50) is None
    assert narrow_pairs(a, z, 0.3, normal(17, 800), None, 50) is None
    assert narrow_pairs(a[:, ::2], z[:, ::2], 0.3, b[:, ::2], None, 50) is None
    with torch.autocast("cpu"):
        assert narrow_pairs(a, z, 0.3, b, None, 50) is None
