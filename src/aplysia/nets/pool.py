"""Pools: in front of a synapse, on spikes; or behind one, on currents."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from aplysia.ops.pool import average_pool


@dataclass(frozen=True)
class AveragePool:
    """Mean over k × k windows; None: over the whole image."""

    size: int | None

    def __call__(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, x.shape[-2:]) if self.size is None else average_pool(x, self.size)


@dataclass(frozen=True)
class MaxPool:
    """Maximum over k × k windows; on spikes an OR, on earliness the earliest spike."""

    size: int

    def __call__(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.size)


Pool = AveragePool | MaxPool


@dataclass(frozen=True)
class StemPool:
    """Mean of currents over k × k windows at every second place, in front of the neurons; beyond the edge nothing counts."""

    size: int

    def __call__(self, currents: Tensor) -> Tensor:
        return F.avg_pool2d(currents, self.size, 2, (self.size - 1) // 2, count_include_pad=False)
