"""What is seen while a table trains: a bar with the time left on a terminal, else a line per finished cell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from aplysia.grid.worker import Answer
from aplysia.report.cells import Cell
from aplysia.train.folder import METRICS
from aplysia.train.log import duration

_REFRESH = 1.0


class Board:
    """The cells of one call.

    Args:
        cells: those to train.
        console: where to.
    """

    def __init__(self, cells: Sequence[Cell], console: Console) -> None:
        self._console, self._total = console, len(cells)
        self._done, self._trained = 0, 0.0
        self._running: dict[Path, tuple[Cell, float]] = {}
        # Epochs that interrupted cells have behind them are not this call's work, so they must not count into its pace.
        self._behind = {cell.path: _share(cell) for cell in cells}
        self._left_at_start = self._total - sum(self._behind.values())
        self._began = self._shown = time.monotonic()
        columns = BarColumn(bar_width=24), TextColumn("{task.description}", markup=False)
        self._bar = Progress(*columns, console=console, auto_refresh=False, transient=True) if _live(console) else None

    def __enter__(self) -> Board:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self._total)
            self._bar.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def began(self, cell: Cell) -> None:
        """A process has taken the cell."""
        self._running[cell.path] = (cell, time.monotonic())

    def ended(self, cell: Cell, answer: Answer) -> None:
        """A cell is through, one way or another."""
        _, began = self._running.pop(cell.path, (cell, time.monotonic()))
        if answer.kind == "stopped":
            return
        self._done += 1
        self._trained += 1.0 - self._behind[cell.path]
        spent = duration(time.monotonic() - began)
        told = f"{100 * answer.accuracy:.2f} %" if answer.kind == "done" else f"failed: {_short(answer)}"
        left = self._left()
        rest = "" if left is None or self._done == self._total else f", about {duration(left)} left"
        line = f"{cell.label}: {told}  in {spent}  ({self._done} of {self._total}{rest})"
        if self._bar is None or answer.kind != "done":
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self.tick(now=True)

    def tick(self, *, now: bool = False) -> None:
        """Bring the bar up to date, at most once a second unless `now`."""
        if self._bar is None or not (now or time.monotonic() - self._shown > _REFRESH):
            return
        self._shown = time.monotonic()
        left = self._left()
        at = ", ".join(cell.label for cell, _ in list(self._running.values())[:2])
        more = f" and {len(self._running) - 2} more" if len(self._running) > 2 else ""
        time_left = "" if left is None else f"  time left {duration(left)}"
        text = f"{self._done}/{self._total} cells{time_left}  {at}{more}"
        self._bar.update(self._task, completed=self._work() + self._total - self._left_at_start, description=text)
        self._bar.refresh()

    def _work(self) -> float:
        """Cells' worth of training done in this call, epochs of running ones counted in."""
        running = sum(max(0.0, _share(cell) - self._behind[path]) for path, (cell, _) in self._running.items())
        return self._trained + running

    def _left(self) -> float | None:
        """Seconds to the end, at the pace so far."""
        work = self._work()
        if work < 0.02:
            return None
        return (time.monotonic() - self._began) / work * max(0.0, self._left_at_start - work)


def _share(cell: Cell) -> float:
    """How much of its epochs a cell has behind it, by its metrics."""
    try:
        lines = (cell.path / METRICS).read_bytes().count(b"\n")
    except OSError:
        return 0.0
    return min(0.99, lines / cell.row.recipe.epochs)


def _short(answer: Answer) -> str:
    return answer.text.strip().splitlines()[-1]


def _live(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal
