"""From runs to rows: runs of the same recipe but the seed make a row, with its mean, interval and paired difference."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aplysia.errors import AplysiaError, RunError, near
from aplysia.report.cells import flat
from aplysia.report.page_costs import Amounts, Energy, Joules, mean_amounts, mean_joules
from aplysia.report.page_names import exact, names_of, question, stem, unique
from aplysia.report.page_runs import LeftOut, OneRun, Reader, Thin, run_folders
from aplysia.report.statistics import Estimate, estimate


@dataclass(frozen=True)
class Curve:
    """A mean over seeds at the points that all of them have reached.

    Attributes:
        x: epochs or optimiser steps.
        mean, sd: over the seeds; an sd of 0 for one seed.
        seeds: how many.
    """

    x: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    seeds: int


@dataclass(frozen=True)
class PageRow:
    """One row of the report; accuracies in percent, differences in percentage points.

    Attributes:
        name, group: of the row; a group may be empty.
        runs: by seed.
        accuracy: over the seeds.
        difference: to the baseline over the seeds both have; None for the baseline and where nothing can be paired.
        is_baseline: whether the others are compared with it.
        words, bits: weight traffic relative to backpropagation on the same net; None where nothing could move.
        operations, accesses: per trained sample, by phase; None where no ledger says.
        memory: bytes by kind; None where no ledger says.
        energy: of one trained sample; None where not known.
        needs: what the rule needs of a chip; None where no ledger says.
    """

    name: str
    group: str
    runs: tuple[OneRun, ...]
    accuracy: Estimate
    difference: Estimate | None
    is_baseline: bool
    words: float | None
    bits: float | None
    operations: Amounts | None
    accesses: Amounts | None
    memory: Amounts | None
    energy: Joules | None
    needs: tuple[str, ...] | None

    @property
    def data(self) -> str:
        """Name of the data set."""
        data = self.runs[0].recipe.get("data")
        return stem(data.get("kind", "?") if isinstance(data, dict) else data)

    @property
    def learning(self) -> Curve | None:
        """Accuracy over epochs."""
        return _curve([run.accuracy for run in self.runs])

    @property
    def rates(self) -> dict[str, float]:
        """Layer → spike rate, mean over the seeds."""
        found: dict[str, list[float]] = {}
        for run in self.runs:
            for layer, rate in run.summary.get("rates", {}).items():
                if rate is not None:
                    found.setdefault(layer, []).append(rate)
        return {layer: statistics.mean(rates) for layer, rates in found.items()}

    def aligned(self, layer: str, quantity: str) -> Curve | None:
        """A quantity of a layer over optimiser steps."""
        return _curve([run.alignment[layer, quantity] for run in self.runs if (layer, quantity) in run.alignment])


@dataclass(frozen=True)
class Page:
    """Everything a report shows.

    Attributes:
        title: the question in one line.
        rows: in the order of the table, or as found.
        baseline: name of the row the others are compared with; None: none was chosen.
        notes: what a table says of itself, caveats of the data.
        left_out: folders that are not shown.
    """

    title: str
    rows: tuple[PageRow, ...]
    baseline: str | None
    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def runs(self) -> list[OneRun]:
        """Of all rows."""
        return [run for row in self.rows for run in row.runs]

    @property
    def data(self) -> list[str]:
        """Names of the data sets, each once."""
        return list(dict.fromkeys(row.data for row in self.rows))


@dataclass(frozen=True)
class _Known:
    """What the `table.json` beside the runs says: its title, note and baseline; folder name → (place, row, group)."""

    title: str = ""
    note: str = ""
    baseline: str = ""
    rows: dict[str, tuple[int, str, str]] = field(default_factory=dict)


def collect(paths: Iterable[Path], *, title: str = "", baseline: str = "", energy: Energy | None = None) -> Page:
    """Read what is under `paths`.

    Args:
        paths: run folders, or folders with runs below them.
        title: the question; the table's, or what differs between the recipes, unless said.
        baseline: name of a row; the table's, or the only row of backpropagation, unless said.
        energy: see `page_costs.Energy`.

    Raises:
        RunError: no finished run is there, or no row is called `baseline`.
    """
    left_out: list[LeftOut] = []
    reader, groups, tables = Reader(energy), {}, {}
    for path in run_folders(paths, left_out):
        try:
            run = reader.read(path)
        except AplysiaError as error:
            left_out.append(LeftOut(path, str(error)))
            continue
        seeds: dict[int, OneRun] = groups.setdefault(run.key, {})
        if run.seed in seeds:
            left_out.append(LeftOut(path, f"{seeds[run.seed].path.name} has the same recipe and seed"))
            continue
        seeds[run.seed] = run
        if path.parent not in tables:
            tables[path.parent] = _known(path.parent, left_out)
    if not groups:
        why = f" ({left_out[0].path}: {left_out[0].reason})" if left_out else ""
        fix = "name folders that `aplysia run` or `aplysia table` has finished"
        raise RunError("aplysia report", expected="a finished run", got=f"none{why}", fix=fix)
    runs = [tuple(seeds[seed] for seed in sorted(seeds)) for seeds in groups.values()]
    recipes = [flat(row[0].recipe) for row in runs]
    told = [_told(row[0], tables[row[0].path.parent]) for row in runs]
    names = unique([t[1] or name for t, name in zip(told, names_of(recipes), strict=True)])
    known = list({id(table): table for table in tables.values() if table.title}.values())
    whole = len(known) == 1 and all(t[1] for t in told)
    told_base = known[0].baseline if len(known) == 1 else ""
    chosen = baseline or (told_base if told_base in names else exact(names, recipes))
    if chosen and chosen not in names:
        raise RunError("--baseline", expected="the name of a row", got=f"'{chosen}'", fix=near(chosen, names))
    base = runs[names.index(chosen)] if chosen else ()
    places = list(tables)
    order = sorted(range(len(runs)), key=lambda i: (places.index(runs[i][0].path.parent), told[i][0]))
    rows = tuple(_row(names[i], told[i][2], runs[i], base) for i in order)
    caveats = dict.fromkeys(f"data: {run.facts['caveat']}" for row in runs for run in row if run.facts.get("caveat"))
    notes = tuple(filter(None, [known[0].note if whole else "", *caveats, _priced(energy, rows)]))
    asked = title or (known[0].title if whole else question(recipes, " and ".join(dict.fromkeys(r.data for r in rows))))
    return Page(asked, rows, chosen or None, notes, tuple(left_out))


def _row(name: str, group: str, runs: tuple[OneRun, ...], base: Sequence[OneRun]) -> PageRow:
    accuracies = {run.seed: 100.0 * run.summary["test_accuracy"] for run in runs}
    others = {run.seed: 100.0 * run.summary["test_accuracy"] for run in base}
    # Accuracies on different data cannot be paired.
    alike = bool(base) and base[0] is not runs[0] and base[0].recipe.get("data") == runs[0].recipe.get("data")
    paired = [accuracies[seed] - others[seed] for seed in accuracies if alike and seed in others]
    moved = [run.summary.get("transport", {}) for run in runs]
    words, words_bp, bits = (sum(t.get(key) or 0 for t in moved) for key in ("words", "words_bp", "bits"))
    bits += sum(t.get("address_bits") or 0 for t in moved)
    known = [run.costs for run in runs if run.costs is not None]
    return PageRow(
        name=name,
        group=group,
        runs=runs,
        accuracy=estimate(list(accuracies.values())),
        difference=estimate(paired) if paired else None,
        is_baseline=bool(base) and base[0] is runs[0],
        words=words / words_bp if words_bp else None,
        bits=bits / (32 * words_bp) if words_bp else None,
        operations=mean_amounts([cost.operations for cost in known]),
        accesses=mean_amounts([cost.accesses for cost in known]),
        memory=mean_amounts([cost.memory for cost in known]),
        energy=mean_joules([cost.energy for cost in known if cost.energy is not None]),
        needs=next((cost.needs for cost in known), None),
    )


def _priced(energy: Energy | None, rows: Sequence[PageRow]) -> str:
    if energy is None:
        return ""
    unknown = dict.fromkeys(name for row in rows if row.energy is not None for name in row.energy.unknown)
    told = f"energy: {energy.chip}, {energy.summary}"
    if unknown:
        told += f"; ≥ is a lower bound, and ranks nothing: no number for {', '.join(unknown)}"
    return (
        told
        if any(row.energy is not None for row in rows)
        else f"{told}; no run's ledger has anything it has a price for"
    )


def _curve(found: Sequence[Thin]) -> Curve | None:
    if not found:
        return None
    others = [set(thin.x) for thin in found[1:]]
    shared = [x for x in found[0].x if all(x in other for other in others)]
    if not shared:
        return None
    at = [dict(zip(thin.x, thin.y, strict=True)) for thin in found]
    values = [[one[x] for one in at] for x in shared]
    means = [math.fsum(v) / len(v) for v in values]
    # By hand, for there are many: `statistics.stdev` computes in fractions.
    squares = [math.fsum((a - mean) ** 2 for a in v) for v, mean in zip(values, means, strict=True)]
    sd = tuple(math.sqrt(square / (len(found) - 1)) if len(found) > 1 else 0.0 for square in squares)
    return Curve(tuple(shared), tuple(means), sd, len(found))


def _known(folder: Path, left_out: list[LeftOut]) -> _Known:
    path = folder / "table.json"
    if not path.exists():
        return _Known()
    try:
        table = json.loads(path.read_bytes())
        rows = {row["slug"]: (i, str(row["row"]), str(row["group"] or "")) for i, row in enumerate(table["rows"])}
        return _Known(str(table["title"]), str(table.get("note") or ""), str(table["baseline"]), rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        left_out.append(LeftOut(path, f"it cannot be read ({type(error).__name__}), so rows have no names of a table"))
        return _Known()


def _told(run: OneRun, table: _Known) -> tuple[int, str, str]:
    match = re.fullmatch(r"(.+)-s\d+", run.path.name)
    return table.rows.get(match[1] if match else "", (len(table.rows), "", ""))
