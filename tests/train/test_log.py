"""The lines a user sees, exactly; a bar only on a terminal; events that TensorBoard itself can read."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from aplysia.errors import RunError
from aplysia.train.log import Events, Progress, duration, table


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")


def epoch(progress: Progress, clock: Clock, number: int, batches: int, seconds: float, start: int = 0) -> None:
    progress.start_epoch(number, batches, start)
    for _ in range(batches - start):
        clock.now += seconds / batches
        progress.step(1000, loss=0.412, accuracy=0.861)


def test_one_line_an_epoch() -> None:
    out, err, clock = io.StringIO(), io.StringIO(), Clock()
    with Progress(10, out=out, err=err, clock=clock) as progress:
        progress.note("kernels: compiled")
        epoch(progress, clock, 3, 10, 8.0)
        clock.now += 4.0  # validation
        progress.end_epoch({"epoch": 3, "val_accuracy": 0.84, "lr": 0.05})
        progress.warn("layer 2 is silent")
        epoch(progress, clock, 10, 10, 1.0)
        progress.end_epoch({"train_loss": 2.0, "train_accuracy": 1.0, "val_accuracy": None, "test_accuracy": 0.5})
    assert out.getvalue().splitlines() == [
        "kernels: compiled",
        "epoch  3/10  loss 0.412  train 86.1 %  val 84.0 %  lr 0.05  1,250 samples/s  12 s",
        "epoch 10/10  loss 2.000  train 100.0 %  test 50.0 %  10,000 samples/s  1.0 s",
    ]
    assert err.getvalue() == "warning: layer 2 is silent\n"


def test_a_long_epoch_speaks_every_half_minute() -> None:
    out, clock = io.StringIO(), Clock()
    with Progress(2, out=out, clock=clock) as progress:
        epoch(progress, clock, 1, 100, 100.0)
        progress.end_epoch({})
    assert out.getvalue().splitlines() == [
        "epoch 1/2  30 %  loss 0.412  train 86.1 %  1,000 samples/s  time left 0:02:50",
        "epoch 1/2  60 %  loss 0.412  train 86.1 %  1,000 samples/s  time left 0:02:20",
        "epoch 1/2  90 %  loss 0.412  train 86.1 %  1,000 samples/s  time left 0:01:50",
        "epoch 1/2  loss 0.412  train 86.1 %  1,000 samples/s  100 s",
    ]


def test_time_left_after_a_resume_counts_only_what_is_left() -> None:
    out, clock = io.StringIO(), Clock()
    with Progress(5, out=out, clock=clock) as progress:
        epoch(progress, clock, 4, 100, 100.0, start=50)
    # 30 batches took 30 s; 20 of this epoch and 100 of the last one are left.
    assert out.getvalue() == "epoch 4/5  80 %  loss 0.412  train 86.1 %  1,000 samples/s  time left 0:02:00\n"


def test_means_are_over_samples_and_none_is_no_value() -> None:
    out, clock = io.StringIO(), Clock()
    with Progress(1, out=out, clock=clock) as progress:
        progress.start_epoch(1, 3)
        progress.step(10, loss=1.0)
        progress.step(30, loss=2.0)
        progress.step(1000, loss=None)
        progress.end_epoch({})
        progress.start_epoch(1, 0)
        progress.end_epoch({"seconds": 4000})
    assert out.getvalue().splitlines() == ["epoch 1/1  loss 1.750  0.0 s", "epoch 1/1  1:06:40"]


def test_nothing_is_shown_by_the_other_processes() -> None:
    out, clock = Terminal(), Clock()
    with Progress(1, out=out, err=out, shown=False, clock=clock) as progress:
        progress.note("x")
        progress.warn("x")
        epoch(progress, clock, 1, 2, 100.0)
        progress.end_epoch({})
    assert out.getvalue() == ""


def test_a_terminal_gets_a_bar_five_times_a_second_and_no_thread() -> None:
    out, clock = Terminal(), Clock()
    refreshed, threads = 0, threading.active_count()
    with Progress(10, out=out, clock=clock) as progress:
        progress.start_epoch(3, 1000)
        for _ in range(1000):
            clock.now += 0.001
            length = len(out.getvalue())
            progress.step(10, loss=0.5, accuracy=0.861)
            refreshed += len(out.getvalue()) > length
        progress.warn("[odd] but goes on")
        progress.end_epoch({"val_accuracy": 0.84})
        assert threading.active_count() == threads
    assert 3 <= refreshed <= 5
    text = out.getvalue()
    assert "epoch 3/10  loss 0.500  train 86.1 %  10,000 samples/s  time left 0:00:0" in text
    assert "warning: [odd] but goes on" in text
    assert "epoch  3/10  loss 0.500  train 86.1 %  val 84.0 %  10,000 samples/s  1.0 s" in text
    assert text.endswith("\x1b[?25h") or "\x1b[?25h" in text[-40:]  # the cursor is shown again


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out, clock = Terminal(), Clock()
    with Progress(1, out=out, clock=clock) as progress:
        epoch(progress, clock, 1, 10, 1.0)
        progress.end_epoch({})
    assert out.getvalue() == "epoch 1/1  loss 0.412  train 86.1 %  10,000 samples/s  1.0 s\n"


def test_an_error_passes_and_the_bar_is_gone() -> None:
    out = Terminal()

    def broken() -> None:
        with Progress(1, out=out) as progress:
            progress.start_epoch(1, 10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert "\x1b[?25h" in out.getvalue()


def test_a_letter_the_log_cannot_hold_does_not_end_the_run() -> None:
    raw = io.BytesIO()
    with Progress(1, out=io.TextIOWrapper(raw, encoding="ascii")) as progress:
        progress.note("λ = 0.5")
        assert raw.getvalue() == b"? = 0.5\n"


def test_duration() -> None:
    assert [duration(s) for s in (0, 83.4, 3600, 90061)] == ["0:00:00", "0:01:23", "1:00:00", "25:01:01"]


# ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder)).Reload()


def test_tensorboard_reads_it(tmp_path: Path) -> None:
    threads = threading.active_count()
    events = Events(tmp_path)
    assert not list(tmp_path.iterdir())  # no file before there is something to say
    for step in range(1, 4):
        events.scalars(step, {"train/loss": 1 / step, "val/accuracy": 0.5})
        assert len(read(tmp_path).Scalars("train/loss")) == step  # on the disk at once
    events.close()
    assert threading.active_count() == threads
    found = read(tmp_path)
    assert sorted(found.Tags()["scalars"]) == ["train/loss", "val/accuracy"]
    assert [(e.step, round(e.value, 6)) for e in found.Scalars("train/loss")] == [(1, 1.0), (2, 0.5), (3, 0.333333)]
    with pytest.raises(ValueError, match="is closed"):
        events.scalars(4, {"x": 1.0})


def test_a_resumed_run_takes_over_from_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aplysia.train.log.time.time", lambda: 1000.0)
    first = Events(tmp_path)
    for step in range(1, 6):
        first.scalars(step, {"loss": 1.0})
    monkeypatch.setattr("aplysia.train.log.time.time", lambda: 2000.0)
    second = Events(tmp_path, since=4)
    for step in range(4, 7):
        second.scalars(step, {"loss": 2.0})
    assert len(list(tmp_path.iterdir())) == 2
    found = [(e.step, e.value) for e in read(tmp_path).Scalars("loss")]
    assert found == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]


def test_a_full_disk_is_a_sentence_and_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events(tmp_path)
    events.scalars(1, {"loss": 1.0})
    before = events.path.read_bytes()
    write, calls = os.write, []

    def short(file: int, data: memoryview) -> int:
        if calls:
            raise OSError(errno.ENOSPC, "full")
        calls.append(write(file, data[:5]))
        return calls[0]

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(RunError, match=r"tfevents.*no space left on device"):
        events.scalars(2, {"loss": 1.0})
    assert calls == [5]
    assert events.path.read_bytes() == before


def test_two_in_one_second_are_two_files(tmp_path: Path) -> None:
    assert Events(tmp_path).path != Events(tmp_path).path


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────

ROWS = [("symmetric", 98.1, None), ("direct_feedback", 7, "[x]")]


def test_a_plain_table() -> None:
    out = io.StringIO()
    table(ROWS, ["rule", "test %", "note"], "rules", out=out)
    assert out.getvalue().splitlines() == [
        "rules",
        "rule             test %  note",
        "---------------  ------  ----",
        "symmetric          98.1  n/a",
        "direct_feedback       7  [x]",
    ]


def test_a_framed_table() -> None:
    out = Terminal()
    table(ROWS, ["rule", "test %", "note"], "rules", out=out)
    assert "─" in out.getvalue()
    assert "direct_feedback" in out.getvalue()
    assert "[x]" in out.getvalue()


def test_an_empty_table() -> None:
    out = io.StringIO()
    table([], ["a", "b"], out=out)
    assert out.getvalue() == "a  b\n-  -\n"
