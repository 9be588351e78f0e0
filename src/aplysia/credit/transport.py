"""Which weights a copy takes: the selection schemes of partial weight transport.

Frozen backpropagation (Goupy et al. 2025) moves only a subset of the weights at a transport, by three schemes of different
computational cost. That there are three is confirmed; which ones was not to be had. These are the obvious ladder, and ours:

    scheme            picks per event                     compute       memory on the forward side   addresses
    whole             all N                               O(N)          none                         none
    random            ρN drawn without replacement        O(N) draws    none                         none (shared seed)
    cyclic            the next ρN in a fixed order        O(ρN)         a pointer                    none
    threshold         all with |w − b| > θ                O(N)          1 word a weight              yes, count varies
    largest_change    the ρN largest |w − b|              O(N) select   1 word a weight              yes

w − b is what a weight has changed since it was last copied. The forward side does not hold b, so it must keep that change (or
b) in a word of its own per weight; reading b back would be transport again.

ρN need not be whole: event number e moves ⌊e·ρN⌋ − ⌊(e−1)·ρN⌋ words, so that E events move ⌊E·ρN⌋ exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import RecipeError

State = dict[str, Tensor]
Draw = Callable[[str], torch.Generator]


@dataclass(frozen=True)
class Selection:
    """What one copy takes from one layer.

    Attributes:
        index: positions in the flattened weight, int64; None: all of them.
        words: how many.
        address_bits: bits spent on saying which.
        drawn: random numbers drawn.
    """

    index: Tensor | None
    words: int
    address_bits: int = 0
    drawn: int = 0


class AbstractTransport(ABC):
    """Picks the weights of a copy.

    Attributes:
        compute: operations per event on the forward side, in words.
        memory_words: extra words per weight kept on the forward side.
    """

    compute: ClassVar[str]
    memory_words: ClassVar[int] = 0

    def state(self, name: str) -> State:
        """What the scheme remembers about a layer; keys end in the layer's name."""
        return {}

    @abstractmethod
    def words(self, size: int, event: int) -> int | None:
        """Words that event 1, 2, … takes from a layer of `size` weights; None: not known before looking."""

    @abstractmethod
    def select(
        self, weights: State, feedback: State, words: dict[str, int | None], state: State, draw: Draw
    ) -> dict[str, Selection]:
        """Pick, for all layers that copy at this step.

        Args:
            weights: flat forward weights by layer.
            feedback: flat feedback weights, likewise.
            words: how many of each.
            state: the scheme's own tensors, changed in place.
            draw: the generator for a layer at this step.
        """


def _share(key: str, fraction: float) -> None:
    if not 0.0 < fraction <= 1.0:
        raise RecipeError(
            key, expected="a share in (0, 1]", got=repr(fraction), fix="use 0.01, or transport=whole for all weights"
        )


def exact_words(fraction: float, size: int, event: int) -> int:
    """⌊e·ρN⌋ − ⌊(e−1)·ρN⌋, in whole numbers: ρ is the decimal that was written, not its binary neighbour."""
    part = Fraction(repr(fraction)) * size
    return math.floor(event * part) - math.floor((event - 1) * part)


def addresses(words: int, size: int) -> int:
    """Bits to say which `words` of `size` weights: an address each, or a map of one bit a weight where that is shorter."""
    return min(words * math.ceil(math.log2(size)), size) if words and size > 1 else 0


@dataclass(frozen=True)
class Whole(AbstractTransport):
    """Every weight."""

    compute: ClassVar[str] = "O(N)"

    def words(self, size: int, event: int) -> int | None:
        return size

    def select(
        self, weights: State, feedback: State, words: dict[str, int | None], state: State, draw: Draw
    ) -> dict[str, Selection]:
        return {name: Selection(None, w.numel()) for name, w in weights.items()}


@dataclass(frozen=True, kw_only=True)
class Random(AbstractTransport):
    """ρN weights drawn anew at each event, without replacement; both sides draw from one seed, so no address is sent.

    Attributes:
        fraction: ρ.
    """

    compute: ClassVar[str] = "O(N) draws"

    fraction: float = 0.01

    def __post_init__(self) -> None:
        _share("rule.transport.fraction", self.fraction)

    def words(self, size: int, event: int) -> int | None:
        return exact_words(self.fraction, size, event)

    def select(
        self, weights: State, feedback: State, words: dict[str, int | None], state: State, draw: Draw
    ) -> dict[str, Selection]:
        made = {}
        for name, weight in weights.items():
            count = words[name] or 0
            index = torch.randperm(weight.numel(), generator=draw(name), device="cpu")[:count]
            made[name] = Selection(index.to(weight.device), count, drawn=weight.numel())
        return made


@dataclass(frozen=True, kw_only=True)
class Cyclic(AbstractTransport):
    """The next ρN weights in storage order, round and round: every weight has the same greatest age.

    Attributes:
        fraction: ρ.
    """

    compute: ClassVar[str] = "O(ρN)"

    fraction: float = 0.01

    def __post_init__(self) -> None:
        _share("rule.transport.fraction", self.fraction)

    def state(self, name: str) -> State:
        return {f"pointer/{name}": torch.zeros((), dtype=torch.int64)}

    def words(self, size: int, event: int) -> int | None:
        return exact_words(self.fraction, size, event)

    def select(
        self, weights: State, feedback: State, words: dict[str, int | None], state: State, draw: Draw
    ) -> dict[str, Selection]:
        made = {}
        for name, weight in weights.items():
            count, size, pointer = words[name] or 0, weight.numel(), state[f"pointer/{name}"]
            index = (torch.arange(count, device=weight.device) + pointer.to(weight.device)) % size
            pointer.add_(count).remainder_(size)
            made[name] = Selection(index, count)
        return made


class AbstractLevel(ABC):
    """Where the threshold of a change lies."""

    @abstractmethod
    def value(self, gap: Tensor) -> Tensor:
        """θ, 0-dim, for the changes |w − b| of a layer before the scheme has looked at any."""

    @abstractmethod
    def after(self, level: Tensor, gap: Tensor) -> Tensor:
        """θ for the next event, once this one is done."""


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

    def value(self, gap: Tensor) -> Tensor:
        return torch.as_tensor(self.threshold, dtype=gap.dtype, device=gap.device)

    def after(self, level: Tensor, gap: Tensor) -> Tensor:
        return level


@dataclass(frozen=True, kw_only=True)
class RunningQuantile(AbstractLevel):
    """θ follows the (1 − ρ)-quantile of the changes, by a few samples' worth of counting and no sorting:

        θ ← θ·exp(η·(share above θ − ρ)/ρ),   bounded to a factor of two an event

    Attributes:
        fraction: ρ, the share of weights to be copied in the long run.
        rate: η.
    """

    fraction: float = 0.01
    rate: float = 0.3

    def __post_init__(self) -> None:
        _share("rule.transport.level.fraction", self.fraction)
        if not 0.0 < self.rate <= 1.0:
            raise RecipeError("rule.transport.level.rate", expected="in (0, 1]", got=repr(self.rate), fix="use 0.3")

    def value(self, gap: Tensor) -> Tensor:
        # Once, at the first event, from the changes themselves; from then on it is followed.
        count = max(1, round(self.fraction * gap.numel()))
        return gap.kthvalue(gap.numel() - count + 1).values

    def after(self, level: Tensor, gap: Tensor) -> Tensor:
        share = (gap > level).to(level.dtype).mean()
        bound = math.log(2.0)
        return level * (self.rate * (share - self.fraction) / self.fraction).clamp(-bound, bound).exp()


@dataclass(frozen=True, kw_only=True)
class Threshold(AbstractTransport):
    """Every weight that has changed by more than θ since its last copy.

    Attributes:
        level: what θ is.
    """

    compute: ClassVar[str] = "O(N) comparisons"
    memory_words: ClassVar[int] = 1

    level: AbstractLevel = field(default_factory=RunningQuantile)

    def state(self, name: str) -> State:
        return {f"level/{name}": torch.full((), -1.0, dtype=torch.float64)}

    def words(self, size: int, event: int) -> int | None:
        return None

    def select(
        self, weights: State, feedback: State, words: dict[str, int | None], state: State, draw: Draw
    ) -> dict[str, Selection]:
        made = {}
        for name, weight in weights.items():
            gap, level = (weight - feedback[name]).abs(), state[f"level/{name}"]
            theta = self.level.value(gap) if float(level) < 0.0 else level.to(gap)
            index = (gap > theta).nonzero().flatten()
            level.copy_(self.level.after(theta, gap))
            made[name] = Selection(index, len(index), addresses(len(index), weight.numel()))
        return made


class AbstractPool(ABC):
    """Among which weights the largest changes are looked for."""

    @abstractmethod
    def largest(self, gaps: State, words: dict[str, int]) -> dict[str, Tensor]:
        """Positions by layer."""


@dataclass(frozen=True)
class WithinLayers(AbstractPool):
    """Each layer gives its share."""

    def largest(self, gaps: State, words: dict[str, int]) -> dict[str, Tensor]:
        return {name: gap.topk(words[name], sorted=False).indices for name, gap in gaps.items()}


@dataclass(frozen=True)
class AcrossLayers(AbstractPool):
    """All layers that copy at this step give the sum of their shares together."""

    def largest(self, gaps: State, words: dict[str, int]) -> dict[str, Tensor]:
        joined = torch.cat(list(gaps.values()))
        chosen = torch.zeros(len(joined), dtype=torch.bool, device=joined.device)
        chosen[joined.topk(sum(words.values()), sorted=False).indices] = True
        parts = chosen.split([len(gap) for gap in gaps.values()])
        return {name: part.nonzero().flatten() for name, part in zip(gaps, parts, strict=True)}


@dataclass(frozen=True, kw_only=True)
class LargestChange(AbstractTransport):
    """The ρN weights that have changed most since their last copy.

    Attributes:
        fraction: ρ.
        pool: within each layer, or across layers.
    """

    compute: ClassVar[str] = "O(N) selection"
    memory_words: ClassVar[int] = 1

    fraction: float = 0.01
    pool: AbstractPool = field(default_factory=WithinLayers)

    def __post_init__(self) -> None:
        _share("rule.transport.fraction", self.fraction)

    def words(self, size: int, event: int) -> int | None:
        return exact_words(self.fraction, size, event)

    def select(
        self, weights: State, feedback: State, words: dict[str, int | None], state: State, draw: Draw
    ) -> dict[str, Selection]:
        gaps = {name: (weight - feedback[name]).abs() for name, weight in weights.items()}
        found = self.pool.largest(gaps, {name: count or 0 for name, count in words.items()})
        return {
            name: Selection(index, len(index), addresses(len(index), gaps[name].numel()))
            for name, index in found.items()
        }
