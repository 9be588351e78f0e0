"""When weights are copied: timings of transport, all around one interval Φ.

Only the fixed interval is confirmed of the paper; the others are ours. Steps are counted as they are done, from 1: with
interval Φ the first copy follows step Φ.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import torch

from aplysia.credit.transport import AbstractTransport, Sender, State
from aplysia.errors import PairError, RecipeError

# A layer that copies now, and how many words it may send; None: as many as the scheme's own share.
Due = tuple[Sender, int | None]


class AbstractTiming(ABC):
    """Says which layers copy after a step. A frozen dataclass; what it remembers lives in the rule's tensors.

    Attributes:
        memory_words: extra words per weight on the forward side.
    """

    memory_words: ClassVar[int]

    @abstractmethod
    def check_layers(self, layers: int) -> None:
        """Raise `PairError` where it does not fit this number of layers."""

    @abstractmethod
    def state(self, name: str) -> State:
        """What it remembers about a layer, on the CPU; keys end in `/` and the layer's name."""

    @abstractmethod
    def due(
        self, interval: int, done: int, senders: list[Sender], transport: AbstractTransport, state: State
    ) -> list[Due]:
        """The layers that copy once `done` steps are done.

        Args:
            interval: Φ.
            done: 1, 2, …
            senders: layers 2 … L, in order.
            transport: the scheme, which knows what it can do with a number of words.
            state: its own tensors, changed in place.
        """

    @abstractmethod
    def shortest(self, interval: int) -> int:
        """Fewest steps between two copies of a layer."""

    @abstractmethod
    def copies(self, interval: int, steps: int, place: int, layers: int) -> int | None:
        """How often layer `place` = 0, 1, … of so many copies over the first `steps` steps; None: not known before."""


@dataclass(frozen=True)
class Together(AbstractTiming):
    """All layers every Φ steps (the paper's)."""

    memory_words: ClassVar[int] = 0

    def check_layers(self, layers: int) -> None:
        pass

    def state(self, name: str) -> State:
        return {}

    def due(
        self, interval: int, done: int, senders: list[Sender], transport: AbstractTransport, state: State
    ) -> list[Due]:
        return [(sender, None) for sender in senders] if done % interval == 0 else []

    def shortest(self, interval: int) -> int:
        return interval

    def copies(self, interval: int, steps: int, place: int, layers: int) -> int | None:
        return steps // interval


@dataclass(frozen=True)
class Staggered(AbstractTiming):
    """Every layer each Φ steps, one after the other: of n layers, layer j = 0, 1, … is ⌊j·Φ/n⌋ steps late.

    This spreads the traffic: for Φ ≥ n no two layers copy after one step.
    """

    memory_words: ClassVar[int] = 0

    def check_layers(self, layers: int) -> None:
        pass

    def state(self, name: str) -> State:
        return {}

    def due(
        self, interval: int, done: int, senders: list[Sender], transport: AbstractTransport, state: State
    ) -> list[Due]:
        made: list[Due] = []
        for place, sender in enumerate(senders):
            own = done - place * interval // len(senders)
            if own > 0 and own % interval == 0:
                made.append((sender, None))
        return made

    def shortest(self, interval: int) -> int:
        return interval

    def copies(self, interval: int, steps: int, place: int, layers: int) -> int | None:
        return max(0, steps - place * interval // layers) // interval


@dataclass(frozen=True, kw_only=True)
class PerLayer(AbstractTiming):
    """An interval of its own for every layer from the second on.

    Attributes:
        intervals: Φ of each; none: the rule's interval for all.

    Raises:
        RecipeError: an interval below 1.
    """

    memory_words: ClassVar[int] = 0

    intervals: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(interval < 1 for interval in self.intervals):
            raise RecipeError(
                "rule.schedule.intervals",
                expected="whole numbers of steps ≥ 1",
                got=f"{self.intervals}",
                fix="use 1 for a copy after every step",
            )

    def check_layers(self, layers: int) -> None:
        if self.intervals and len(self.intervals) != layers:
            raise PairError(
                "rule.schedule.intervals",
                expected=f"{layers} intervals, one for each layer from the second on",
                got=f"{len(self.intervals)}",
                fix="give as many, separated by commas",
            )

    def state(self, name: str) -> State:
        return {}

    def due(
        self, interval: int, done: int, senders: list[Sender], transport: AbstractTransport, state: State
    ) -> list[Due]:
        intervals = self.intervals or (interval,) * len(senders)
        return [(sender, None) for sender, own in zip(senders, intervals, strict=True) if done % own == 0]

    def shortest(self, interval: int) -> int:
        return min(self.intervals, default=interval)

    def copies(self, interval: int, steps: int, place: int, layers: int) -> int | None:
        return steps // (self.intervals[place] if self.intervals else interval)


@dataclass(frozen=True)
class InverseRate(AbstractTiming):
    """Φ ∝ 1/lr: each step adds lr/lr₀ to a layer's phase, and at Φ the layer copies.

    Under Adam a weight moves by about the learning rate a step, so this keeps the drift between two copies about constant. lr₀
    is the rate before any schedule (the optimiser's `initial_lr`, or the first rate that was seen).
    """

    memory_words: ClassVar[int] = 0

    def check_layers(self, layers: int) -> None:
        pass

    def state(self, name: str) -> State:
        return {
            f"phase/{name}": torch.zeros((), dtype=torch.float64),
            f"first_lr/{name}": torch.zeros((), dtype=torch.float64),
        }

    def due(
        self, interval: int, done: int, senders: list[Sender], transport: AbstractTransport, state: State
    ) -> list[Due]:
        made: list[Due] = []
        for sender in senders:
            phase, first = state[f"phase/{sender.name}"], state[f"first_lr/{sender.name}"]
            if float(first) == 0.0:
                first.fill_(sender.first_lr)
            if sender.lr == 0.0:
                continue
            phase.add_(sender.lr / float(first))
            # A sum of rates is not exact; a billionth of a step must not put a copy off.
            if (copies := math.floor((float(phase) + 1e-9 * interval) / interval)) > 0:
                phase.sub_(copies * interval)
                made.append((sender, None))
        return made

    def shortest(self, interval: int) -> int:
        return 1

    def copies(self, interval: int, steps: int, place: int, layers: int) -> int | None:
        return None


@dataclass(frozen=True, kw_only=True)
class Drift(AbstractTiming):
    """A layer copies when ‖W − B‖ > bound·‖W‖, looked at every Φ steps. The forward side keeps the change: 1 word/weight.

    Attributes:
        bound: relative drift that is put up with, ≥ 0.

    Raises:
        RecipeError: a bound below 0, or not finite.
    """

    memory_words: ClassVar[int] = 1

    bound: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.bound < math.inf:
            raise RecipeError("rule.schedule.bound", expected="a number ≥ 0", got=repr(self.bound), fix="use 0.1")

    def check_layers(self, layers: int) -> None:
        pass

    def state(self, name: str) -> State:
        return {}

    def due(
        self, interval: int, done: int, senders: list[Sender], transport: AbstractTransport, state: State
    ) -> list[Due]:
        if done % interval or not senders:
            return []
        # One look at the device for all layers.
        far = torch.stack([sender.change().norm() > self.bound * sender.weight.norm() for sender in senders]).tolist()
        return [(sender, None) for sender, copies in zip(senders, far, strict=True) if copies]

    def shortest(self, interval: int) -> int:
        return interval

    def copies(self, interval: int, steps: int, place: int, layers: int) -> int | None:
        return None


@dataclass(frozen=True, kw_only=True)
class Budget(AbstractTiming):
    """A number of words per step for all layers together, shared in proportion to their sizes, spent every Φ steps.

    After s steps, s a multiple of Φ, a layer of n among N weights has been given ⌊s·words·n/N⌋ words. What it does not spend it
    keeps, up to n words: a scheme that copies layers whole saves up for one.

    Attributes:
        words: per step, > 0; need not be whole.

    Raises:
        RecipeError: words not above 0.
    """

    memory_words: ClassVar[int] = 0

    words: float = 100.0

    def __post_init__(self) -> None:
        if not 0.0 < self.words < math.inf:
            raise RecipeError("rule.schedule.words", expected="a number > 0", got=repr(self.words), fix="use 100")

    def check_layers(self, layers: int) -> None:
        pass

    def state(self, name: str) -> State:
        return {f"saved/{name}": torch.zeros((), dtype=torch.int64)}

    def due(
        self, interval: int, done: int, senders: list[Sender], transport: AbstractTransport, state: State
    ) -> list[Due]:
        if done % interval:
            return []
        made: list[Due] = []
        total = sum(sender.size for sender in senders)
        for sender in senders:
            share = Fraction(repr(self.words)) * sender.size / total
            saved = state[f"saved/{sender.name}"]
            saved.add_(math.floor(share * done) - math.floor(share * (done - interval))).clamp_(max=sender.size)
            if words := transport.within(sender.size, int(saved)):
                saved.sub_(words)
                made.append((sender, words))
        return made

    def shortest(self, interval: int) -> int:
        return interval

    def copies(self, interval: int, steps: int, place: int, layers: int) -> int | None:
        return None
