"""`aplysia.load`: a run folder, or its weights alone, gives the net that was tested; what cannot be loaded says why."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import aplysia
from aplysia.errors import RunError
from aplysia.recipes import find
from aplysia.train import folder as folder_module
from aplysia.train.folder import RunFolder
from aplysia.train.load import Loaded
from aplysia.train.run import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """One epoch with everything that changes what a net gets or how its weights act."""
    path = tmp_path_factory.mktemp("runs") / "run"
    recipe = replace(
        find("digits-mlp"), net="F24-F20-F10", epochs=1, standardise=True, gain=2.0, normalise=True, dropout=0.1
    )
    return path, Run(recipe, RunFolder.create(path, resume=False), torch.device("cpu")).execute()


def accuracy(loaded: Loaded) -> float:
    test = loaded.recipe.data.load(Path(), steps=loaded.recipe.steps).test
    assert isinstance(test.inputs, torch.Tensor)
    out, spikes = loaded.net.predict(loaded.input(test.inputs))
    assert bool((spikes[:-1] > 100).all())
    return float((out.argmax(1) == test.labels).double().mean())


def test_a_loaded_net_gives_the_accuracy_of_its_run(trained: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    path, summary = trained
    loaded = aplysia.load(path)
    assert not loaded.net.training
    assert loaded.recipe.standardise
    assert accuracy(loaded) == summary["test_accuracy"]
    # The file alone, anywhere, is enough.
    shutil.copy(path / "model.safetensors", tmp_path / "mine.safetensors")
    alone = aplysia.load(tmp_path / "mine.safetensors")
    assert alone.recipe == loaded.recipe
    assert accuracy(alone) == summary["test_accuracy"]


def test_without_the_mean_of_the_training_set_the_accuracy_is_another(trained: tuple[Path, dict[str, object]]) -> None:
    """So the test above can fail."""
    loaded = aplysia.load(trained[0])
    assert loaded.mean is not None
    assert accuracy(replace(loaded, mean=None, std=None)) != trained[1]["test_accuracy"]


def test_the_weights_are_still_plain_safetensors(trained: tuple[Path, dict[str, object]]) -> None:
    tensors = load_file(trained[0] / "model.safetensors")
    net = aplysia.load(trained[0]).net
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        name: tuple(t.shape) for name, t in net.state_dict().items()
    }
    assert all(torch.equal(t, net.state_dict()[name]) for name, t in tensors.items())


def test_a_file_of_an_older_version_loads_from_its_folder(
    trained: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    path, _ = trained
    tensors = load_file(path / "model.safetensors")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        RunError, match=r"expected a recipe in its header, or recipe\.json beside it, got neither; leave"
    ):
        aplysia.load(tmp_path)
    shutil.copy(path / "recipe.json", tmp_path)
    loaded = aplysia.load(tmp_path)
    assert all(torch.equal(t, loaded.net.state_dict()[name]) for name, t in tensors.items())
    with pytest.raises(RunError, match="expected scale, mean and deviation of its samples, got none"):
        loaded.input(torch.zeros(2, 1, 8, 8))


def test_what_cannot_be_loaded_says_why(
    trained: tuple[Path, dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = trained
    with pytest.raises(RunError, match=r"expected a finished run, or its model\.safetensors, got none; check the path"):
        aplysia.load(tmp_path / "no" / "where")
    (tmp_path / "half").mkdir()
    shutil.copy(path / "recipe.json", tmp_path / "half")
    with pytest.raises(RunError, match="got a run that is not finished; let it finish"):
        aplysia.load(tmp_path / "half")

    whole = (path / "model.safetensors").read_bytes()
    file = tmp_path / "model.safetensors"
    for damaged in (whole[:-7], whole[:100], b"", whole[:-4] + bytes([whole[-4] ^ 1]) + whole[-3:]):
        file.write_bytes(damaged)
        with pytest.raises(RunError, match=r"expected a whole model, got .*; restore the file, or train the run again"):
            aplysia.load(file)

    shutil.copy(path / "checkpoint.safetensors", file)
    with pytest.raises(RunError, match="expected a model of Aplysia, got a checkpoint"):
        aplysia.load(file)
    monkeypatch.setattr(folder_module, "FORMAT", 2)
    RunFolder(tmp_path).save_model({"a": torch.zeros(1)}, {"recipe": {}})
    monkeypatch.setattr(folder_module, "FORMAT", 1)
    with pytest.raises(RunError, match="got format 2 of a newer Aplysia; update Aplysia"):
        aplysia.load(file)


def test_a_recipe_of_a_newer_version_is_one_sentence(trained: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    path, _ = trained
    recipe = json.loads((path / "recipe.json").read_text()) | {"telepathy": True}
    notes = {"recipe": recipe, "shape": [1, 8, 8], "version": "9.1", "scale": 1.0, "mean": None, "std": None}
    RunFolder(tmp_path).save_model(load_file(path / "model.safetensors"), notes)
    with pytest.raises(RunError, match=r"got 'telepathy' at telepathy; .* or use the version that wrote it \(9\.1\)"):
        aplysia.load(tmp_path)
