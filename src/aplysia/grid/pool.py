"""Worker processes that outlive each other: a killed one costs its cell a checkpoint interval and is replaced.

The pools of the standard library give up as a whole when one process dies, and leave a Ctrl-C to chance; hence this one.
"""

from __future__ import annotations

import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path

from aplysia.grid.worker import Answer, Task, serve
from aplysia.report.cells import Cell
from aplysia.train.codec import encode
from aplysia.train.recipe import AXES

TRIES, LOOK = 2, 0.2  # times a cell is given out when its process dies; seconds between two looks


class _Worker:
    """One process and the cell it is at."""

    def __init__(self, device: str, data: Path | None) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, device, data))
        with deaf():  # a Ctrl-C while it imports torch would end it in a traceback; this it inherits
            self.process.start()
        theirs.close()
        self.cell: Cell | None = None

    def give(self, cell: Cell) -> None:
        self.cell = cell
        with suppress(OSError):  # it died meanwhile: `answer` tells
            self.connection.send(Task(encode(cell.row.cell(cell.seed), AXES), str(cell.path)))

    def answer(self) -> Answer | None:
        """What it says, None if it is dead."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            return None

    def end(self, *, now: bool) -> None:
        self.connection.close()
        if now:
            self.process.terminate()
        self.process.join(timeout=10.0)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def train_cells(
    cells: Sequence[Cell],
    *,
    jobs: int,
    device: str,
    data: Path | None,
    began: Callable[[Cell], None],
    ended: Callable[[Cell, Answer], None],
    tick: Callable[[], None],
) -> bool:
    """Train the cells in order, `jobs` at a time; whether all were gone through (False: a signal came).

    Args:
        cells: what to train.
        jobs: processes.
        device: on what, as torch writes it.
        data: root of the data sets.
        began: called for a cell given to a process.
        ended: called for each cell with what became of it.
        tick: called a few times a second.
    """
    waiting, tries = deque(cells), Counter[str]()
    workers: list[_Worker] = []
    asked = False
    with stopping() as stop:
        try:
            while waiting or any(worker.cell for worker in workers):
                if stop() and not asked:
                    asked = True
                    waiting.clear()
                    for worker in workers:
                        worker.process.terminate()
                while len(workers) < min(jobs, len(waiting) + sum(w.cell is not None for w in workers)):
                    workers.append(_Worker(device, data))
                for worker in workers:
                    if worker.cell is None and waiting:
                        worker.give(given := waiting.popleft())
                        began(given)
                ready = wait([w.connection for w in workers if w.cell], timeout=LOOK)
                for worker in [w for w in workers if w.connection in ready]:
                    cell, answer = worker.cell, worker.answer()
                    assert cell is not None
                    worker.cell = None
                    if answer is None:
                        workers.remove(worker)
                        tries[cell.label] += 1
                        if not asked and tries[cell.label] < TRIES:
                            waiting.appendleft(cell)
                            continue
                        answer = Answer("stopped") if asked else Answer("failed", text=_died(worker))
                    ended(cell, answer)
                tick()
        finally:
            for worker in workers:
                worker.end(now=worker.cell is not None)
    return not asked


def _died(worker: _Worker) -> str:
    code = worker.process.exitcode or 0
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"its process ended {how} {TRIES} times; look for memory that ran out, and start again with fewer --jobs."


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag, so that workers can save; a second one is final."""
    seen: list[int] = []
    before: dict[int, object] = {}

    def note(number: int, frame: object) -> None:
        seen.append(number)
        signal.signal(number, before[number])  # pyright: ignore[reportArgumentType]

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread: signals are someone else's business
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]


@contextmanager
def deaf() -> Iterator[None]:
    """Ctrl-C unheard for a moment."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
