"""A run writes what it costs, and an audit counts it again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.errors import RunError
from aplysia.ledger.amount import Phase, read_book
from aplysia.recipes import find
from aplysia.train.audit_command import show_audit
from aplysia.train.codec import override
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.recipe import AXES
from aplysia.train.run import Run

RUNS = {
    "spikes": ("digits-mlp", []),
    "spike times": ("digits-ttfs", ["rule=frozen", "rule.interval=2", "rule.transport=largest_change"]),
    "streams": ("ssnn-digits", ["stream_length=8"]),
    "noise": ("digits-mlp", ["rule=pseudo_zeroth_order"]),
    "threshold": ("digits-mlp", ["rule=frozen", "rule.interval=2", "rule.transport=threshold"]),
    "every step": ("digits-mlp", ["rule=direct_kolen_pollack", "temporal.update=every_step"]),
}


def trained(folder: Path, recipe: str, settings: list[str]) -> dict[str, Any]:
    made = override(find(recipe), [*settings, "epochs=1", "train_samples=150"], AXES)
    Run(made, RunFolder.create(folder, resume=False), torch.device("cpu"), progress=Progress(1, shown=False)).execute()
    return json.loads((folder / "ledger.json").read_text())


@pytest.mark.parametrize("name", RUNS)
def test_a_run_tells_its_costs_and_the_audit_finds_the_same(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = trained(tmp_path / "run", *RUNS[name])
    step, inference, moved = (
        read_book(part) for part in (ledger["step"], ledger["inference"], ledger["run"]["transport"])
    )
    assert ledger["version"] == 1
    assert all(
        n is None or n >= 0 for part in (step, inference, moved) for one in part for n in vars(one.amount).values()
    )
    assert {one.phase for one in inference} == {Phase.FORWARD}
    assert {Phase.FORWARD, Phase.ERROR, Phase.UPDATE} <= {one.phase for one in step}
    reported = ledger["run"]["reported"]
    assert moved.total().words == reported["words"]
    assert moved.total().bits == reported["bits"]
    stored = sum(line["bytes"] for line in ledger["memory"] if line["kind"] == "weights")
    assert stored == 4 * json.loads((tmp_path / "run" / "summary.json").read_text())["parameters"]
    samples = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert ledger["run"]["steps"] >= math.ceil(ledger["run"]["samples"] / ledger["batch"])
    assert samples["transport"]["words"] == reported["words"]
    assert show_audit(tmp_path / "run", None)
    assert "differs" not in capsys.readouterr().out


def test_an_audit_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "run", *RUNS["spikes"])
    with mock.patch.object(Symmetric, "errors", return_value=[]):
        assert not show_audit(tmp_path / "run", None)
    told = capsys.readouterr().out
    assert "differs: dense2 error macs" in told
    assert "in closed form" in told


def test_an_audit_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected a run folder"):
        show_audit(tmp_path, None)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ("symmetric", {"transport": True, "update_locking": True, "second_phase": False}),
        ("feedback_alignment", {"transport": False, "update_locking": True, "second_phase": False}),
        ("direct_feedback", {"transport": False, "update_locking": False, "second_phase": False}),
        ("weight_mirror", {"transport": False, "update_locking": True, "second_phase": True}),
    ],
)
def test_properties_are_the_claims_that_the_contract_tests_measure(
    rule: str, wanted: dict[str, bool], tmp_path: Path
) -> None:
    found = trained(tmp_path / "run", "digits-mlp", [f"rule={rule}"])["properties"]
    assert wanted.items() <= found.items()
    assert (found["feedback_bytes"] > 0) == (rule != "symmetric")
    assert not found["memory_grows_with_steps"]
    through = trained(tmp_path / "far", "digits-mlp", [f"rule={rule}", "temporal=through_time"])["properties"]
    assert through["memory_grows_with_steps"]
