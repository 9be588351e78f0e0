"""The generated page shows exported tables beside what it always showed."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from table_parts import TABLE, report

from aplysia.report.files import write_report

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "results_page.py"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, at work in an empty project."""
    spec = importlib.util.spec_from_file_location("results_page", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    (tmp_path / "docs").mkdir()
    (tmp_path / "results" / "tables" / "made-up").mkdir(parents=True)
    return module


def test_an_exported_table_is_shown_with_its_drawing(page: ModuleType, tmp_path: Path) -> None:
    found = replace(report(), table=replace(TABLE, settings=("epochs=2",)))
    write_report(found, tmp_path / "results" / "tables" / "made-up", html=False)
    page.main()
    text = (tmp_path / "docs" / "results.md").read_text()
    assert "## Table `made-up`" in text
    assert "| fBP Φ=1000 | 97.17 ± 1.04 (3) |" in text
    assert "every row with epochs=2" in text
    assert "aplysia table made-up --set epochs=2 --show --out results/tables/made-up" in text
    if (tmp_path / "results/tables/made-up/table.svg").exists():
        assert "](../results/tables/made-up/table.svg)" in text
    assert not (tmp_path / "results/tables/made-up/table.html").exists()
