"""Products of a few rows with a matrix that is very wide, which direct feedback to a convolution is made of.

    a·b,   a [R, m],  b [m, n],   n in the tens of thousands

On a CPU they are taken in blocks of columns: what a block writes stays in the cache while it is made, and libraries go about
blocks two to three times as fast as about the whole. Each number is the same sum either way.
"""

from __future__ import annotations

import torch
from torch import Tensor

_COLUMNS, _LEAST = 4096, 1 << 15


@torch.no_grad()
def wide_product(a: Tensor, b: Tensor) -> Tensor:
    """a·b `[R, n]`, without a graph."""
    if b.shape[1] < _LEAST or b.device.type != "cpu" or a.dtype != b.dtype:
        return a @ b
    out = a.new_empty(len(a), b.shape[1])
    for columns, part in zip(b.split(_COLUMNS, 1), out.split(_COLUMNS, 1), strict=True):
        torch.mm(a, columns, out=part)
    return out
