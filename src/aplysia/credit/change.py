"""Counting words and addresses, and what a transport scheme may do with the changes |w − b| of the weights.

All of this is ours; see `aplysia.credit.transport`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import RecipeError


@dataclass(frozen=True)
class Selection:
    """What one event takes from one layer.

    Attributes:
        index: positions in the flat weight, int64, each at most once; None: all of them.
        words: how many.
        address_bits: bits spent on saying which.
        drawn: random numbers drawn, on one side.
    """

    index: Tensor | None
    words: int
    address_bits: int = 0
    drawn: int = 0


def exact_words(fraction: float, size: int, event: int) -> int:
    """⌊e·ρN⌋ − ⌊(e−1)·ρN⌋, in whole numbers: ρ is the decimal that was written, not its binary neighbour."""
    part = Fraction(repr(fraction)) * size
    return math.floor(event * part) - math.floor((event - 1) * part)


def address_bits(words: int, size: int) -> int:
    """Bits to say which `words` of `size` weights: ⌈log2 N⌉ each, or a map of N bits where that is shorter."""
    return min(words * (size - 1).bit_length(), size)


def check_fraction(key: str, fraction: float) -> None:
    """Raise `RecipeError` unless it lies in (0, 1]."""
    if not 0.0 < fraction <= 1.0:
        raise RecipeError(
            key, expected="a number in (0, 1]", got=repr(fraction), fix="use 0.01, or transport=whole for all weights"
        )


class AbstractLevel(ABC):
    """Where the threshold of a change lies."""

    @abstractmethod
    def value(self, last: float, change: Tensor) -> float:
        """θ for this event, from the changes `[N]`; `last` is what `after` gave, negative before the first event."""

    @abstractmethod
    def after(self, level: float, share: float) -> float:
        """What is remembered of θ, given the share of weights that were above it."""


@dataclass(frozen=True, kw_only=True)
class Absolute(AbstractLevel):
    """θ is a number.

    Attributes:
        threshold: θ ≥ 0, in units of the weights.
    """

    threshold: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold < math.inf:
            raise RecipeError(
                "rule.transport.level.threshold", expected="a number ≥ 0", got=repr(self.threshold), fix="use 0.01"
            )

    def value(self, last: float, change: Tensor) -> float:
        return self.threshold

    def after(self, level: float, share: float) -> float:
        return level


@dataclass(frozen=True, kw_only=True)
class RunningQuantile(AbstractLevel):
    """θ follows the (1 − ρ)-quantile of the changes by counting alone, without sorting:

        θ ← θ·exp(η·(share − ρ)/ρ), at most doubled        share: of the weights that were above θ

    At the first event, and wherever θ is 0, it is the quantile itself.

    Attributes:
        fraction: ρ, the share of the weights to be sent in the long run.
        rate: η in (0, 1].
    """

    fraction: float = 0.01
    rate: float = 0.3

    def __post_init__(self) -> None:
        check_fraction("rule.transport.level.fraction", self.fraction)
        if not 0.0 < self.rate <= 1.0:
            raise RecipeError(
                "rule.transport.level.rate", expected="a number in (0, 1]", got=repr(self.rate), fix="use 0.3"
            )

    def value(self, last: float, change: Tensor) -> float:
        if last > 0.0:
            return last
        below = change.numel() - math.floor(Fraction(repr(self.fraction)) * change.numel())
        return float(change.kthvalue(below).values) if below else 0.0

    def after(self, level: float, share: float) -> float:
        # Linear in the share, which for few weights is noisy: any bend would shift the share in the long run.
        return level * math.exp(min(self.rate * (share - self.fraction) / self.fraction, math.log(2.0)))


class AbstractPool(ABC):
    """Among which weights the largest changes are looked for.

    Attributes:
        by_layer: whether each layer's number of words is known before looking.
    """

    by_layer: ClassVar[bool]

    @abstractmethod
    def largest(self, changes: list[Tensor], words: list[int]) -> list[Selection]:
        """Of each layer, by its changes `[N]` and the words it may send."""


@dataclass(frozen=True)
class WithinLayers(AbstractPool):
    """Each layer sends its own share, addressed within the layer."""

    by_layer: ClassVar[bool] = True

    def largest(self, changes: list[Tensor], words: list[int]) -> list[Selection]:
        return [
            Selection(largest(change, count), count, address_bits(count, change.numel()))
            for change, count in zip(changes, words, strict=True)
        ]


@dataclass(frozen=True)
class AcrossLayers(AbstractPool):
    """The layers that copy at this step send the sum of their shares together, addressed among all of them."""

    by_layer: ClassVar[bool] = False

    def largest(self, changes: list[Tensor], words: list[int]) -> list[Selection]:
        sizes = [change.numel() for change in changes]
        index = largest(torch.cat(changes), sum(words)).sort().values
        ends = torch.tensor(sizes, device=index.device).cumsum(0)
        counts = torch.searchsorted(index, ends).tolist()
        made, first, offset = [], 0, 0
        total = address_bits(len(index), sum(sizes))
        for last, size in zip(counts, sizes, strict=True):
            # One message, whose address bits are booked on the last layer's account.
            made.append(Selection(index[first:last] - offset, last - first))
            first, offset = last, offset + size
        made[-1] = Selection(made[-1].index, made[-1].words, total)
        return made


def largest(change: Tensor, count: int) -> Tensor:
    """Positions of the `count` largest, among equals those of the lowest address: the head of a stable descending sort."""
    if count == 0:
        return torch.empty(0, dtype=torch.int64, device=change.device)
    # topk alone leaves open which of equal changes it takes, and differs between devices there.
    least = change.topk(count, sorted=False).values.min()
    above = (change > least).nonzero().flatten()
    return torch.cat([above, (change == least).nonzero().flatten()[: count - len(above)]])
