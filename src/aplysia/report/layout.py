"""Where the points of a table's picture stand; what the page and the printed figure share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aplysia.report.measure import Measured, Report

X_TITLE = "weight words moved, as a share of backpropagation's"
STEPS_TITLE = "steps of a sequence, or length of the streams"
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
        title: of the axis.
        points: rows that have an accuracy and a net in which something could move.
        nothing: x of the rows that move nothing; None if there are none.
        ticks: x and text of the ticks.
        low, high: ends of the axis.
        levels: y and name of rows that are drawn as a level across.
        joined: whether the points of a group are joined by a line, in place of a name at each.
        dashed: lines beside those: group, xs and ys.
    """

    title: str
    points: tuple[Point, ...]
    nothing: float | None
    ticks: tuple[tuple[float, str], ...]
    low: float
    high: float
    levels: tuple[tuple[float, str], ...] = ()
    joined: bool = False
    dashed: tuple[tuple[str, list[float], list[float]], ...] = ()

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
    return _over_steps(report) if report.table.axis == "steps" else _over_words(report)


def _over_words(report: Report) -> Layout:
    drawn = [row for row in report.rows if row.accuracy is not None and row.words is not None]
    moved = [row.words for row in drawn if row.words]
    # Whole decades around everything that moves, backpropagation's 1 among it; one more on the left for the zeros.
    first = min(-1, *(math.floor(math.log10(x)) for x in (1.0, *moved)))
    last = max(0, *(math.ceil(math.log10(x)) for x in (1.0, *moved)))
    nothing = 10.0 ** (first - 1) if any(row.words == 0 for row in drawn) else None
    ticks = [(10.0**k, "1" if k == 0 else f"1/{10**-k:,}" if k < 0 else f"{10**k:,}") for k in range(first, last + 1)]
    if nothing is not None:
        ticks.insert(0, (nothing, NOTHING))
    points = _points([(row, row.words or nothing or 1.0) for row in drawn])
    low, high = ticks[0][0] / 10**0.35, 10.0**last * 10**0.35
    return Layout(X_TITLE, points, nothing, tuple(ticks), low, high)


def _over_steps(report: Report) -> Layout:
    there = [row for row in report.rows if row.accuracy is not None]
    levels = tuple((row.accuracy.mean, row.row.name) for row in there if row.row.level and row.accuracy is not None)
    drawn = [(row, float(row.row.recipe.steps)) for row in there if not row.row.level]
    points, ticks = _points(drawn), sorted({x for _, x in drawn})
    dashed = []
    for column in report.table.extra:
        for group in dict.fromkeys(row.row.group or "rows" for row, _ in drawn) if column.drawn else ():
            found = [(x, row.extra.get(column.key)) for row, x in drawn if (row.row.group or "rows") == group]
            kept = [(x, e.mean) for x, e in found if e is not None]
            if kept:
                dashed.append((f"{group}: {column.title}", [x for x, _ in kept], [y for _, y in kept]))
    low, high = (ticks[0] / 1.3, ticks[-1] * 1.3) if ticks else (0.5, 2.0)
    return Layout(
        STEPS_TITLE, points, None, tuple((x, f"{x:g}") for x in ticks), low, high, levels, True, tuple(dashed)
    )


def _points(drawn: list[tuple[Measured, float]]) -> tuple[Point, ...]:
    styles: dict[str, int] = {}
    points = []
    for row, x in drawn:
        assert row.accuracy is not None
        group = row.row.group or "rows"
        half = None if row.accuracy.high is None else row.accuracy.high - row.accuracy.mean
        points.append(Point(row, x, row.accuracy.mean, half, group, styles.setdefault(group, len(styles))))
    return tuple(points)
