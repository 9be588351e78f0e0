"""The numbers of a table by hand, and its text."""

from __future__ import annotations

import json
import math

import pytest
from table_parts import TABLE, report, summary

from aplysia.report.cells import Found
from aplysia.report.measure import as_json, measure
from aplysia.report.render import columns, footnotes, lines, markdown, share


def test_accuracies_differences_and_traffic_by_hand() -> None:
    bp, frozen, close, random, never = report().rows
    assert bp.accuracy is not None
    assert (bp.accuracy.mean, bp.accuracy.sd, bp.accuracy.n) == pytest.approx((98.0, 1.0, 3))
    assert bp.difference is None
    assert frozen.difference is not None
    # Paired: −1, −0.5, −1, whose spread is not that of the two columns.
    half = 4.30265 * math.sqrt(1 / 12) / math.sqrt(3)
    found = (frozen.difference.mean, frozen.difference.low, frozen.difference.high)
    assert found == pytest.approx((-5 / 6, -5 / 6 - half, -5 / 6 + half), abs=1e-4)
    assert frozen.difference.within_noise is False
    assert close.difference is not None
    assert close.difference.within_noise is True
    assert random.difference is not None
    assert (random.difference.mean, random.difference.n) == pytest.approx((-8.0, 1))  # over the one seed both have
    assert random.difference.within_noise is None
    assert (frozen.words, random.words, bp.words) == (0.001, 0.0, 1.0)
    assert frozen.bits == pytest.approx(0.001 * 37 / 32)
    assert never.accuracy is None


def test_what_is_missing_is_told_and_what_is_not_asked_for_is_not() -> None:
    assert report().missing == ["random s0", "never run s0", "never run s1", "random s2", "never run s2"]
    some = report(rows=TABLE.rows[:2], seeds=(1, 2))
    assert some.missing == []
    assert [row.row.name for row in some.rows] == ["BP", "fBP Φ=1000"]
    assert some.rows[0].accuracy is not None
    assert some.rows[0].accuracy.mean == pytest.approx(98.5)
    # The baseline is used although it is not shown.
    assert report(rows=TABLE.rows[1:2]).rows[0].difference is not None


def test_a_net_without_feedback_has_no_share() -> None:
    (row, *_) = measure(TABLE, Found({("BP", 0): summary(0.9, 0, words_bp=0)}, {}, ())).rows
    assert (row.words, row.bits) == (None, None)


def test_the_cells_of_the_table() -> None:
    assert columns(report())[2] == "difference to BP, pp [95 %]"
    bp, frozen, close, random, never = lines(report())
    assert bp == ["BP", "98.00 ± 1.00 (3)", "baseline", "1", "1.16", "98.5 [1]"]
    assert frozen == ["fBP Φ=1000", "97.17 ± 1.04 (3)", "-0.83 [-1.55, -0.12]", "1/1,000", "1/865", "~-0.5 pp [2]"]
    assert close[2].endswith("within noise")
    assert random == ["random", "90.00 (1)", "-8.00", "0", "0", "?90 [3]"]
    assert never == ["never run", "missing", "n/a", "n/a", "n/a", ""]


def test_the_footnotes() -> None:
    notes = footnotes(report(failed={("never run", 0): "expected luck, got none; try again."}))
    assert notes[0] == "Made by hand."
    assert "[1] Someone 2020, Table 2 (confirmed)" in notes
    assert "[2] Someone 2020, Figure 3 (inferred, marked ~)" in notes
    assert "[3] a talk (unknown, marked ?)" in notes
    assert "data: half the data" in notes
    assert "failed: never run s0: expected luck, got none; try again." in notes
    assert not any("never run s0" in note for note in notes if note.startswith("missing"))


def test_a_row_with_failed_cells_says_so() -> None:
    found = report(failed={("never run", 0): "no.", ("random", 0): "no."})
    assert lines(found)[4][1] == "failed"
    assert lines(found)[3][1] == "90.00 (1, 1 failed)"


def test_the_markdown_is_a_table_whatever_the_names_hold() -> None:
    text = markdown(report())
    assert text.startswith("**Does \\<it> hold \\| or not?**\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(TABLE.rows)
    assert {line.replace("\\|", "").count("|") for line in rows} == {7}


def test_the_json_holds_every_number_and_is_strict() -> None:
    stored = json.loads(json.dumps(as_json(report()), allow_nan=False))
    frozen = stored["rows"][1]
    assert frozen["accuracies"] == pytest.approx({"0": 96.0, "1": 97.5, "2": 98.0})
    assert frozen["published"] == {
        "value": -0.5, "source": "Someone 2020, Figure 3", "certainty": "inferred", "unit": "pp",
    }  # fmt: skip
    assert frozen["difference"]["within_noise"] is False
    assert stored["baseline"] == "BP"
    assert stored["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("x", "text"),
    [
        *((None, "n/a"), (0.0, "0"), (1.0, "1"), (0.5, "0.5"), (0.1, "1/10"), (1 / 32, "1/32"), (1e-3, "1/1,000")),
        *((1 / 985.4, "1/985"), (1 / 12345, "1/12,300"), (1.5, "1.5"), (1.15625, "1.16")),
    ],
)
def test_shares_are_written_as_one_says_them(x: float | None, text: str) -> None:
    assert share(x) == text
