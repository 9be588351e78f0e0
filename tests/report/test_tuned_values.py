"""The values that tables call tuned are those the record of the search names best."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aplysia.tables import find
from aplysia.train.codec import override
from aplysia.train.recipe import AXES

FACTS = {"seed": "seed", "train_samples": "samples", "epochs": "epochs"}
TUNING = Path(__file__).parents[2] / "results" / "tuning"


@pytest.mark.parametrize("path", sorted(TUNING.glob("*.json")), ids=lambda path: path.stem)
def test_rows_have_the_best_settings_of_their_search(path: Path) -> None:
    record = json.loads(path.read_text())
    table = find(path.stem)
    assert {row.name for row in table.rows} == set(record["best"])
    for row in table.rows:
        trials = record["trials"][row.name]
        best = max(trials, key=trials.__getitem__)
        assert record["best"][row.name] == best
        assert row.search is not None
        assert row.search.trials == len(trials) == 6
        assert row.search.record == f"results/tuning/{path.name}"
        assert all(record[key] == getattr(row.search, name) for key, name in FACTS.items())
        assert override(row.recipe, best.split(), AXES) == row.recipe
