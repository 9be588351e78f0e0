"""The README's picture is what the stored table gives, and nothing else."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="pictures need matplotlib (extra 'figures')")

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "results" / "tables" / "headline" / "table.json"


def draw(table: dict) -> str:
    spec = importlib.util.spec_from_file_location("headline_picture", ROOT / "benchmarks" / "headline_picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.draw(table)


def test_the_picture_is_drawn_from_the_stored_table() -> None:
    table = json.loads(TABLE.read_text())
    drawn = draw(table)
    assert (ROOT / "docs" / "headline.svg").read_text() == drawn
    assert "headline.svg" in (ROOT / "README.md").read_text()
    for row in table["rows"]:
        rule = row["row"].partition(": ")[2]
        assert not rule or rule == "BPTT" or rule in drawn


def test_a_number_that_changes_changes_the_picture() -> None:
    table = json.loads(TABLE.read_text())
    before = draw(table)
    table["rows"][3]["accuracy"]["mean"] -= 0.01
    assert draw(table) != before
