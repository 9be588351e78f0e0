"""Learning curves of a table's rows, on folders made by hand."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from table_parts import TABLE

from aplysia.report.dynamics import dynamics, write_dynamics
from aplysia.train.folder import RunFolder

CURVES = {"bp-s0": [0.5, 0.7, 0.8], "bp-s3": [0.6, 0.8], "random-s1": [0.1, 0.2]}


def cells(out: Path, key: str = "val_accuracy") -> Path:
    for name, values in CURVES.items():
        folder = RunFolder.create(out / name, resume=False)
        for epoch, value in enumerate(values, start=1):
            folder.append_metrics({"epoch": epoch, "train_accuracy": value / 2, key: value})
    return out


def test_means_and_spreads_over_the_seeds_that_have_come_as_far(tmp_path: Path) -> None:
    bp, random = dynamics(TABLE, cells(tmp_path))
    assert (bp.row, bp.seeds, bp.quantity) == ("BP", 2, "val_accuracy")
    assert bp.mean == pytest.approx((0.55, 0.75))
    assert bp.spread == pytest.approx((statistics.stdev([0.5, 0.6]), statistics.stdev([0.7, 0.8])))
    assert (random.row, random.mean, random.spread) == ("random", (0.1, 0.2), (0.0, 0.0))


def test_without_held_out_samples_the_training_sets_is_shown(tmp_path: Path) -> None:
    assert {curve.quantity for curve in dynamics(TABLE, cells(tmp_path, "other"))} == {"train_accuracy"}


def test_files_are_written_where_there_is_more_than_one_epoch(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert write_dynamics(TABLE, tmp_path / "empty", tmp_path) == []
    out = cells(tmp_path / "cells")
    target = tmp_path / "target"
    target.mkdir()
    assert write_dynamics(TABLE, out, target) == ["dynamics.json", "dynamics.svg"]
    stored = json.loads((target / "dynamics.json").read_text())
    assert stored["BP"]["mean"] == [0.55, 0.75]
    drawing = (target / "dynamics.svg").read_text()
    assert "BP (2)" in drawing
    assert "held-out accuracy, %" in drawing
    assert write_dynamics(TABLE, out, target) == ["dynamics.json", "dynamics.svg"]
    assert (target / "dynamics.svg").read_text() == drawing
