"""What a user sees of a run: a bar on a terminal, sparse whole lines in a log file, scalars in TensorBoard.

Everything is written from the caller's own thread, at the caller's own pace: an error (a full disk) comes up where it
can be told in a sentence, and a log of ten thousand batches does not have ten thousand lines.
"""

from __future__ import annotations

import itertools
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

# Seconds between two refreshes of the bar, and between two lines in the middle of a long epoch.
REFRESH, LINE = 0.2, 30.0


class Progress:
    """The progress of one run, epochs counted from 1.

    Args:
        epochs: how many the run has, counted from its very beginning.
        out: where it is shown; a bar only if that is a terminal.
        err: where warnings go if there is no bar.
        shown: False shows nothing at all (all processes of a distributed run but the first).
        clock: seconds, for tests.
    """

    def __init__(
        self,
        epochs: int,
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
        shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epochs, self._shown, self._clock = epochs, shown, clock
        self._out, self._err = out or sys.stdout, err or sys.stderr
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._began: float | None = None
        self._worked = 0  # batches since `_began`, over all epochs
        self._epoch = self._batches = self._done = 0

    def __enter__(self) -> Progress:
        if self._shown and _live(self._out):
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
            self._bar = Progress(*columns, console=Console(file=self._out), auto_refresh=False, transient=True)
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def start_epoch(self, epoch: int, batches: int, start: int = 0) -> None:
        """Begin epoch `epoch`, of `batches` batches, the first `start` of which were done before a resume."""
        now = self._clock()
        self._began = now if self._began is None else self._began
        self._epoch, self._batches, self._done = epoch, batches, start
        self._epoch_began = self._last_step = self._last_shown = now
        self._samples = 0
        self._loss, self._accuracy = _Mean(), _Mean()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(f"epoch {epoch}/{self._epochs}", total=batches, completed=start)
            self._bar.refresh()

    def step(self, samples: int, loss: float | None = None, accuracy: float | None = None) -> None:
        """One batch is done. `None` is a value not asked for: reading it from a GPU at each step would cost time."""
        self._done, self._worked, self._samples = self._done + 1, self._worked + 1, self._samples + samples
        self._loss.add(loss, samples)
        self._accuracy.add(accuracy, samples)
        now = self._last_step = self._clock()
        if now - self._last_shown < (LINE if self._bar is None else REFRESH):
            return
        self._last_shown = now
        parts = [*self._parts({}), f"time left {duration(self._left(now))}"]
        if self._bar is not None and self._task is not None:
            text = "  ".join([f"epoch {self._epoch}/{self._epochs}", *parts])
            self._bar.update(self._task, completed=self._done, description=text)
            self._bar.refresh()
        elif self._done < self._batches:
            self._say(self._out, "  ".join([self._head(), f"{100 * self._done // self._batches} %", *parts]))

    def end_epoch(self, metrics: Mapping[str, float | None]) -> None:
        """Write the line of a finished epoch; what `metrics` leaves out is taken from the steps.

        Shown are loss (or train_loss), train_accuracy, val_accuracy, test_accuracy, lr, samples_per_second, seconds.
        """
        seconds = metrics.get("seconds")
        seconds = self._clock() - self._epoch_began if seconds is None else seconds
        spent = f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s" if seconds < 600 else duration(seconds)
        self._say(self._out, "  ".join([self._head(), *self._parts(metrics), spent]))

    def note(self, text: str) -> None:
        """Announce something once, such as how the kernels run."""
        self._say(self._out, text)

    def warn(self, text: str) -> None:
        """Say that something is odd, though the run goes on."""
        self._say(self._err, f"warning: {text}", style="yellow")

    def _head(self) -> str:
        return f"epoch {self._epoch:>{len(str(self._epochs))}}/{self._epochs}"

    def _parts(self, metrics: Mapping[str, float | None]) -> list[str]:
        spent = self._last_step - self._epoch_began
        found = {
            "loss": self._loss.value,
            "train_accuracy": self._accuracy.value,
            "samples_per_second": self._samples / spent if spent > 0 else None,
        }
        found |= {("loss" if key == "train_loss" else key): x for key, x in metrics.items() if x is not None}
        shapes: dict[str, Callable[[float], str]] = {
            "loss": lambda x: f"loss {x:.3f}",
            "train_accuracy": lambda x: f"train {100 * x:.1f} %",
            "val_accuracy": lambda x: f"val {100 * x:.1f} %",
            "test_accuracy": lambda x: f"test {100 * x:.1f} %",
            "lr": lambda x: f"lr {x:.4g}",
            "samples_per_second": lambda x: f"{x:,.0f} samples/s",
        }
        return [shape(value) for key, shape in shapes.items() if (value := found.get(key)) is not None]

    def _left(self, now: float) -> float:
        """Seconds to the end of the run, at the pace so far, with what came between epochs counted in."""
        assert self._began is not None
        batches = (self._batches - self._done) + (self._epochs - self._epoch) * self._batches
        return (now - self._began) / self._worked * batches

    def _say(self, stream: TextIO, text: str, style: str | None = None) -> None:
        if self._bar is not None:
            self._bar.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
        elif self._shown:
            _print(stream, text)


class _Mean:
    """A running mean over samples."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, value: float | None, samples: int) -> None:
        if value is not None:
            self._sum, self._count = self._sum + value * samples, self._count + samples

    @property
    def value(self) -> float | None:
        return self._sum / self._count if self._count else None


class Events:
    """Scalars for TensorBoard, one events file per process and start of a run.

    Nothing is buffered and no thread is started; a record is in the file as a whole or not at all. TensorBoard itself
    joins the files of a folder, so a resumed run begins a new one.

    Args:
        folder: the run folder.
        since: on a resume, the step from which on TensorBoard is to forget what older files say.
        written: False writes nothing at all (all processes of a distributed run but the first).
    """

    _count = itertools.count()

    def __init__(self, folder: Path, *, since: int | None = None, written: bool = True) -> None:
        stamp = f"{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{next(self._count)}"
        self.path = Path(folder) / f"events.out.tfevents.{stamp}"
        self._closed, self._since, self._written = False, since, written

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write `{tag: value}` at a step."""
        if not self._written:
            return
        # Imported here: together 0.3 s, which a run without TensorBoard need not wait for.
        from io import BytesIO

        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.summary.writer.record_writer import RecordWriter

        from aplysia.train.folder import append_whole

        if self._closed:
            raise ValueError(f"{self.path.name} is closed")
        now, records = time.time(), BytesIO()
        writer = RecordWriter(records)
        if not self.path.exists():
            writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
            if self._since is not None:
                start = SessionLog(status=SessionLog.START)
                writer.write(Event(wall_time=now, step=self._since, session_log=start).SerializeToString())
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
        append_whole(self.path, records.getvalue(), sync=False)

    def close(self) -> None:
        self._closed = True


def table(rows: Iterable[Sequence[Any]], columns: Sequence[str], title: str = "", *, out: TextIO | None = None) -> None:
    """Print a table: framed on a terminal, aligned plain text elsewhere. None is shown as n/a, numbers stand right."""
    stream = out or sys.stdout
    cells = [["n/a" if cell is None else str(cell) for cell in row] for row in rows]
    right = [all(_numeric(row[i]) for row in cells) and bool(cells) for i in range(len(columns))]
    if _live(stream):
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        framed = Table(title=Text(title) if title else None)
        for name, to_right in zip(columns, right, strict=True):
            framed.add_column(Text(name), justify="right" if to_right else "left")
        for row in cells:
            framed.add_row(*map(Text, row))
        Console(file=stream).print(framed)
        return
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    lines = [
        "  ".join(
            f"{cell:>{w}}" if r else f"{cell:<{w}}" for cell, w, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(columns), ["-" * w for w in widths], *cells]
    ]
    _print(stream, "\n".join([title, *lines] if title else lines))


def duration(seconds: float) -> str:
    """`0:01:23`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _numeric(cell: str) -> bool:
    return cell == "n/a" or cell[:1].isdigit() or (cell[:1] in "+-." and cell[1:2].isdigit())


def _live(stream: TextIO) -> bool:
    """Whether the stream is a terminal on which text can be written over."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def _print(stream: TextIO, text: str) -> None:
    """A whole line, at once; a letter the stream cannot show becomes `?` instead of the end of the run."""
    code = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(code, "replace").decode(code) + "\n")
    stream.flush()
