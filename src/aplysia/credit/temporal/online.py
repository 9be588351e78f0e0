"""What the online schemes share: one backward pass a chunk, nothing running back in time, memory flat in T."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal, Apply, Record
from aplysia.credit.temporal._windows import learn_in_windows
from aplysia.errors import PairError, RecipeError
from aplysia.ledger.sheet import Habits
from aplysia.nets.net import Input, Net, widest
from aplysia.nets.route import AbstractEligibility, Route

# Steps run at once when nothing is said: enough for large products, few enough to keep memory flat in T. Of wide layers fewer,
# so that none sends more than so many numbers at once: no product gains from more, and less is kept. Pairs of steps stay
# together, since they may share their noise.
_CHUNK, _NUMBERS, _LEAST = 32, 1 << 23, 2


class AbstractUpdate(ABC):
    """When weights change."""

    inside: ClassVar[bool]

    @abstractmethod
    def window(self, chunk: int) -> int:
        """Steps between two backward passes."""


@dataclass(frozen=True)
class AfterSequence(AbstractUpdate):
    """Gradients add up over T steps, then the optimiser steps once (OTTT_A)."""

    inside: ClassVar[bool] = False

    def window(self, chunk: int) -> int:
        return chunk


@dataclass(frozen=True)
class EveryStep(AbstractUpdate):
    """The optimiser steps at every time step (OTTT_O)."""

    inside: ClassVar[bool] = True

    def window(self, chunk: int) -> int:
        return 1


@dataclass(frozen=True, kw_only=True)
class AbstractOnline(AbstractTemporal):
    """A scheme whose errors never pass from step to step through a state.

    Attributes:
        update: when weights change.
        chunk: K, steps run at once; None: 32, or as few as 2 where layers are wide. No number depends on it, memory does.
    """

    update: AbstractUpdate = field(default_factory=AfterSequence)
    chunk: int | None = None

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise RecipeError("temporal.chunk", expected="at least 1, or none", got=repr(self.chunk), fix="use none")

    @property
    @abstractmethod
    def eligibility(self) -> AbstractEligibility:
        """What the error of a step is paired with."""

    @property
    def updates_inside(self) -> bool:
        return self.update.inside

    def _window(self, width: int) -> int:
        """Steps between two backward passes, for so many numbers a step."""
        return self.update.window(self.chunk or max(_LEAST, min(_CHUNK, _NUMBERS // width)))

    def habits(self, steps: int, width: int = 1) -> Habits:
        window = min(steps, self._window(width))
        windows = -(-steps // window)
        applies = windows if self.update.inside else 1
        return Habits(windows=windows, traced=self.eligibility.remembers, applies=applies, kept=window)

    def check(self, net: Net, loss: AbstractLoss, spatial: AbstractSpatial) -> None:
        if not loss.per_step:
            raise PairError(
                f"temporal {type(self).__name__}",
                expected="a loss that is a sum over steps, since an online scheme needs each step's error at that step",
                got=f"{type(loss).__name__}, known only at the end of the sequence",
                fix="set loss=stepwise, or temporal=through_time",
            )

    def learn(
        self,
        net: Net,
        x: Input,
        target: Tensor,
        loss: AbstractLoss,
        spatial: AbstractSpatial,
        *,
        generator: torch.Generator | None = None,
        apply: Apply | None = None,
    ) -> Record:
        if self.update.inside and apply is None:
            raise PairError(
                "temporal update",
                expected="a way to apply gradients inside the sequence",
                got="none",
                fix="pass apply=, which steps the optimiser and clears the gradients, or use update=after_sequence",
            )
        route = Route(
            feedback=spatial.slot,
            cut=spatial.cuts,
            eligibility=self.eligibility,
            through_time=False,
            generator=generator,
        )
        window = self._window(widest(net, len(target)))
        inside = apply if self.update.inside else None
        return learn_in_windows(net, x, target, loss, spatial, route, window=window, chunk=window, apply=inside)
