"""The link between the forward and the feedback side: what becomes of the words that are sent.

None of this is in the paper: it is what a chip designer asks next. A perfect link is the default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aplysia.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Link:
    """A lossy, late or coarse link.

    Attributes:
        drop: probability that a word is lost, each on its own; it is counted as sent and not as written.
        latency: steps between a copy and its arrival. The error of step s uses what has arrived by the end of step s − 1.
        bits: width of a feedback weight; None: full precision. Levels are s·q with q whole, abs(q) ≤ 2^(bits−1) − 1, and s a
            power of two common to a layer, the smallest that holds the layer's largest weight. It is sent with every copy
            (8 bits, an exponent); where it changes, the other side rounds what it holds to the new levels.
    """

    drop: float = 0.0
    latency: int = 0
    bits: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.drop < 1.0:
            raise RecipeError("rule.link.drop", expected="a probability in [0, 1)", got=repr(self.drop), fix="use 0.1")
        if self.latency < 0:
            raise RecipeError(
                "rule.link.latency", expected="a number of steps ≥ 0", got=repr(self.latency), fix="use 0"
            )
        if self.bits is not None and not 2 <= self.bits <= 24:
            raise RecipeError(
                "rule.link.bits",
                expected="from 2 to 24 bits, or none for full precision",
                got=repr(self.bits),
                fix="use 8; for signs alone set rule=sign_symmetric",
            )

    @property
    def perfect(self) -> bool:
        """Whether the other side holds what was sent as soon as it was sent."""
        return self.drop == 0.0 and self.latency == 0

    def word_bits(self, weight: Tensor) -> int:
        """Bits of one word."""
        return self.bits or torch.finfo(weight.dtype).bits

    @property
    def scale_bits(self) -> int:
        """Bits sent with every copy of a layer."""
        return 0 if self.bits is None else 8

    def grid(self, weight: Tensor) -> Tensor | None:
        """s of a layer, 0-dim; None: full precision."""
        if self.bits is None:
            return None
        largest = weight.abs().amax().clamp(min=torch.finfo(weight.dtype).tiny)
        return torch.exp2(torch.ceil(torch.log2(largest / self._top)))

    def coarse(self, values: Tensor, grid: Tensor | None) -> Tensor:
        """Values on the levels of a grid."""
        return values if grid is None else (values / grid).round().clamp(-self._top, self._top) * grid

    @property
    def _top(self) -> int:
        assert self.bits is not None
        return 2 ** (self.bits - 1) - 1
