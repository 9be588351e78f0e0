"""Where settings came from, and what a mark beside a difference means, stands below the table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from table_parts import TABLE, report, summary

from aplysia.errors import RecipeError, RunError
from aplysia.recipes import find
from aplysia.report.cells import Found
from aplysia.report.measure import as_json, measure
from aplysia.report.render import footnotes
from aplysia.tables.base import Row, Search, Table
from aplysia.tune.command import Request, planned
from aplysia.tune.record import stated, write

SEARCH = Search(
    trials=6, space=("optimiser.lr=0.02:2:log",), samples=12_000, epochs=2, seed=100, record="results/tuning/mine"
)
WIDER = replace(SEARCH, space=(*SEARCH.space, "rule.scale=0.01:1:log"))
BASE = find("digits-mlp")


def notes(*searches: Search | None) -> list[str]:
    names = ("BP", "DFA", "OPZO", "control")[: len(searches)]
    rows = tuple(Row(name, BASE, search=search) for name, search in zip(names, searches, strict=True))
    return footnotes(measure(Table(title="which?", rows=rows, baseline="BP"), Found({}, {}, ())))


def test_rows_of_one_budget_stand_in_one_note_with_their_spaces() -> None:
    assert notes(SEARCH, WIDER, SEARCH, None) == [
        "settings by a search (trials: 6, epochs: 2, training samples: 12,000, seed: 100; results/tuning/mine): "
        "BP, OPZO: optimiser.lr=0.02:2:log; DFA: optimiser.lr=0.02:2:log rule.scale=0.01:1:log",
        "settings without a search: control",
    ]


def test_rows_that_were_not_tuned_alike_are_told() -> None:
    for other in (replace(SEARCH, trials=7), replace(SEARCH, epochs=3), replace(SEARCH, samples=None)):
        assert notes(SEARCH, other)[-1].startswith("warning: the searches differ")
    for alike in (WIDER, replace(SEARCH, record="elsewhere"), replace(SEARCH, seed=1)):
        assert not any("warning" in note for note in notes(SEARCH, alike))


def test_a_table_without_searches_says_nothing_of_them() -> None:
    assert notes(None, None) == []
    assert not any("search" in note for note in footnotes(report()))


def test_the_json_holds_the_search() -> None:
    table = Table(title="which?", rows=(Row("BP", BASE, search=WIDER), Row("DFA", BASE)), baseline="BP")
    rows = json.loads(json.dumps(as_json(measure(table, Found({}, {}, ())))))["rows"]
    assert rows[0]["search"] == {
        "trials": 6, "space": list(WIDER.space), "samples": 12_000, "epochs": 2, "seed": 100, "record": "results/tuning/mine",
    }  # fmt: skip
    assert rows[1]["search"] is None


@pytest.mark.parametrize("wrong", [{"trials": 0}, {"space": ()}, {"samples": 0}, {"epochs": 0}, {"record": " "}])
def test_a_search_that_says_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=f"search {next(iter(wrong))}"):
        replace(SEARCH, **wrong)  # type: ignore[arg-type]


def test_a_table_states_what_a_search_has_left(tmp_path: Path) -> None:
    request = Request(name="digits-mlp", trials=6, rules="symmetric,readout_only", samples=300, epochs=2, out=tmp_path)
    write(planned(request, request.recipe()), (), tmp_path)
    assert stated(tmp_path / "study.json", "readout_only", "results/tuning/mine") == replace(SEARCH, samples=300)
    with pytest.raises(RunError, match="symmetric"):
        stated(tmp_path / "study.json", "symetric", "x")
    with pytest.raises(RunError):
        stated(tmp_path / "none.json", "symmetric", "x")


# ── noise ────────────────────────────────────────────────────────────────────────────────────────────────────────────

WITHIN = "within noise: the 95 % interval of the paired difference holds 0"
ALONE = "a difference without an interval: one seed alone, so nothing tells it from noise"


def test_each_mark_has_its_legend_and_no_legend_is_without_its_mark() -> None:
    def told(accuracies: dict[int, float]) -> list[str]:
        cells = {("BP", seed): summary(x, seed) for seed, x in {0: 0.95, 1: 0.97, 2: 0.96}.items()}
        cells |= {(TABLE.rows[1].name, seed): summary(x, seed) for seed, x in accuracies.items()}
        return [note for note in footnotes(measure(TABLE, Found(cells, {}, ()))) if note in (WITHIN, ALONE)]

    assert told({0: 0.96, 1: 0.96, 2: 0.96}) == [WITHIN]
    assert told({0: 0.85, 1: 0.87, 2: 0.861}) == []
    assert told({0: 0.85}) == [ALONE]
    assert told({}) == []
