"""Tables and summaries made by hand, for the tests of reports."""

from __future__ import annotations

from typing import Any

from aplysia.recipes import find
from aplysia.report.cells import Found
from aplysia.report.measure import Report, measure
from aplysia.tables.base import Published, Row, Table

BASE = find("digits-mlp")
TABLE = Table(
    name="made-up",
    title="Does <it> hold | or not?",
    rows=(
        Row("BP", BASE, Published(98.5, "Someone 2020, Table 2"), "exact"),
        Row("fBP Φ=1000", BASE, Published(-0.5, "Someone 2020, Figure 3", "inferred", "pp"), "frozen"),
        Row("fBP Φ=7", BASE, Published(-0.1, "Someone 2020, Figure 3", "inferred", "pp"), "frozen"),
        Row("random", BASE, Published(90.0, "a talk", "unknown"), "random"),
        Row("never run", BASE),
    ),
    baseline="BP",
    note="Made by hand.",
)
WORDS = {"BP": 4000, "fBP Φ=1000": 4, "fBP Φ=7": 571, "random": 0}
ACCURACIES = {
    "BP": {0: 0.97, 1: 0.98, 2: 0.99},
    "fBP Φ=1000": {0: 0.96, 1: 0.975, 2: 0.98},
    "fBP Φ=7": {0: 0.97, 1: 0.981, 2: 0.989},
    "random": {1: 0.90},
}


def summary(accuracy: float, words: int, words_bp: int = 4000) -> dict[str, Any]:
    """As much of a `summary.json` as a table reads; every word of four bytes has a five-bit address."""
    return {
        "test_accuracy": accuracy,
        "transport": {"words": words, "bits": 32 * words, "address_bits": 5 * words, "words_bp": words_bp},
    }


def report(**changes: Any) -> Report:
    """The table above, measured."""
    summaries = {(row, s): summary(a, WORDS[row]) for row, found in ACCURACIES.items() for s, a in found.items()}
    return measure(TABLE, Found(summaries, {}, ("half the data",)), **changes)
