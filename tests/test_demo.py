"""The demo: every rule in the table, verdicts that can fail, and a page, and a last line that is a command which works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from aplysia import demo
from aplysia.rules import __all__ as rules


def test_every_rule_has_a_row_and_a_stored_reference() -> None:
    shown = {type(rule).__name__ for rule in demo.variants().values()}
    assert shown == set(rules)
    rows = demo.demo_recipes()
    assert demo.expected().keys() == rows.keys()
    assert list(rows)[-1] == "readout_only"
    assert {type(recipe.neuron).__name__ for recipe in rows.values()} == {"LIF", "Windowed", "Bitstream"}


def test_the_references_separate_learning_from_the_control() -> None:
    stored = demo.expected()
    control = stored["readout_only"]["mean"]
    assert all(row["mean"] > control + 0.05 for name, row in stored.items() if name != "readout_only")
    assert all(row["n"] >= 10 for row in stored.values())


def test_a_verdict_can_go_both_ways() -> None:
    reference = {"mean": 0.95, "sd": 0.01, "n": 20}
    assert demo.verdict([0.95, 0.96, 0.94], reference, 355) == "as expected"
    assert demo.verdict([0.90, 0.91, 0.92], reference, 355) == "differs"
    assert demo.verdict([0.99, 0.99, 0.99], reference, 355) == "differs"


def test_the_demo_prints_one_table_and_ends_with_a_command_that_works(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aplysia", "demo", "--seeds", "1", "--out", "kept"],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in demo.demo_recipes():
        row = re.search(rf"^{re.escape(name)}  .*$", done.stdout, re.M)
        assert row, done.stdout
        assert "as expected" in row[0], row[0]
    last = done.stdout.strip().splitlines()[-1]
    assert last == f"next:  {demo.NEXT}"
    assert (tmp_path / "kept" / "symmetric-s0" / "summary.json").exists()
    assert "report: kept/report.html" in done.stdout
    page = (tmp_path / "kept" / "report.html").read_text()
    assert all(f">{name}<" in page for name in demo.demo_recipes())
    command = [sys.executable, "-m", *demo.NEXT.split(), "--epochs", "1"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300).returncode == 0
