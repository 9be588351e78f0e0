"""Learning curves of a table's rows: held-out accuracy after each epoch (of the training set where nothing is held out).

Reads the `metrics.jsonl` of the cells; means over the seeds that have reached an epoch all together, and their spread.
"""

from __future__ import annotations

import io
import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from aplysia.report.cells import cells_there
from aplysia.report.layout import COLOURS
from aplysia.tables.base import Table
from aplysia.train.folder import RunFolder, write_atomic

_LINES = ("-", "--", ":", "-.")
_HELD_OUT, _TRAINING = "val_accuracy", "train_accuracy"


@dataclass(frozen=True)
class Dynamics:
    """The curve of one row.

    Attributes:
        row: its name.
        quantity: what was measured.
        mean: over the seeds, after epochs 1, 2, …
        spread: their standard deviation; 0 for one seed.
        seeds: how many.
    """

    row: str
    quantity: str
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    seeds: int


def dynamics(table: Table, out: Path) -> list[Dynamics]:
    """A curve for each row that has been trained for an epoch."""
    runs: dict[str, list[list[dict[str, float]]]] = {}
    for one in cells_there(table, out):
        if metrics := RunFolder(one.path).metrics():
            runs.setdefault(one.row.name, []).append(metrics)
    made = []
    for name, found in runs.items():
        quantity = _HELD_OUT if all(_HELD_OUT in metrics[0] for metrics in found) else _TRAINING
        epochs = [[metrics[n][quantity] for metrics in found] for n in range(min(map(len, found)))]
        spread = tuple(statistics.stdev(values) if len(values) > 1 else 0.0 for values in epochs)
        made.append(Dynamics(name, quantity, tuple(map(statistics.mean, epochs)), spread, len(found)))
    return made


def write_dynamics(table: Table, out: Path, folder: Path) -> list[str]:
    """Write `dynamics.json` and, with matplotlib, `dynamics.svg`, where runs are longer than an epoch; the names written."""
    drawn = [curve for curve in dynamics(table, out) if len(curve.mean) > 1]
    if not drawn:
        return []
    contents = {"dynamics.json": _json(drawn), "dynamics.svg": _svg(table, drawn)}
    for name, text in contents.items():
        if text is not None:
            write_atomic(folder / name, text)
    return [name for name, text in contents.items() if text is not None]


def _json(drawn: list[Dynamics]) -> str:
    rows = {
        curve.row: {
            "quantity": curve.quantity,
            "mean": [round(value, 6) for value in curve.mean],
            "sd": [round(value, 6) for value in curve.spread],
            "seeds": curve.seeds,
        }
        for curve in drawn
    }
    return json.dumps(rows, indent=1, ensure_ascii=False) + "\n"


def _svg(table: Table, drawn: list[Dynamics]) -> str | None:
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return None
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "aplysia", "text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=(8.0, 4.8), layout="constrained")
        axes = figure.add_subplot()
        for number, curve in enumerate(drawn):
            epochs = range(1, len(curve.mean) + 1)
            colour = COLOURS[number % len(COLOURS)]
            line = _LINES[number // len(COLOURS) % len(_LINES)]
            mean = [100 * value for value in curve.mean]
            axes.plot(epochs, mean, color=colour, linestyle=line, linewidth=1.5, label=f"{curve.row} ({curve.seeds})")
            if curve.seeds > 1:
                low = [100 * (m - s) for m, s in zip(curve.mean, curve.spread, strict=True)]
                high = [100 * (m + s) for m, s in zip(curve.mean, curve.spread, strict=True)]
                axes.fill_between(epochs, low, high, color=colour, alpha=0.12, linewidth=0)
        kinds = {curve.quantity for curve in drawn}
        words = "held-out accuracy, %" if kinds == {_HELD_OUT} else "training accuracy, %" if len(kinds) == 1 else "%"
        axes.set(xlabel="epoch", ylabel=f"{words}, mean ± sd (seeds)")
        axes.grid(alpha=0.25)
        figure.legend(loc="outside right upper", frameon=False, fontsize=7.5)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Title": table.title})
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"
