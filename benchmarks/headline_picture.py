"""Draw what the README shows: every rule on three kinds of neurons, from the stored table.

    python benchmarks/headline_picture.py [--table results/tables/headline/table.json] [--svg docs/headline.svg]

A line is a rule: backpropagation first, the others by how far they are behind it on the same neurons. A marker is the mean
accuracy over the seeds with its 95 % interval, a dotted line what exact gradients reach on that kind of neurons. Needs
matplotlib (extra `figures`).
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from aplysia.report.layout import COLOURS, MARKERS
from aplysia.report.render import share

ROOT = Path(__file__).parent.parent
# How a row's name begins, what the kind is called, and the row that is its exact-gradient limit.
KINDS = {
    "LIF": ("spikes: LIF, T = 6", "LIF: BPTT"),
    "first spike": ("spike times: first-spike neurons", "ReLU net"),
    "streams": ("streams of 32 bits", "artificial net"),
}
BASE = "BP"
_LIMITS = {
    "LIF": "backpropagation through time",
    "first spike": "ReLU net",
    "streams": "artificial net",
}


def draw(table: dict[str, Any]) -> str:
    """The picture as SVG, equal for equal numbers.

    Args:
        table: a `table.json` of the table `headline`.
    """
    found = {row["row"]: row for row in table["rows"]}
    rules: dict[str, dict[str, Any]] = {}
    for name, row in found.items():
        kind, _, rule = name.partition(": ")
        if rule and name != KINDS[kind][1]:
            rules.setdefault(rule, {})[kind] = row
    exact = {kind: row["accuracy"]["mean"] for kind, row in rules[BASE].items()}

    def behind(rule: str) -> float:
        return statistics.mean(row["accuracy"]["mean"] - exact[kind] for kind, row in rules[rule].items())

    order = sorted(rules, key=lambda rule: (rule == BASE, behind(rule)))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "aplysia", "font.size": 9}):
        figure = Figure(figsize=(8.0, 0.34 * len(order) + 1.7), layout="constrained")
        axes = figure.add_subplot()
        for i, (kind, (told, limit)) in enumerate(KINDS.items()):
            colour, marker = COLOURS[i], MARKERS[i][1]
            best = found[limit]["accuracy"]["mean"]
            axes.axvline(best, color=colour, linestyle=":", linewidth=1.3, label=f"{_LIMITS[kind]}: {best:.1f} %")
            here = [(y, rules[rule][kind]["accuracy"]) for y, rule in enumerate(order) if kind in rules[rule]]
            ys = [y + 0.22 * (1 - i) for y, _ in here]
            means = [accuracy["mean"] for _, accuracy in here]
            spans = [[e["mean"] - (e["low"] or e["mean"]), (e["high"] or e["mean"]) - e["mean"]] for _, e in here]
            axes.errorbar(means, ys, xerr=list(zip(*spans, strict=True)), fmt="none", ecolor=colour, capsize=2)
            axes.scatter(means, ys, c=colour, marker=marker, s=34, edgecolors="white", label=told, zorder=3)
        names = [f"{rule}  [{_moved(rules[rule])}]" for rule in order]
        axes.set_yticks(range(len(order)), names)
        axes.set_ylim(-0.6, len(order) - 0.4)
        axes.set(xlabel="test accuracy, %      [weight words moved for learning, of backpropagation's]")
        axes.grid(alpha=0.25, axis="x")
        for y in range(len(order) - 1):
            axes.axhline(y + 0.5, color="#e5e5e5", linewidth=0.6, zorder=0)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Title": table["title"]})
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"


def _moved(kinds: dict[str, Any]) -> str:
    told = dict.fromkeys(share(row["words_of_bp"]) for row in kinds.values() if row["words_of_bp"] is not None)
    return " to ".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=ROOT / "results" / "tables" / "headline" / "table.json")
    parser.add_argument("--svg", type=Path, default=ROOT / "docs" / "headline.svg")
    arguments = parser.parse_args()
    arguments.svg.write_text(draw(json.loads(arguments.table.read_text())))
    print(f"wrote {arguments.svg}")


if __name__ == "__main__":
    main()
