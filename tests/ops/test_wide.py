"""Products of few rows with many columns, in blocks."""

from __future__ import annotations

import pytest
import torch

from aplysia.ops.wide import wide_product


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
