"""What `aplysia report` does: read, write one file, say what was left out."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aplysia.errors import RecipeError, near
from aplysia.ledger.chip import find_chip
from aplysia.report import page, page_table
from aplysia.report.page_costs import Energy, Joules
from aplysia.report.page_rows import collect
from aplysia.train.cost import from_ledger
from aplysia.train.folder import write_atomic

FORMATS = {"html": page.html, "markdown": page_table.markdown, "csv": page_table.csv_text}
_ENDS = {".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown", ".csv": "csv"}


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        runs: run folders, or folders with runs below them.
        out: file to write; None: `report.html`, and the other formats are printed.
        form: html, markdown or csv; None: what the file's name ends in.
        title, baseline: see `page_rows.collect`; empty: not said.
        chip: name of a chip, or a profile's file; empty: nothing is said of energy.
    """

    runs: tuple[Path, ...]
    out: Path | None = None
    form: str | None = None
    title: str = ""
    baseline: str = ""
    chip: str = ""


def report(request: Request) -> None:
    """Write the report.

    Raises:
        RecipeError: no such format, or no such chip.
        RunError: no finished run, no such row, or a file that cannot be written.
    """
    form = _form(request)
    made = collect(request.runs, title=request.title, baseline=request.baseline, energy=_energy(request.chip))
    for one in made.left_out:
        print(f"left out: {one.path}: {one.reason}", file=sys.stderr)
    text = FORMATS[form](made)
    out = request.out or (Path("report.html") if form == "html" else None)
    if out is None:
        print(text, end="")
        return
    write_atomic(out, text)
    print(f"{len(made.runs)} runs in {len(made.rows)} rows → {out}")


def _energy(name: str) -> Energy | None:
    if not name:
        return None
    chip = find_chip(name)

    def price(ledger: Mapping[str, Any]) -> Joules | None:
        found = from_ledger("", ledger).energy(chip)
        if found.value is None or found.low is None or found.high is None or not found.value:
            return None
        return Joules(found.value, found.low, found.high, found.lower_bound, found.unknown)

    return Energy(chip.name, chip.summary, price)


def _form(request: Request) -> str:
    if request.form is not None:
        if request.form not in FORMATS:
            fix = near(request.form, FORMATS)
            raise RecipeError("--format", expected="html, markdown or csv", got=f"'{request.form}'", fix=fix)
        return request.form
    if request.out is None:
        return "html"
    end = request.out.suffix.lower()
    if end not in _ENDS:
        fix = "name it report.html, or say --format"
        raise RecipeError("--out", expected="a name ending in .html, .md or .csv", got=f"'{request.out.name}'", fix=fix)
    return _ENDS[end]
