"""Backpropagation through time: errors run back through the neurons' states, over the whole sequence or k steps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal, Apply, Record
from aplysia.credit.temporal._windows import learn_in_windows
from aplysia.errors import PairError, RecipeError
from aplysia.ledger.sheet import Habits
from aplysia.nets.net import Input, Net, steps_of
from aplysia.nets.route import Route
from aplysia.types import Paper


@dataclass(frozen=True, kw_only=True)
class ThroughTime(AbstractTemporal):
    """Backpropagation through time.

    Memory grows with T (with the truncation length where there is one). With a rule that cuts layers apart, time still
    runs back inside each layer.

    Attributes:
        truncation: k, the states are detached every k steps; None: never.
        chunk: K, steps run at once; None: all of the window. No number depends on it.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Werbos; with surrogate gradients Neftci, Mostafa, Zenke (2019)",
        title="Backpropagation through time: what it does and how to do it",
        year=1990,
        venue="Proceedings of the IEEE 78",
        url="https://doi.org/10.1109/5.58337",
    )
    summary: ClassVar[str] = "backpropagation through time (BPTT), optionally truncated"

    truncation: int | None = None
    chunk: int | None = None

    def __post_init__(self) -> None:
        for name in ("truncation", "chunk"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RecipeError(
                    f"temporal.{name}", expected="at least 1, or none", got=repr(value), fix="use none for all of T"
                )

    @property
    def updates_inside(self) -> bool:
        return False

    def habits(self, steps: int, width: int = 1) -> Habits:
        window = min(steps, self.truncation or steps)
        pieces, chunk = -(-steps // window), min(window, self.chunk or window)
        last = steps - (pieces - 1) * window
        windows = (pieces - 1) * -(-window // chunk) + -(-last // chunk)
        return Habits(windows=windows, traced=False, kept=window, chunk=chunk)

    def check(self, net: Net, loss: AbstractLoss, spatial: AbstractSpatial) -> None:
        if self.truncation is not None and not loss.per_step:
            raise PairError(
                "temporal ThroughTime",
                expected="a loss that is a sum over steps when truncated",
                got=f"{type(loss).__name__}, known only at the end of the sequence",
                fix="set loss=stepwise, or temporal.truncation=none",
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
        route = Route(feedback=spatial.slot, cut=spatial.cuts, through_time=True, generator=generator)
        window = self.truncation or steps_of(x)
        return learn_in_windows(net, x, target, loss, spatial, route, window=window, chunk=self.chunk or window)
