"""Tables over the length of a sequence: further columns, levels, and lines in place of points."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from table_parts import BASE, summary

from aplysia.report.cells import Found
from aplysia.report.layout import layout
from aplysia.report.measure import Report, as_json, measure
from aplysia.report.picture import figure_html, figure_svg
from aplysia.report.render import columns, lines
from aplysia.tables.base import Column, Row, Table

TABLE = Table(
    name="lengths",
    title="How long?",
    rows=(
        Row("net", replace(BASE, steps=1), group="net", level=True),
        *(Row(f"bits N={n}", replace(BASE, steps=n), group="bits") for n in (32, 8)),
        Row("counts N=8", replace(BASE, steps=8), group="counts"),
    ),
    baseline="net",
    axis="steps",
    extra=(Column("limit", "endless %", 100.0, drawn=True), Column("loss", "loss")),
)


def report() -> Report:
    found: dict[tuple[str, int], dict[str, Any]] = {
        ("net", 0): summary(0.99, 10) | {"loss": 0.1, "limit": None},
        ("bits N=8", 0): summary(0.90, 10) | {"loss": 0.5, "limit": 0.97},
        ("bits N=8", 1): summary(0.92, 10) | {"loss": 0.7, "limit": 0.98},
        ("bits N=32", 0): summary(0.95, 10) | {"loss": 0.25, "limit": 0.985},
        ("counts N=8", 0): summary(0.91, 10),  # an older run, which lacks the numbers
    }
    return measure(TABLE, Found(found, {}, ()))


def test_further_columns_stand_behind_the_accuracy() -> None:
    assert columns(report())[1:4] == ["test accuracy %, mean ± sd (n)", "endless %", "loss"]
    told = {row[0]: row for row in lines(report())}
    assert told["bits N=8"][2:4] == ["97.50 ± 0.71", "0.600 ± 0.141"]
    assert told["bits N=32"][2:4] == ["98.50", "0.250"]
    assert told["net"][2:4] == ["n/a", "0.100"]
    assert told["counts N=8"][2:4] == ["n/a", "n/a"]
    assert all(len(row) == len(columns(report())) for row in told.values())


def test_further_columns_are_in_the_json() -> None:
    rows = {row["row"]: row["extra"] for row in json.loads(json.dumps(as_json(report())))["rows"]}
    assert rows["bits N=8"]["limit"]["mean"] == pytest.approx(97.5)
    assert rows["bits N=8"]["limit"]["n"] == 2
    assert rows["net"]["limit"] is None


def test_rows_stand_over_their_steps_and_levels_go_across() -> None:
    plan = layout(report())
    assert [(point.measured.row.name, point.x) for point in plan.points] == [
        ("bits N=32", 32.0),
        ("bits N=8", 8.0),
        ("counts N=8", 8.0),
    ]
    assert plan.ticks == ((8.0, "8"), (32.0, "32"))
    assert plan.low < 8.0 < 32.0 < plan.high
    assert plan.levels == ((pytest.approx(99.0), "net"),)
    assert plan.joined
    assert plan.wall is None
    (dashed,) = plan.dashed  # counts have no number for it
    assert dashed[0] == "bits: endless %"
    assert dict(zip(dashed[1], dashed[2], strict=True)) == pytest.approx({8.0: 97.5, 32.0: 98.5})


def test_both_pictures_are_drawn() -> None:
    page = figure_html(report())
    assert page is not None
    assert "endless %" in page
    drawn = figure_svg(report())
    if drawn is None:
        pytest.skip("no matplotlib here")
    texts = {"".join(node.itertext()).strip() for node in ElementTree.fromstring(drawn).iter() if "text" in node.tag}
    assert {"bits", "counts", "bits: endless %", "net", "8", "32"} <= texts
    assert "bits N=8" not in texts  # lines have a legend, not a name at each point
