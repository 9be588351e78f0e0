"""Runs that start from another run's weights, train on a part of the data, and are tested under their noise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from aplysia.data.base import Split
from aplysia.data.splits import part_of
from aplysia.errors import DataError, RecipeError, RunError
from aplysia.recipes import find
from aplysia.train.codec import override
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.recipe import AXES
from aplysia.train.run import Run
from aplysia.train.weights import load_weights

SMALL = ["net=F16-F10", "epochs=2", "steps=4", "validation=0", "compiled=false"]


def run(folder: Path, *settings: str) -> dict[str, Any]:
    said = [text.partition("=")[0] for text in settings]
    defaults = [text for text in SMALL if text.partition("=")[0] not in said]
    recipe = override(find("digits-mlp"), [*defaults, *settings], AXES)
    made = RunFolder.create(folder, resume=folder.exists())
    quiet = Progress(recipe.epochs, shown=False)
    return Run(recipe, made, torch.device("cpu"), progress=quiet).execute()


# --- a part of the training set ---------------------------------------------------------------------------------------


def test_a_part_has_equal_shares_of_each_class_and_is_always_the_same() -> None:
    labels = torch.tensor([0] * 10 + [1] * 50 + [2] * 40)
    split = Split(torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1), labels)
    part = part_of(split, 30)
    assert torch.bincount(part.labels).tolist() == [10, 10, 10]
    assert torch.equal(part.inputs, part_of(split, 30).inputs)
    assert set(part.inputs.flatten().tolist()) < set(part_of(split, 60).inputs.flatten().tolist())
    assert torch.equal(part.labels, labels[part.inputs.flatten().long()])
    assert torch.bincount(part_of(split, 60).labels).tolist() == [10, 25, 25]
    assert len(part_of(split, 100)) == 100


def test_a_part_larger_than_the_whole_is_refused() -> None:
    with pytest.raises(DataError, match="at most its 4 samples"):
        part_of(Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)), 5)


def test_a_run_trains_on_the_part_and_is_tested_on_the_whole(tmp_path: Path) -> None:
    run(tmp_path / "part", "train_samples=128", "batch_size=64")
    assert json.loads((tmp_path / "part" / "ledger.json").read_text())["run"]["steps"] == 2 * 2
    with pytest.raises(DataError, match="train_samples"):
        run(tmp_path / "more", "train_samples=2000")
    with pytest.raises(RecipeError, match="train_samples"):
        run(tmp_path / "none", "train_samples=0")


# --- from weights -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(folder)
    return folder


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_a_run_starts_from_the_weights_of_another(trained: Path, tmp_path: Path, name: str) -> None:
    """Hidden weights stay where they start under the readout-only rule; its readout moves on from where it was."""
    summary = run(tmp_path / "on", f"weights={trained / name}", "rule=readout_only", "optimiser.lr=0.001", "seed=3")
    before, after = load_file(trained / "model.safetensors"), load_file(tmp_path / "on" / "model.safetensors")
    assert torch.equal(before["layers.dense1.weight"], after["layers.dense1.weight"])
    moved = (after["layers.readout.weight"] - before["layers.readout.weight"]).norm()
    assert 0 < float(moved) < 0.1 * float(before["layers.readout.weight"].norm())
    assert summary["test_accuracy"] > 0.85


def test_a_resumed_run_does_not_need_the_file_any_more(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    first = run(tmp_path / "on", f"weights={copy}")
    shutil.rmtree(copy)
    (tmp_path / "on" / "summary.json").unlink()
    again = run(tmp_path / "on", f"weights={copy}")
    assert again["test_accuracy"] == first["test_accuracy"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"nonsense"), "model.safetensors of a finished run"),
    ],
    ids=["missing", "damaged"],
)
def test_a_file_that_is_none_is_refused(trained: Path, tmp_path: Path, spoil: Callable[[Path], Any], told: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    spoil(copy / "model.safetensors")
    with pytest.raises(RunError, match=told):
        run(tmp_path / "on", f"weights={copy}")


def test_weights_of_another_net_are_refused_by_name(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"dense1\.bias \(12,\).*\(16,\).*2 more"):
        run(tmp_path / "on", f"weights={trained}", "net=F12-F10")
    net = find("digits-mlp").build_net(find("digits-mlp").data.load(tmp_path, steps=4))
    with pytest.raises(RunError, match=r"dense1\.bias \(128,\)"):
        load_weights(net, trained)


# --- tested under noise -----------------------------------------------------------------------------------------------


def test_a_run_under_noise_is_tested_without_and_with_it(trained: Path, tmp_path: Path) -> None:
    still = ["rule=readout_only", "optimiser.lr=1e-30", "epochs=1", f"weights={trained}"]
    quiet = run(tmp_path / "quiet", *still)
    assert quiet["noisy_test_accuracy"] is None
    little, much = (run(tmp_path / f"a{a}", *still, f"rule.noise.alpha={a}") for a in (0.01, 5))
    assert little["test_accuracy"] == much["test_accuracy"] == quiet["test_accuracy"]
    assert abs(little["noisy_test_accuracy"] - quiet["test_accuracy"]) < 0.02
    assert much["noisy_test_accuracy"] < quiet["test_accuracy"] - 0.2
