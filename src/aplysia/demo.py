"""The demo: every rule that ships on the shipped digits, compared in one table and on one page. No network, three seeds.

The expected values beside it are not typed in: `benchmarks/demo_expected.py` trains the same runs over many seeds and stores
mean, spread and n. A row is 'as expected' when its mean lies within 4 standard errors of theirs (both sides' errors counted,
and one test sample), so that a false alarm in a whole table is rarer than one in a thousand.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import resources
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.spatial.frozen import FrozenBackprop
from aplysia.credit.spatial.sign_symmetric import FixedMagnitude, RedrawnMagnitude, SignSymmetric
from aplysia.credit.transport import LargestChange
from aplysia.plugins import walk
from aplysia.recipes import find
from aplysia.report.page import html
from aplysia.report.page_rows import collect
from aplysia.tables.base import slug
from aplysia.train.folder import RunFolder, write_atomic
from aplysia.train.log import Progress as RunProgress
from aplysia.train.log import table
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.run import Run

EXPECTED = "demo_expected.json"
TEST_SAMPLES = 355
REPORT, BASELINE = "report.html", "symmetric"
NEXT = "aplysia run digits-mlp --set rule=feedback_alignment"


@dataclass(frozen=True)
class Row:
    """One rule over its seeds."""

    name: str
    accuracies: list[float]
    bits_of_bp: float  # weight bits moved across, as a share of what backpropagation moves


def variants() -> dict[str, AbstractSpatial]:
    """Every rule that ships with its defaults, and the other magnitudes of the sign-symmetric one; the control last."""
    made = {name: rule() for name, rule in walk(AXES[AbstractSpatial], AbstractSpatial).items()}
    made["frozen, Φ=10 ρ=1 %"] = FrozenBackprop(interval=10, transport=LargestChange(fraction=0.01))
    made["sign_symmetric, fixed"] = SignSymmetric(magnitude=FixedMagnitude())
    made["sign_symmetric, redrawn"] = SignSymmetric(magnitude=RedrawnMagnitude())
    first, last = "symmetric", "readout_only"
    middle = sorted(name for name in made if name not in (first, last))
    return {name: made[name] for name in (first, *middle, last)}


def demo_recipes() -> dict[str, Recipe]:
    """Every row of the table: the rules on LIF neurons, some on first-spike neurons, one on streams; the control last."""
    rows, first_spike = variants(), ("symmetric", "frozen", "frozen, Φ=10 ρ=1 %")
    control = rows.popitem()
    made = {name: _short("digits-mlp", rule) for name, rule in rows.items()}
    made |= {f"first-spike: {name}": _short("digits-ttfs", rows[name]) for name in first_spike}
    made["streams: symmetric"] = _short("ssnn-digits", rows["symmetric"])
    return made | {control[0]: _short("digits-mlp", control[1])}


def _short(recipe: str, rule: AbstractSpatial) -> Recipe:
    """A digits recipe, short enough that all rows fit into half a minute."""
    return replace(find(recipe), rule=rule, epochs=8, validation=0.0, compiled=False)


def train(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """One run, quietly; its summary."""
    quiet = RunProgress(recipe.epochs, shown=False)
    return Run(recipe, RunFolder.create(folder, resume=False), torch.device("cpu"), progress=quiet).execute()


def expected() -> dict[str, dict[str, float]]:
    """Mean, sd and n per row, as stored."""
    return json.loads(resources.files("aplysia").joinpath(EXPECTED).read_text())["rows"]


def verdict(accuracies: list[float], reference: dict[str, float] | None, samples: int) -> str:
    """'as expected' or 'differs', by the rule at the top of this file."""
    if reference is None:
        return "no reference"
    error = reference["sd"] * math.sqrt(1 / len(accuracies) + 1 / reference["n"])
    distance = abs(statistics.mean(accuracies) - reference["mean"])
    return "as expected" if distance <= 4 * error + 1 / samples else "differs"


def run_demo(*, seeds: int = 3, out: Path | None = None) -> list[Row]:
    """Train, print the table, write the report, say what to do next.

    Args:
        seeds: of each rule.
        out: folder that keeps the runs and the report; None: the runs are thrown away, the report goes to `runs`.
    """
    console = Console()
    recipes, began = demo_recipes(), time.monotonic()
    console.print(
        f"{len(recipes)} rows × {seeds} seeds on the handwritten digits that ship (1,797 samples): 64-128-128-10 LIF, T = 6, "
        "eligibility traces; or first-spike neurons; or 64-48-10 streams of 32 bits",
        highlight=False,
    )
    found: dict[tuple[str, int], dict[str, Any]] = {}
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        columns = TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        bar = stack.enter_context(Progress(*columns, console=console, transient=True))
        task = bar.add_task("starting", total=len(recipes) * seeds)
        # One process a core with one thread each: the net is so small that a second thread would cost more than it brings.
        workers = min(len(recipes) * seeds, os.cpu_count() or 1, 8)
        pool = ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,))
        stack.callback(pool.shutdown, cancel_futures=True)
        jobs = {
            pool.submit(train, replace(recipe, seed=seed), folder / f"{slug(name)}-s{seed}"): (name, seed)
            for seed in range(seeds)
            for name, recipe in recipes.items()
        }
        for job in as_completed(jobs):
            name, seed = jobs[job]
            found[name, seed] = job.result()
            bar.update(task, description=name, advance=1)
            if not console.is_terminal and len(found) % len(recipes) == 0:
                told = f"{len(found)} of {len(jobs)} runs done after {time.monotonic() - began:.0f} s"
                console.print(told, highlight=False)
        report = _report(folder, recipes, (out or Path("runs")) / REPORT)
    runs = {name: [found[name, seed] for seed in range(seeds)] for name in recipes}
    rows = [_row(name, done) for name, done in runs.items()]
    _show(rows, TEST_SAMPLES, time.monotonic() - began)
    if out is not None:
        print(f"run folders: {out}")
    print(f"report: {report}")
    print(f"next:  {NEXT}")
    return rows


def _report(folder: Path, recipes: dict[str, Recipe], path: Path) -> Path:
    # The names of the rows, as a table leaves them beside its runs.
    groups = {"stepped": "spikes", "first-spike": "spike times", "stream": "streams"}
    rows = [{"row": name, "slug": slug(name), "group": groups[r.neuron.kind]} for name, r in recipes.items()]
    told = {
        "title": "What does every rule reach on the handwritten digits, and what does it cost?",
        "baseline": BASELINE,
    }
    write_atomic(folder / "table.json", json.dumps(told | {"rows": rows}))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, html(collect([folder])))
    return path


def _row(name: str, done: list[dict[str, Any]]) -> Row:
    bits = sum(run["transport"]["bits"] for run in done)
    bits_bp = sum(run["transport"]["words_bp"] * 32 for run in done)
    return Row(name, [run["test_accuracy"] for run in done], bits / bits_bp)


def _show(rows: list[Row], samples: int, seconds: float) -> None:
    references = expected()
    cells = []
    for row in rows:
        mean, sd = statistics.mean(row.accuracies), statistics.stdev(row.accuracies) if len(row.accuracies) > 1 else 0.0
        known = references.get(row.name)
        cells.append(
            [
                row.name,
                f"{100 * mean:.1f} ± {100 * sd:.1f} ({len(row.accuracies)})",
                "n/a" if known is None else f"{100 * known['mean']:.1f} ± {100 * known['sd']:.1f} ({known['n']:.0f})",
                verdict(row.accuracies, known, samples),
                "0" if row.bits_of_bp == 0 else f"1/{1 / row.bits_of_bp:.0f}" if row.bits_of_bp < 1 else "1",
            ]
        )
    table(
        cells,
        ["rule", "test accuracy %, mean ± sd (n)", "expected", "verdict", "weight bits moved, of BP's"],
        f"digits, 8 epochs, {seconds:.0f} s",
    )
