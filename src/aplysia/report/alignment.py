"""Alignment with true backpropagation over a table's runs: who still points where backpropagation points, layer by layer.

Reads the `alignment.jsonl` that runs with a probe (`probe=100`) leave, see `aplysia.train.alignment`; means over the seeds.
"""

from __future__ import annotations

import io
import json
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aplysia.report.cells import cells_there
from aplysia.report.layout import COLOURS
from aplysia.tables.base import Table
from aplysia.train.folder import RunFolder, write_atomic
from aplysia.train.run import ALIGNMENT

QUANTITY, ERRORS = "gradient_cosine", "error_cosine"
_LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Curve:
    """One quantity of one layer of one row.

    Attributes:
        row: name of the row.
        layer: name of the layer.
        steps: at which it was measured, the same for all seeds.
        values: means over the seeds.
        seeds: how many.
    """

    row: str
    layer: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    seeds: int


def curves(table: Table, out: Path, quantity: str = QUANTITY) -> list[Curve]:
    """A curve for each row and layer that has been measured; only steps that every seed has reached."""
    found: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    seeds: dict[str, int] = defaultdict(int)
    for one in cells_there(table, out):
        records = RunFolder(one.path).records(ALIGNMENT)
        seeds[one.row.name] += bool(records)
        for record in records:
            for layer, row in record["layers"].items():
                if quantity in row:
                    found[one.row.name, layer][record["step"]].append(row[quantity])
    made = []
    for (name, layer), at in found.items():
        whole = {step: statistics.mean(values) for step, values in sorted(at.items()) if len(values) == seeds[name]}
        if whole:
            made.append(Curve(name, layer, tuple(whole), tuple(whole.values()), seeds[name]))
    return made


def write_alignment(table: Table, out: Path, folder: Path) -> list[str]:
    """Write `alignment.json` and, with matplotlib, `alignment.svg`, if anything was measured; the names of those written."""
    drawn = [curve for curve in curves(table, out) if len(set(curve.values)) > 1 or len(curve.values) == 1]
    if not drawn:
        return []
    contents = {"alignment.json": _json(drawn, curves(table, out, ERRORS)), "alignment.svg": _svg(table, drawn)}
    for name, text in contents.items():
        if text is not None:
            write_atomic(folder / name, text)
    return [name for name, text in contents.items() if text is not None]


def _json(drawn: list[Curve], errors: list[Curve]) -> str:
    rows: dict[str, Any] = defaultdict(dict)
    # At the layers' outputs, where a surrogate derivative that both share has not been multiplied in yet.
    beside = {(curve.row, curve.layer, curve.steps): curve.values for curve in errors}
    for curve in drawn:
        rows[curve.row][curve.layer] = {
            "steps": list(curve.steps),
            QUANTITY: [round(value, 6) for value in curve.values],
            "seeds": curve.seeds,
            "mean": round(statistics.mean(curve.values), 6),
            "worst": round(min(curve.values), 6),
        }
        if (found := beside.get((curve.row, curve.layer, curve.steps))) is not None:
            rows[curve.row][curve.layer][ERRORS] = [round(value, 6) for value in found]
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _svg(table: Table, drawn: list[Curve]) -> str | None:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return None
    # In the order of the net, which is the order of the records; the readout's gradient needs no feedback and is left out.
    layers = list(dict.fromkeys(curve.layer for curve in drawn))
    names = [row.name for row in table.rows if any(curve.row == row.name for curve in drawn)]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "aplysia", "text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=(3.8 * len(layers) + 0.4, 4.2), layout="constrained")
        axes = figure.subplots(1, len(layers), sharey=True, squeeze=False)[0]
        for place, layer in zip(axes, layers, strict=True):
            for curve in (c for c in drawn if c.layer == layer):
                number = names.index(curve.row)
                style = {"color": COLOURS[number % len(COLOURS)], "linestyle": _LINES[number // len(COLOURS)]}
                label = curve.row if layer == layers[0] else None
                place.plot(curve.steps, curve.values, linewidth=1.4, marker=".", markersize=3, label=label, **style)
            place.set(title=layer, xlabel="optimiser steps")
            place.grid(alpha=0.25)
        axes[0].set_ylabel("cosine with backpropagation's gradient")
        figure.legend(loc="outside lower center", ncols=min(3, len(names)), frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": table.title})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
