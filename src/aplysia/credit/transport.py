"""Which weights a copy takes: the selection schemes of partial weight transport.

Frozen backpropagation (Goupy et al. 2025) moves only a subset of the weights at a transport, by three schemes of varying
computational complexity. That there are three is confirmed; their names and rules were not to be had. These are ours:

    scheme            picks at an event                   compute     memory, words/weight   addresses
    whole             all N                               O(N)        0                      none
    random            ρN, drawn without replacement       O(ρN)       0                      none: both sides share the seed
    cyclic            the next ρN in a fixed order        O(ρN)       0 (a pointer a layer)  none: both sides count
    threshold         all with |w − b| > θ                O(N)        1                      yes, and the count varies
    largest_change    the ρN largest |w − b|              O(N)        1                      yes

w − b is the accumulated change of a weight since it was last sent. The forward side does not hold b, so it must keep that
change (or b) in a word of its own per weight; reading b back would be transport again.

ρN need not be whole: event number e = 1, 2, … moves ⌊e·ρN⌋ − ⌊(e−1)·ρN⌋ words of a layer, so E events move ⌊E·ρN⌋ exactly.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.change import (
    AbstractLevel,
    AbstractPool,
    RunningQuantile,
    Selection,
    WithinLayers,
    address_bits,
    check_fraction,
    exact_words,
)
from aplysia.nets.layer import Layer

State = dict[str, Tensor]
Draw = Callable[[str], torch.Generator]


@dataclass
class Sender:
    """The forward side of one layer after a step.

    Attributes:
        layer: whose effective weight is sent.
        known: what was last sent of each weight, flat `[N]`.
        lr: the learning rate of the layer's weight in this step; 0 where no optimiser moves it.
        first_lr: the same before any schedule.
    """

    layer: Layer
    known: Tensor
    lr: float = 0.0
    first_lr: float = 0.0

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def size(self) -> int:
        """N."""
        return self.known.numel()

    @cached_property
    def weight(self) -> Tensor:
        """The effective weights, flat `[N]`; computed only where somebody asks, since on most steps nobody does."""
        return self.layer.effective_weight().detach().flatten()

    def change(self) -> Tensor:
        """|w − b|, `[N]`."""
        return (self.weight - self.known).abs_()


class AbstractTransport(ABC):
    """Picks the weights of a copy. A frozen dataclass; what it remembers lives in the rule's tensors.

    Attributes:
        compute: operations per event on the forward side.
        memory_words: extra words per weight on the forward side.
        draws: whether it takes random numbers, of which there may be more than words, since repeats are drawn again.
    """

    compute: ClassVar[str]
    memory_words: ClassVar[int]
    draws: ClassVar[bool] = False

    @abstractmethod
    def state(self, name: str) -> State:
        """What the scheme remembers about a layer, on the CPU; keys end in `/` and the layer's name."""

    @abstractmethod
    def words(self, size: int, event: int) -> int | None:
        """Words that event 1, 2, … takes from a layer of `size` weights; None: not known before looking."""

    @abstractmethod
    def addresses(self, words: int, size: int) -> int | None:
        """Bits that say which words an event of so many takes from a layer; None: not known before looking."""

    @abstractmethod
    def within(self, size: int, allowance: int) -> int | None:
        """Words it would take where `allowance` may be spent; None: its count obeys nobody."""

    @abstractmethod
    def select(self, wanted: list[tuple[Sender, int]], state: State, draw: Draw) -> list[Selection]:
        """Pick, for all layers that copy at this step.

        Args:
            wanted: each layer and how many words of it (of no meaning to a scheme that does not count).
            state: the scheme's own tensors, changed in place.
            draw: the generator of a layer at this step, on the CPU.
        """


@dataclass(frozen=True)
class Whole(AbstractTransport):
    """Every weight."""

    compute: ClassVar[str] = "O(N)"
    memory_words: ClassVar[int] = 0

    def state(self, name: str) -> State:
        return {}

    def words(self, size: int, event: int) -> int | None:
        return size

    def addresses(self, words: int, size: int) -> int | None:
        return 0

    def within(self, size: int, allowance: int) -> int | None:
        return size if allowance >= size else 0

    def select(self, wanted: list[tuple[Sender, int]], state: State, draw: Draw) -> list[Selection]:
        return [Selection(None, sender.size) for sender, _ in wanted]


@dataclass(frozen=True, kw_only=True)
class AbstractPartial(AbstractTransport):
    """A scheme that takes a fixed share of every layer.

    Attributes:
        fraction: ρ in (0, 1].

    Raises:
        RecipeError: ρ outside (0, 1].
    """

    fraction: float = 0.01

    def __post_init__(self) -> None:
        check_fraction("rule.transport.fraction", self.fraction)

    def words(self, size: int, event: int) -> int | None:
        return exact_words(self.fraction, size, event)

    def within(self, size: int, allowance: int) -> int | None:
        return min(allowance, size)


@dataclass(frozen=True, kw_only=True)
class Random(AbstractPartial):
    """ρN weights drawn anew at each event, without replacement; both sides draw from one seed, so no address is sent."""

    compute: ClassVar[str] = "O(ρN) and as many random numbers, on both sides"
    memory_words: ClassVar[int] = 0
    draws: ClassVar[bool] = True

    def addresses(self, words: int, size: int) -> int | None:
        return 0

    def state(self, name: str) -> State:
        return {}

    def select(self, wanted: list[tuple[Sender, int]], state: State, draw: Draw) -> list[Selection]:
        made = []
        for sender, words in wanted:
            index, drawn = draw_distinct(words, sender.size, draw(sender.name))
            made.append(Selection(index.to(sender.known.device), words, drawn=drawn))
        return made


def draw_distinct(words: int, size: int, source: torch.Generator) -> tuple[Tensor, int]:
    """`words` different numbers below `size`, all sets being equally likely, and how many numbers were drawn for it.

    Where few are wanted, numbers are drawn and repeats drawn again, so that the work grows with `words`, not with `size`.
    """
    if 2 * words > size:
        return torch.randperm(size, generator=source)[:words], size
    found, drawn = torch.empty(0, dtype=torch.int64), 0
    while len(found) < words:
        missing = words - len(found)
        found = torch.cat([found, torch.randint(size, (missing,), generator=source)]).unique()
        drawn += missing
    return found, drawn


@dataclass(frozen=True, kw_only=True)
class Cyclic(AbstractPartial):
    """The next ρN weights in storage order, round and round: every weight has the same greatest age."""

    compute: ClassVar[str] = "O(ρN)"
    memory_words: ClassVar[int] = 0

    def addresses(self, words: int, size: int) -> int | None:
        return 0

    def state(self, name: str) -> State:
        return {f"pointer/{name}": torch.zeros((), dtype=torch.int64)}

    def select(self, wanted: list[tuple[Sender, int]], state: State, draw: Draw) -> list[Selection]:
        made = []
        for sender, words in wanted:
            pointer = state[f"pointer/{sender.name}"]
            first = int(pointer)
            index = torch.arange(first, first + words, device=sender.known.device) % sender.size
            pointer.fill_((first + words) % sender.size)
            made.append(Selection(index, words))
        return made


@dataclass(frozen=True, kw_only=True)
class Threshold(AbstractTransport):
    """Every weight that has changed by more than θ since it was last sent.

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

    def addresses(self, words: int, size: int) -> int | None:
        return None

    def within(self, size: int, allowance: int) -> int | None:
        return None

    def select(self, wanted: list[tuple[Sender, int]], state: State, draw: Draw) -> list[Selection]:
        made = []
        for sender, _ in wanted:
            change, kept = sender.change(), state[f"level/{sender.name}"]
            level = self.level.value(float(kept), change)
            index = (change > level).nonzero().flatten()
            kept.fill_(self.level.after(level, len(index) / sender.size))
            made.append(Selection(index, len(index), address_bits(len(index), sender.size)))
        return made


@dataclass(frozen=True, kw_only=True)
class LargestChange(AbstractPartial):
    """The ρN weights that have changed most since they were last sent.

    Attributes:
        pool: within each layer, or across layers.
    """

    compute: ClassVar[str] = "O(N) selection"
    memory_words: ClassVar[int] = 1

    pool: AbstractPool = field(default_factory=WithinLayers)

    def addresses(self, words: int, size: int) -> int | None:
        return address_bits(words, size) if self.pool.by_layer else None

    def state(self, name: str) -> State:
        return {}

    def select(self, wanted: list[tuple[Sender, int]], state: State, draw: Draw) -> list[Selection]:
        return self.pool.largest([sender.change() for sender, _ in wanted], [words for _, words in wanted])
