"""`aplysia table`: train what is missing, then show and write what is there."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from aplysia.errors import RecipeError, RunError
from aplysia.grid.board import Board
from aplysia.grid.choose import parse_seeds, pick
from aplysia.grid.pool import train_cells
from aplysia.grid.worker import Answer
from aplysia.report.alignment import write_alignment
from aplysia.report.cells import Cell, Found, cell, read
from aplysia.report.dynamics import write_dynamics
from aplysia.report.files import export, write_report
from aplysia.report.measure import Report, measure
from aplysia.report.render import columns, footnotes, lines
from aplysia.tables import find
from aplysia.tables.base import Row, Table
from aplysia.train.folder import RunFolder
from aplysia.train.log import table as print_table

FAILED, INTERRUPTED = 1, 130
DEFAULT_SEEDS = "0,1,2"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asked for.

    Attributes:
        name: of the table.
        settings: `--set`, for every row.
        seeds: as written; None: 0,1,2, or with `show` every seed that is there.
        rows: patterns; none: all rows.
        data: root of the data sets.
        out: where the cells are.
        jobs: processes; None: one a core, or a single one on a GPU.
        device: as torch writes it.
        export: where to copy the small files, if anywhere.
        on: where runs are trained: None, processes on this machine; `ray` or `ray:ADDRESS`, a cluster.
        cpus, gpus: of a run on a cluster; None: one core, and one GPU where the device is one.
    """

    name: str
    settings: tuple[str, ...] = ()
    seeds: str | None = None
    rows: tuple[str, ...] = ()
    data: Path | None = None
    out: Path | None = None
    jobs: int | None = None
    device: str = "cpu"
    export: Path | None = None
    on: str | None = None
    cpus: int | None = None
    gpus: float | None = None

    def table(self) -> Table:
        """The table with the settings applied."""
        return find(self.name).changed(list(self.settings))

    def folder(self, table: Table) -> Path:
        """Where the cells are."""
        return (self.out or Path("runs") / "tables" / table.name).expanduser()


def show(request: Request) -> int:
    """Print what is there, train nothing; the exit code."""
    table = request.table()
    out, rows = request.folder(table), pick(table, request.rows)
    seeds = None if request.seeds is None else parse_seeds(request.seeds)
    if not out.is_dir():
        raise RunError(
            str(out), expected="a folder with cells of this table", got="none", fix="check --out, or leave out --show"
        )
    found = read(table, out)
    report = measure(table, found, rows=rows, seeds=seeds, wanted=seeds or ())
    return _finish(request, report, found, out, seeds)


def make(request: Request) -> int:
    """Train what is missing, write and print the table; the exit code."""
    table = request.table()
    out, rows = request.folder(table), pick(table, request.rows)
    seeds = parse_seeds(DEFAULT_SEEDS if request.seeds is None else request.seeds)
    if request.jobs is not None and request.jobs < 1:
        raise RecipeError("--jobs", expected="at least 1", got=str(request.jobs), fix="leave it out")
    RunFolder.create(out, resume=True)  # whether it can be written is said before any training
    with _alone(out):
        found = read(table, out)
        known = found.summaries.keys() | found.damaged.keys()
        # Seed by seed: a table that was stopped half-way has the same seeds in every row.
        cells = [cell(out, row, seed) for seed in seeds for row in rows if (row.name, seed) not in known]
        print(f"{table.name}: {_count(len(rows), 'row')} × {_count(len(seeds), 'seed')}, {len(cells)} to train → {out}")
        failed, through = _train(cells, request)
        found = read(table, out)
        shown = _shown(table, rows, found, failed)
        report = measure(table, found, rows=shown, wanted=seeds, failed=failed)
        written = write_report(report, out) + write_alignment(table, out, out) + write_dynamics(table, out, out)
    code = _finish(request, report, found, out, None)
    print(f"\nwritten: {', '.join(str(out / name) for name in written)}; as one page:  aplysia report {out}")
    if not through:
        print(f"\nstopped and saved; go on with:  {_again(request)}", file=sys.stderr)
        return INTERRUPTED
    return code


def _train(cells: list[Cell], request: Request) -> tuple[dict[tuple[str, int], str], bool]:
    """Train; what failed and why, and whether no signal came."""
    failed: dict[tuple[str, int], str] = {}
    if not cells:
        return failed, True
    console = Console()

    def ended(one: Cell, answer: Answer) -> None:
        if answer.kind == "bug":  # ours, not the user's: it keeps its traceback
            print(f"{one.label}:\n{answer.text}", file=sys.stderr)
        if answer.kind in ("bug", "failed"):
            failed[one.row.name, one.seed] = answer.text.strip().splitlines()[-1]
        board.ended(one, answer)

    train = _place(request, len(cells))
    with Board(cells, console) as board:
        through = train(
            cells, device=request.device, data=request.data, began=board.began, ended=ended, tick=board.tick
        )
    return failed, through


def _place(request: Request, cells: int) -> Callable[..., bool]:
    """What trains the cells."""
    kind, _, address = (request.on or "").partition(":")
    if kind not in ("", "ray"):
        raise RecipeError(
            "--on", expected="ray or ray:ADDRESS", got=f"'{request.on}'", fix="leave it out for processes here"
        )
    if not kind:
        if request.cpus is not None or request.gpus is not None:
            where = "--cpus-per-run" if request.cpus is not None else "--gpus-per-run"
            raise RecipeError(
                where, expected="a cluster", got="processes on this machine", fix="say --on ray, or leave it out"
            )
        return partial(train_cells, jobs=min(cells, request.jobs or _cores(request.device)))
    from aplysia.grid.ray_cluster import RayCluster

    gpus = (0.0 if request.device == "cpu" else 1.0) if request.gpus is None else request.gpus
    cpus = 1 if request.cpus is None else request.cpus
    return RayCluster(address=address or None, cpus=cpus, gpus=gpus, jobs=request.jobs).train_cells


def _finish(request: Request, report: Report, found: Found, out: Path, seeds: tuple[int, ...] | None) -> int:
    print()
    print_table(lines(report), columns(report), report.table.title)
    for note in footnotes(report):
        print(note)
    if request.export is not None:
        export(report.table, found, out, request.export.expanduser(), seeds)
        print(f"exported to {request.export}")
    return FAILED if any(row.failed for row in report.rows) else 0


def _shown(table: Table, rows: tuple[Row, ...], found: Found, failed: dict[tuple[str, int], str]) -> tuple[Row, ...]:
    """The rows asked for, and those that have cells from an earlier call."""
    there = {name for name, _ in (*found.summaries, *found.damaged, *failed)} | {row.name for row in rows}
    return tuple(row for row in table.rows if row.name in there)


def _again(request: Request) -> str:
    """The command that goes on."""
    words = ["aplysia", "table", request.name]
    options = [("--seeds", request.seeds), ("--data", request.data), ("--out", request.out), ("--jobs", request.jobs)]
    for option, value in options:
        words += [] if value is None else [option, str(value)]
    words += [word for pattern in request.rows for word in ("--rows", pattern)]
    words += [word for setting in request.settings for word in ("--set", setting)]
    words += [] if request.device == "cpu" else ["--device", request.device]
    for option, value in (("--on", request.on), ("--cpus-per-run", request.cpus), ("--gpus-per-run", request.gpus)):
        words += [] if value is None else [option, str(value)]
    words += [] if request.export is None else ["--export", str(request.export)]
    return shlex.join(words)


def _cores(device: str) -> int:
    if device != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Nobody else trains into this folder; the lock goes with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    with open(out / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                str(out),
                expected="a folder nobody trains into",
                got="one that another aplysia table is at work in",
                fix="wait for it, or choose another --out",
            ) from error
        yield
