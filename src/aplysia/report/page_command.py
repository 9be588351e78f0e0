"""What `aplysia report` does: read, write one file, say what was left out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from aplysia.errors import RecipeError, near
from aplysia.report import page, page_table
from aplysia.report.page_costs import Energy
from aplysia.report.page_rows import collect
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
        energy: see `page_costs.Energy`; None: no chip was chosen, and nothing is said of energy.
    """

    runs: tuple[Path, ...]
    out: Path | None = None
    form: str | None = None
    title: str = ""
    baseline: str = ""
    energy: Energy | None = None


def report(request: Request) -> None:
    """Write the report.

    Raises:
        RecipeError: no such format.
        RunError: no finished run, no such row, or a file that cannot be written.
    """
    form = _form(request)
    made = collect(request.runs, title=request.title, baseline=request.baseline, energy=request.energy)
    for one in made.left_out:
        print(f"left out: {one.path}: {one.reason}", file=sys.stderr)
    text = FORMATS[form](made)
    out = request.out or (Path("report.html") if form == "html" else None)
    if out is None:
        print(text, end="")
        return
    write_atomic(out, text)
    print(f"{len(made.runs)} runs in {len(made.rows)} rows → {out}")


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
