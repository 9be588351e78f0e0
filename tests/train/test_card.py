"""The model card: at the end of every run, from the run's own files alone, and only what they say."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.errors import RunError
from aplysia.recipes import find
from aplysia.train.card import card, write_card
from aplysia.train.folder import RunFolder
from aplysia.train.run import Run

FILES = {"recipe.json", "summary.json", "run.json", "ledger.json"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    recipe = replace(find("digits-mlp"), net="F24-F10", epochs=1, rule=PseudoZerothOrder(), normalise=True)
    Run(recipe, RunFolder.create(path, resume=False), torch.device("cpu")).execute()
    return path


def test_a_run_ends_with_its_card(run: Path, tmp_path: Path) -> None:
    written = (run / "model_card.md").read_text()
    for name in FILES:
        shutil.copy(run / name, tmp_path)
    assert card(tmp_path) == written == card(run)  # of these four files and nothing else
    assert write_card(tmp_path).read_text() == written


def test_it_says_what_the_files_say(run: Path) -> None:
    text, summary, ledger = card(run), *(json.loads((run / f"{n}.json").read_text()) for n in ("summary", "ledger"))
    assert f"test accuracy {summary['test_accuracy']:.2%}" in text
    assert f"{summary['parameters']:,} parameters" in text
    assert f"After: {PseudoZerothOrder.paper}" in text
    assert "CC BY 4.0" in text
    assert "mean and deviation taken off" in text
    assert all(f"{name} {rate:.3f}" in text for name, rate in summary["rates"].items())
    macs = sum(entry["macs"] for entry in ledger["step"]) / ledger["batch"]
    assert f"a learnt sample: {macs:,.0f} MACs" in text
    assert f"{sum(line['bytes'] for line in ledger['memory']):,} bytes" in text
    titles = re.findall(r"^## (.+)$", text, re.M)
    assert titles[-2:] == ["Intended use and limits", "Provenance"]
    assert len(titles) == 8
    assert len(text.splitlines()) < 70


@pytest.mark.parametrize(("left_out", "section"), [("ledger.json", "Needs of a chip"), ("run.json", "Provenance")])
def test_what_no_file_says_is_left_out(run: Path, tmp_path: Path, left_out: str, section: str) -> None:
    for name in FILES - {left_out}:
        shutil.copy(run / name, tmp_path)
    assert section in card(run)
    assert section not in card(tmp_path)


def test_a_rule_that_is_not_here_is_no_obstacle(run: Path, tmp_path: Path) -> None:
    for name in FILES:
        shutil.copy(run / name, tmp_path)
    recipe = json.loads((run / "recipe.json").read_text()) | {"rule": {"kind": "gone.py:Gone"}}
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    assert "After:" not in card(tmp_path)
    assert "gone.py:Gone" in card(tmp_path)


def test_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"expected a finished run with its summary\.json, got none"):
        card(tmp_path)
    shutil.copy(run / "recipe.json", tmp_path)
    with pytest.raises(RunError, match="got one that is not finished"):
        card(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(RunError, match="expected the files of a run, got KeyError"):
        card(tmp_path)
