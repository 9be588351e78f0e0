"""From events to frames: which time window each event falls in, and how many fall on each pixel.

    frames[w, p, y, x] = #{events i : window(i) = w, pᵢ = p, yᵢ = y, xᵢ = x}

Every event is counted exactly once: Σ frames = number of events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np

from aplysia.errors import DataError


class Events(NamedTuple):
    """A recording: E address events, all arrays int64 `[E]`.

    Attributes:
        x, y: pixel, from the left and from the top.
        p: polarity, 0 or 1.
        t: microseconds.
    """

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    t: np.ndarray


class AbstractBinning(ABC):
    """How a recording is cut into T windows; subclasses are frozen dataclasses, whose repr names a cache."""

    @abstractmethod
    def windows(self, times: np.ndarray, steps: int) -> np.ndarray:
        """The window, 0 … T − 1, of each of at least one event.

        Args:
            times: int64 `[E]`, microseconds, in any order.
            steps: T.
        """

    def frames(self, events: Events, *, steps: int, shape: tuple[int, int, int], where: str) -> np.ndarray:
        """Counts int64 `[T, P, H, W]`; zeros for a recording without events.

        Args:
            shape: (P, H, W): polarities and size of the sensor.
            where: the recording, for messages.

        Raises:
            DataError: an event outside the sensor.
        """
        counts = steps * int(np.prod(shape))
        if len(events.t) == 0:
            return np.zeros((steps, *shape), np.int64)
        for axis, values, limit in zip(("p", "y", "x"), (events.p, events.y, events.x), shape, strict=True):
            low, high = int(values.min()), int(values.max())
            if low < 0 or high >= limit:
                got = f"{low if low < 0 else high}"
                raise DataError(
                    where,
                    expected=f"{axis} from 0 to {limit - 1}",
                    got=got,
                    fix="the file is damaged or of another sensor",
                )
        polarities, height, width = shape
        window = self.windows(events.t, steps)
        place = ((window * polarities + events.p) * height + events.y) * width + events.x
        return np.bincount(place, minlength=counts).reshape(steps, *shape)


@final
@dataclass(frozen=True)
class ByTime(AbstractBinning):
    """T windows of equal length over the recording: window = ⌊(t − t₀)·T / (t₁ − t₀ + 1)⌋, in whole numbers."""

    def windows(self, times: np.ndarray, steps: int) -> np.ndarray:
        first = times.min()
        return (times - first) * steps // (times.max() - first + 1)


BY_TIME = ByTime()
"""The default of every event data set."""


@final
@dataclass(frozen=True)
class ByCount(AbstractBinning):
    """T windows of equal event count (± 1), in order of time: window = ⌊rank·T / E⌋.

    Events of one time keep the order of the file.
    """

    def windows(self, times: np.ndarray, steps: int) -> np.ndarray:
        rank = np.empty(len(times), np.int64)
        rank[np.argsort(times, kind="stable")] = np.arange(len(times))
        return rank * steps // len(times)
