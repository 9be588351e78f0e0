"""Errors of a stepwise loss at the readout, and numbers of spikes, in one pass over memory each.

    loss    Σ [ −p·ln softmax_y(x) + (q/2)·Σ_k (x_k − y_k)² ]     y one-hot
    error   p·(softmax_k(x) − y_k) + q·(x_k − y_k)

By torch's operations that is a dozen small calls, which take longer than they work. Kernels are C++ (`readout.cpp`) where
kernels run compiled.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aplysia.ops.native import call, library, numbers, ready


def softmax_error(out: Tensor, target: Tensor, p: float, q: float) -> tuple[Tensor, Tensor] | None:
    """The loss over steps and samples, 0-dim, and the error `[K, B, C]`; None: no kernel can, or a label is none.

    Args:
        out: `[K, B, C]`.
        target: labels `[B]`.
        p, q: factors.
    """
    if not ready(out) or target.dtype != torch.int64 or target.shape != out.shape[1:2] or not out.numel():
        return None
    if (kernels := library()) is None:
        return None
    steps, batch, classes = out.shape
    loss, error = out.new_empty(()), torch.empty_like(out)
    tensors: list[Tensor | None] = [out, target.contiguous(), numbers(p, q), loss]
    strangers = call(kernels.softmax_error, tensors, [steps * batch, batch, classes], error, counts=True)
    return None if strangers else (loss, error)


def total(x: Tensor) -> Tensor:
    """The sum of a chunk `[K, B, …]` in float64; exact for whole numbers."""
    if x.numel() >= _LEAST and ready(x) and (kernels := library()) is not None:
        out = torch.empty((), dtype=torch.float64, device="cpu")
        call(kernels.total, [x], [x.numel()], out)
        return out
    # Per sample and step first: a float32 sum over a whole chunk would no longer be an exact integer.
    return x.flatten(2).sum(2).sum(dtype=torch.float64)


# Numbers from which on a call pays.
_LEAST = 1 << 14
