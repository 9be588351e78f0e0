"""The section of docs/results.md on what is open about pseudo-zeroth-order training, from table `opzo-questions`."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

# What each question is answered by: rows of the table, compared with its baseline.
QUESTIONS = {
    "How should M start?": ("M starts small", "M starts large", "M warms up"),
    "May M rest after an initial phase?": ("M frozen after 1 epoch", "M frozen after 3 epochs"),
    "Which momentum, and updated how often?": (
        "momentum 0.9",
        "momentum 0.999",
        "every step, 0.99",
        "every step, 0.999",
    ),
    "What does dropping 1/α do?": ("1/α dropped",),
    "How much noise?": ("α=0.05", "α=0.2", "α=0.5"),
    "Which noise, and where?": (
        *("Rademacher", "sphere", "membrane", "membrane, Rademacher", "membrane, sphere", "comparator"),
        *("no antithetic pairs", "noise in the traces"),
    ),
    "Must M hold every position of a convolution?": ("M pooled per channel",),
}
# Shown over training: those whose feedback is learnt, or fixed early.
OVER_TRAINING = (
    *("OPZO", "forward gradient", "M starts large", "M frozen after 1 epoch", "M frozen after 3 epochs"),
    *("momentum 0.999", "1/α dropped", "α=0.5"),
)


def questions(folder: Path) -> list[str]:
    """Each question with its rows, what the differences say, and how the errors point over training."""
    table = json.loads((folder / "table.json").read_text())
    rows = {row["row"]: row for row in table["rows"]}
    base = rows[table["baseline"]]
    lines = [
        "## Open questions about pseudo-zeroth-order training, measured",
        "",
        f"Rows of table `{folder.name}`, each beside {base['row']} with {_accuracy(base)}; settings and spreads stand there.",
        "",
    ]
    for question, names in QUESTIONS.items():
        lines += [f"**{question}** " + " ".join(_sentence(name, rows[name]) for name in names if name in rows), ""]
    path = folder / "alignment.json"
    if path.exists():
        lines += _bias(json.loads(path.read_text()))
    return lines


def _accuracy(row: dict[str, Any]) -> str:
    found = row["accuracy"]
    return f"{found['mean']:.2f} ± {found['sd']:.2f} % (n = {found['n']})"


def _sentence(name: str, row: dict[str, Any]) -> str:
    gap = row["difference"]
    if row["failed"] or gap is None:
        return f"{name}: not trained to the end."
    within = gap["low"] <= 0.0 <= gap["high"]
    return f"{name}: {gap['mean']:+.2f} pp{', within noise' if within else ''}."


def _bias(alignment: dict[str, Any]) -> list[str]:
    """The cosine of the errors sent with backpropagation's, early, in the middle and late in training."""
    shown = [name for name in OVER_TRAINING if name in alignment]
    layers = [layer for layer, found in alignment[shown[0]].items() if "error_cosine" in found]
    lines = [
        "**How far do the errors lean from backpropagation's, over training?** Cosine of Mᵀe with the true Jᵀe at each hidden "
        "layer's output, mean over the first tenth, the middle tenth and the last tenth of what was measured; 1 is "
        "backpropagation. The reference runs without noise and its Jacobian is the surrogate's, so that noise and the choice "
        "of surrogate are in the gap.",
        "",
        "| row | " + " | ".join(layers) + " |",
        "| --- |" + " --- |" * len(layers),
    ]
    for name in shown:
        cells = []
        for layer in layers:
            values = alignment[name][layer]["error_cosine"]
            part = max(1, len(values) // 10)
            middle = (len(values) - part) // 2
            thirds = values[:part], values[middle : middle + part], values[-part:]
            cells.append(" → ".join(f"{mean(third):.2f}" for third in thirds))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def section(path: Path) -> list[str]:
    """The section, from the table's JSON."""
    return questions(path.parent)


SECTIONS = {"tables/opzo-questions/table.json": section}
