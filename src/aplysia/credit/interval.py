"""When weights are copied: schedules of transport, all around one interval Φ.

Only the fixed interval is the paper's. Steps count from 1 here: with interval Φ the first copy follows step Φ.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.errors import PairError, RecipeError

State = dict[str, Tensor]


@dataclass(frozen=True)
class Moment:
    """What a schedule may look at, for one layer after one step.

    Attributes:
        name: of the layer.
        place: 0, 1, … among the layers that are fed back.
        layers: how many those are.
        size: weights of this layer.
        total: weights of all of them.
        step: number of the step just done, from 1.
        lr: the layer's learning rate in that step.
        first_lr: its learning rate before any schedule.
        weight, feedback: flat.
    """

    name: str
    place: int
    layers: int
    size: int
    total: int
    step: int
    lr: float
    first_lr: float
    weight: Tensor
    feedback: Tensor


@dataclass(frozen=True)
class Due:
    """A copy is due.

    Attributes:
        words: how many words, where the schedule says so; None: as the scheme has it.
    """

    words: int | None = None


class AbstractTiming(ABC):
    """Says which layers copy after a step.

    Attributes:
        memory_words: extra words per weight kept on the forward side.
    """

    memory_words: ClassVar[int] = 0

    def check(self, layers: int) -> None:
        """Raise `PairError` where it does not fit this number of layers."""

    def state(self, name: str) -> State:
        """What it remembers about a layer; keys end in the layer's name."""
        return {}

    @abstractmethod
    def due(self, interval: int, moment: Moment, state: State) -> Due | None:
        """Whether a layer copies now."""

    @abstractmethod
    def shortest(self, interval: int) -> int:
        """Fewest steps between two copies of a layer."""


@dataclass(frozen=True)
class Together(AbstractTiming):
    """All layers every Φ steps (the paper's)."""

    def due(self, interval: int, moment: Moment, state: State) -> Due | None:
        return Due() if moment.step % interval == 0 else None

    def shortest(self, interval: int) -> int:
        return interval


@dataclass(frozen=True)
class Staggered(AbstractTiming):
    """Every layer each Φ steps, one after the other: layer j of L is ⌊j·Φ/L⌋ steps late, which spreads the traffic."""

    def due(self, interval: int, moment: Moment, state: State) -> Due | None:
        late = moment.place * interval // moment.layers
        return Due() if moment.step > late and (moment.step - late) % interval == 0 else None

    def shortest(self, interval: int) -> int:
        return interval


@dataclass(frozen=True, kw_only=True)
class PerLayer(AbstractTiming):
    """An interval of its own for every layer that is fed back, from the second on; `rule.interval` is not used.

    Attributes:
        intervals: Φ of each.
    """

    intervals: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if any(n < 1 for n in self.intervals):
            raise RecipeError(
                "rule.schedule.intervals", expected="whole numbers ≥ 1", got=f"{self.intervals}", fix="use 1 or more"
            )

    def check(self, layers: int) -> None:
        if len(self.intervals) != layers:
            raise PairError(
                "rule.schedule.intervals",
                expected=f"{layers} intervals, one for each layer from the second on",
                got=f"{len(self.intervals)}",
                fix="give as many, separated by commas",
            )

    def due(self, interval: int, moment: Moment, state: State) -> Due | None:
        return Due() if moment.step % self.intervals[moment.place] == 0 else None

    def shortest(self, interval: int) -> int:
        return min(self.intervals)


@dataclass(frozen=True)
class InverseRate(AbstractTiming):
    """Φ ∝ 1/lr: a copy whenever the learning rates since the last one add up to Φ times the first learning rate.

    Under Adam a weight moves by about the learning rate a step, so this keeps the drift between copies about constant.
    """

    def state(self, name: str) -> State:
        return {f"phase/{name}": torch.zeros((), dtype=torch.float64)}

    def due(self, interval: int, moment: Moment, state: State) -> Due | None:
        phase = state[f"phase/{moment.name}"]
        phase.add_(moment.lr / moment.first_lr if moment.first_lr else 1.0)
        # Sums of a schedule's factors are not exact; half a billionth of a step must not put a copy off.
        if float(phase) < interval - 1e-9:
            return None
        phase.sub_(interval)
        return Due()

    def shortest(self, interval: int) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class Drift(AbstractTiming):
    """A layer copies when ‖W − B‖ > bound·‖W‖, looked at every Φ steps. The forward side keeps the change: a word a weight.

    Attributes:
        bound: relative drift that is put up with.
    """

    memory_words: ClassVar[int] = 1

    bound: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.bound < math.inf:
            raise RecipeError("rule.schedule.bound", expected="a number ≥ 0", got=repr(self.bound), fix="use 0.1")

    def due(self, interval: int, moment: Moment, state: State) -> Due | None:
        if moment.step % interval:
            return None
        drift = (moment.weight - moment.feedback).norm()
        return Due() if bool(drift > self.bound * moment.weight.norm()) else None

    def shortest(self, interval: int) -> int:
        return interval


@dataclass(frozen=True, kw_only=True)
class Budget(AbstractTiming):
    """A number of words per step for all layers together, in proportion to their sizes, spent every Φ steps by the scheme.

    After s steps a layer of n among N weights has been given ⌊⌊s/Φ⌋·Φ·words·n/N⌋ words, so nothing is lost by rounding. A
    scheme whose count is not its own to choose (whole, threshold) is refused.

    Attributes:
        words: per step.
    """

    words: int = 100

    def __post_init__(self) -> None:
        if self.words < 1:
            raise RecipeError("rule.schedule.words", expected="at least 1", got=repr(self.words), fix="use 100")

    def due(self, interval: int, moment: Moment, state: State) -> Due | None:
        if moment.step % interval:
            return None
        given = [self.words * steps * moment.size // moment.total for steps in (moment.step - interval, moment.step)]
        words = min(given[1] - given[0], moment.size)
        return Due(words) if words else None

    def shortest(self, interval: int) -> int:
        return interval
