"""The section of docs/results.md on adopted models."""

from __future__ import annotations

import json
import statistics
from pathlib import Path


def adopted(path: Path) -> list[str]:
    """Accuracy of each library's model by its own BPTT and by our rules, and how far gradients of the symmetric rule are."""
    stored = json.loads(path.read_text())
    lines = [
        "## Models of other libraries, adopted",
        "",
        f"Fashion-MNIST, {stored['samples']:,} training images, the whole test set, {stored['net']}, T = {stored['steps']}, "
        f"{stored['optimiser']} for all, {stored['updates']} updates, {len(stored['seeds'])} seeds, torch {stored['torch']} "
        "(`benchmarks/adopted.py`).",
        "",
        "| library | learnt by | test accuracy % | to its own BPTT, pp | gradients of `symmetric`: largest relative gap |",
        "| --- | --- | --- | --- | --- |",
    ]
    for library, found in stored["libraries"].items():
        (own, *_), parity = found["accuracy"].values(), found["parity"]
        for rule, values in found["accuracy"].items():
            mean, spread = 100 * statistics.mean(values), 100 * statistics.stdev(values)
            gap = 100 * (statistics.mean(values) - statistics.mean(own))
            told = ("", "") if values is own else (f"{gap:+.2f}", "")
            if values is own:
                exact = "output equal bit for bit" if parity["output equal"] else "**output differs**"
                told = ("", f"{parity['gradients, largest relative gap']:.1g}; {exact}")
            lines.append(f"| {library} | {rule} | {mean:.2f} ± {spread:.2f} | {told[0]} | {told[1]} |")
    return [*lines, ""]


SECTIONS = {"adopted.json": adopted}
