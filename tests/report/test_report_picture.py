"""The pictures: every measured row is in them, and the page asks nobody for anything."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import pytest
from table_parts import TABLE, report

from aplysia.report.cells import Found
from aplysia.report.layout import COLOURS, MARKERS, layout
from aplysia.report.measure import measure
from aplysia.report.picture import figure_html, figure_svg

EMPTY = measure(TABLE, Found({}, {}, ()))


def test_rows_that_move_nothing_stand_apart_on_the_left() -> None:
    plan = layout(report())
    places = {point.measured.row.name: point.x for point in plan.points}
    assert places["random"] == plan.nothing
    assert plan.wall is not None
    assert plan.nothing is not None
    assert plan.low < plan.nothing < plan.wall < places["fBP Φ=1000"] < places["fBP Φ=7"] < places["BP"] < plan.high
    assert plan.ticks[0] == (plan.nothing, "0")
    assert [plan.ticks[i][1] for i in (1, -1)] == ["1/1,000", "1"]


def test_without_such_rows_there_is_no_such_place() -> None:
    plan = layout(report(rows=TABLE.rows[:2]))
    assert plan.nothing is None
    assert plan.wall is None
    assert layout(report(rows=TABLE.rows[3:4])).nothing is not None  # and nothing else: still an axis


def test_groups_differ_in_colour_and_in_marker() -> None:
    plan = layout(report())
    assert [name for name, _ in plan.groups] == ["exact", "frozen", "random"]
    assert len({points[0].style for _, points in plan.groups}) == 3
    assert len(set(COLOURS)) == len(COLOURS)
    assert len(set(MARKERS)) == len(MARKERS)


def test_one_seed_has_no_error_bar() -> None:
    halves = {point.measured.row.name: point.half for point in layout(report()).points}
    assert halves["random"] is None
    assert halves["BP"] == pytest.approx(4.30265 / 3**0.5, abs=1e-4)


def test_the_page_works_without_a_network() -> None:
    page = figure_html(report())
    assert page is not None
    assert len(page) > 1e6  # plotly.js is in it
    # Tags outside the scripts' own text: none fetches anything.
    outside = re.sub(r"(<script[^>]*>).*?</script>", r"\1", page, flags=re.S)
    assert "http" not in outside
    assert not re.search(r"<script[^>]*\bsrc\b", outside)
    assert not re.search(r"<(?:link|img|iframe)[^>]*(?:href|src)=[\"'](?!data:)", outside)
    for text in ("fBP \\u03a6=1000", "97.17 \\u00b1 1.04 (3)", "random", "circle", "square"):
        assert text in page, text
    assert "never run" not in page
    assert "<it>" not in outside


def test_the_drawing_is_svg_and_the_same_twice() -> None:
    pytest.importorskip("matplotlib")
    drawn = figure_svg(report())
    assert drawn is not None
    ElementTree.fromstring(drawn)
    assert drawn == figure_svg(report())
    for text in ("fBP Φ=1000", "random", "frozen", "test accuracy"):
        assert text in drawn, text
    assert len(drawn) < 1e5


def test_without_matplotlib_there_is_no_drawing_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert figure_svg(report()) is None


def test_nothing_measured_makes_no_picture() -> None:
    assert figure_html(EMPTY) is None
    assert figure_svg(EMPTY) is None
