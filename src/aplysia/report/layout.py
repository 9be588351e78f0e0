"""Where the points of a table's picture stand; what the page and the printed figure share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aplysia.report.measure import Measured, Report

X_TITLE = "weight words moved, as a share of backpropagation's"
Y_TITLE = "test accuracy, %"
NOTHING = "0"
# Okabe and Ito's colours, told apart by colour-blind readers; black, and the yellow that white swallows, are left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5B4A3F")
# The same shapes by both libraries' names.
MARKERS = (
    *(("circle", "o"), ("square", "s"), ("diamond", "D"), ("triangle-up", "^"), ("cross", "P"), ("x", "X")),
    *(("triangle-down", "v"), ("star", "*")),
)


@dataclass(frozen=True)
class Point:
    """One row in the picture.

    Attributes:
        measured: the row.
        x: the share of words it moves, or the place of those that move nothing.
        y: mean accuracy.
        half: half the 95 % interval; None for a single seed.
        group: of the row, never empty.
        style: number of its colour and marker.
    """

    measured: Measured
    x: float
    y: float
    half: float | None
    group: str
    style: int


@dataclass(frozen=True)
class Layout:
    """Points and the axis below them.

    Attributes:
        points: rows that have an accuracy and a net in which something could move.
        nothing: x of the rows that move nothing; None if there are none.
        ticks: x and text of the ticks.
        low, high: ends of the axis.
    """

    points: tuple[Point, ...]
    nothing: float | None
    ticks: tuple[tuple[float, str], ...]
    low: float
    high: float

    @property
    def groups(self) -> list[tuple[str, list[Point]]]:
        """Points by group, in the order of the rows."""
        names = dict.fromkeys(point.group for point in self.points)
        return [(name, [point for point in self.points if point.group == name]) for name in names]

    @property
    def wall(self) -> float | None:
        """x of the line between those that move nothing and the others."""
        return None if self.nothing is None else self.nothing * 10**0.5


def layout(report: Report) -> Layout:
    """The picture of a report."""
    drawn = [row for row in report.rows if row.accuracy is not None and row.words is not None]
    moved = [row.words for row in drawn if row.words]
    # Whole decades around everything that moves, backpropagation's 1 among it; one more on the left for the zeros.
    first = min(-1, *(math.floor(math.log10(x)) for x in (1.0, *moved)))
    last = max(0, *(math.ceil(math.log10(x)) for x in (1.0, *moved)))
    nothing = 10.0 ** (first - 1) if any(row.words == 0 for row in drawn) else None
    ticks = [(10.0**k, "1" if k == 0 else f"1/{10**-k:,}" if k < 0 else f"{10**k:,}") for k in range(first, last + 1)]
    if nothing is not None:
        ticks.insert(0, (nothing, NOTHING))
    styles: dict[str, int] = {}
    points = []
    for row in drawn:
        assert row.accuracy is not None
        group = row.row.group or "rows"
        half = None if row.accuracy.high is None else row.accuracy.high - row.accuracy.mean
        x = row.words or nothing or 1.0
        points.append(Point(row, x, row.accuracy.mean, half, group, styles.setdefault(group, len(styles))))
    low, high = ticks[0][0] / 10**0.35, 10.0**last * 10**0.35
    return Layout(tuple(points), nothing, tuple(ticks), low, high)
