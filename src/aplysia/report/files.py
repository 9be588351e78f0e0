"""What is left of a table on disk: `table.json`, `table.md`, the pictures, and a small copy of it that can be committed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aplysia.errors import RunError
from aplysia.report.alignment import write_alignment
from aplysia.report.cells import Found, cell, read
from aplysia.report.dynamics import write_dynamics
from aplysia.report.measure import Report, as_json, measure
from aplysia.report.picture import figure_html, figure_svg
from aplysia.report.render import markdown
from aplysia.tables.base import Table
from aplysia.train.folder import RunFolder, write_atomic

LARGEST = 1_000_000  # bytes of one exported file
# The facts of a run that are worth keeping; its command line may name folders of the machine it ran on.
_FACTS = (
    *("aplysia", "commit", "source", "torch", "python", "device", "device_name", "threads", "compiled_kernels"),
    *("caveat", "started", "finished"),
)


def write_report(report: Report, folder: Path, *, html: bool = True) -> list[str]:
    """Write the files of a report; the names of those written."""
    contents: dict[str, str | None] = {
        "table.json": json.dumps(as_json(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        "table.md": markdown(report),
        "table.svg": figure_svg(report),
        "table.html": figure_html(report) if html else None,
    }
    for name, text in contents.items():
        if text is not None:
            write_atomic(folder / name, text)
    return [name for name, text in contents.items() if text is not None]


def export(table: Table, found: Found, source: Path, target: Path, seeds: tuple[int, ...] | None = None) -> Report:
    """Copy what the finished cells say into `target`, with the report of everything there; small enough to commit.

    Raises:
        RunError: `target` holds cells of other recipes, or cannot be written.
    """
    if target.resolve() == source.resolve():
        raise RunError("--export", expected="a folder other than --out", got=str(target), fix="name another one")
    read(table, target)  # refuses a folder that holds another table, before anything is written
    for (name, seed), summary in sorted(found.summaries.items()):
        if seeds is not None and seed not in seeds:
            continue
        here, there = (cell(place, table.row(name), seed).path for place in (source, target))
        folder, copy = RunFolder(here), RunFolder.create(there, resume=True)
        _write(copy, "recipe.json", folder.read_json("recipe.json"))
        if (here / "run.json").exists():
            facts = folder.read_json("run.json")
            _write(copy, "run.json", {key: facts[key] for key in _FACTS if key in facts})
        _write(copy, "summary.json", summary)
    report = measure(table, read(table, target))
    write_report(report, target, html=False)
    write_alignment(table, source, target)
    write_dynamics(table, source, target)
    return report


def _write(folder: RunFolder, name: str, content: Any) -> None:
    if len(json.dumps(content, indent=1)) >= LARGEST:
        raise RunError(
            str(folder.path / name), expected=f"less than {LARGEST:,} bytes", got="more", fix="leave that cell out"
        )
    folder.write_json(name, content)
