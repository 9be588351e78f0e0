"""The numbers of a table, computed from the summaries of its cells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from aplysia.report.cells import Found
from aplysia.report.statistics import Estimate, estimate
from aplysia.tables.base import Column, Row, Table


@dataclass(frozen=True)
class Measured:
    """One row's numbers; accuracies in percent, differences in percentage points.

    Attributes:
        row: of the table.
        accuracies: by seed.
        accuracy: over the seeds; None where no cell is finished.
        difference: to the baseline, over the seeds both have; None for the baseline itself and where there are none.
        words: weight words moved, relative to backpropagation on the same net.
        bits: the same in bits, with the addresses that sparse traffic carries.
        failed: seed → why the cell is not there.
        extra: the table's further columns, by key; None where no run has the number.
    """

    row: Row
    accuracies: dict[int, float]
    accuracy: Estimate | None
    difference: Estimate | None
    words: float | None
    bits: float | None
    failed: dict[int, str] = field(default_factory=dict)
    extra: dict[str, Estimate | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A table with everything measured so far.

    Attributes:
        table: what was asked for.
        rows: those shown, in the table's order.
        seeds: every seed that a shown row has.
        caveats: what is said of the data.
    """

    table: Table
    rows: tuple[Measured, ...]
    seeds: tuple[int, ...]
    caveats: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """Cells that other rows have and a row lacks, less those that failed."""
        return [
            f"{row.row.name} s{seed}"
            for seed in self.seeds
            for row in self.rows
            if seed not in row.accuracies and seed not in row.failed
        ]


def measure(
    table: Table,
    found: Found,
    *,
    rows: tuple[Row, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
    wanted: tuple[int, ...] = (),
    failed: Mapping[tuple[str, int], str] | None = None,
) -> Report:
    """The report of what was found.

    Args:
        table: what was asked for.
        found: its cells.
        rows: those to show; all unless said. The baseline's cells are used either way.
        seeds: only these; all that are there unless said.
        wanted: seeds that ought to be there, and are told as missing.
        failed: sentences of cells that failed just now, by row name and seed.
    """
    troubles = dict(found.damaged) | dict(failed or {})
    chosen = {key: s for key, s in found.summaries.items() if seeds is None or key[1] in seeds}

    def of(row: Row) -> dict[int, dict[str, Any]]:
        return {seed: chosen[name, seed] for name, seed in sorted(chosen) if name == row.name}

    base = {seed: 100.0 * s["test_accuracy"] for seed, s in of(table.row(table.baseline)).items()}
    measured = tuple(_measured(row, of(row), base, table, troubles) for row in rows or table.rows)
    there = {seed for row in measured for seed in (*row.accuracies, *row.failed)} | set(wanted)
    return Report(table, measured, tuple(sorted(there)), found.caveats)


def _measured(
    row: Row,
    summaries: dict[int, dict[str, Any]],
    base: dict[int, float],
    table: Table,
    troubles: dict[tuple[str, int], str],
) -> Measured:
    accuracies = {seed: 100.0 * summary["test_accuracy"] for seed, summary in summaries.items()}
    paired = [accuracies[seed] - base[seed] for seed in accuracies if seed in base and row.name != table.baseline]
    transport = [summary["transport"] for summary in summaries.values()]
    words, words_bp = sum(t["words"] for t in transport), sum(t["words_bp"] for t in transport)
    bits = sum(t["bits"] + t["address_bits"] for t in transport)
    return Measured(
        row,
        accuracies,
        estimate(list(accuracies.values())) if accuracies else None,
        estimate(paired) if paired else None,
        words / words_bp if words_bp else None,
        bits / (32 * words_bp) if words_bp else None,
        {seed: text for (name, seed), text in troubles.items() if name == row.name and seed not in accuracies},
        {column.key: _column(column, summaries) for column in table.extra},
    )


def _column(column: Column, summaries: dict[int, dict[str, Any]]) -> Estimate | None:
    found = [summary.get(column.key) for summary in summaries.values()]
    numbers = [column.factor * x for x in found if isinstance(x, int | float)]
    return estimate(numbers) if numbers else None


def as_json(report: Report) -> dict[str, Any]:
    """All numbers of a report, for `table.json`."""
    table = report.table
    return {
        "table": table.name,
        "title": table.title,
        "note": table.note,
        "settings": list(table.settings),
        "baseline": table.baseline,
        "seeds": list(report.seeds),
        "missing": report.missing,
        "caveats": list(report.caveats),
        "rows": [_row_json(row, table.baseline) for row in report.rows],
    }


def _row_json(measured: Measured, baseline: str) -> dict[str, Any]:
    row, difference = measured.row, measured.difference
    return {
        "row": row.name,
        "group": row.group,
        "slug": row.slug,
        "is_baseline": row.name == baseline,
        "accuracies": {str(seed): value for seed, value in measured.accuracies.items()},
        "accuracy": None if measured.accuracy is None else asdict(measured.accuracy),
        "difference": None if difference is None else asdict(difference) | {"within_noise": difference.within_noise},
        "words_of_bp": measured.words,
        "bits_of_bp": measured.bits,
        "extra": {key: None if value is None else asdict(value) for key, value in measured.extra.items()},
        "published": None if row.published is None else asdict(row.published),
        "search": None if row.search is None else asdict(row.search),
        "failed": {str(seed): re.sub(r"\s+", " ", text) for seed, text in measured.failed.items()},
    }
