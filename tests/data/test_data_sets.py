"""What holds for every data set: facts, catalogue, root; and the digits that are shipped."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import aplysia.data
from aplysia.data import Digits, data_root
from aplysia.data.base import make_split
from aplysia.data.catalogue import datasets
from aplysia.data.remote import FileState
from aplysia.errors import DataError

NAMES = [
    *(
        "cifar10",
        "cifar100",
        "digits",
        "dvs_cifar10",
        "dvs_gesture",
        "emnist",
        "fashion_mnist",
        "image_folder",
        "image_shards",
    ),
    *("kmnist", "mnist", "nmnist", "shd"),
]


def test_catalogue_finds_every_data_set():
    assert list(datasets()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_stated(name):
    dataset = datasets()[name]
    assert dataset.name == name
    assert dataset.summary
    assert dataset.licence
    assert dataset.source
    assert dataclasses.is_dataclass(dataset)
    assert dataset.__dataclass_params__.frozen
    assert not {"name", "summary", "licence", "source", "files"} & {field.name for field in dataclasses.fields(dataset)}
    for file in dataset.files:
        algorithm, _, digits = file.known_hash.partition(":")
        assert len(digits) == {"md5": 32, "sha256": 64}[algorithm]
        assert file.urls
        assert all(url.startswith(("https://", "http://")) for url in file.urls)
        assert not Path(file.path).is_absolute()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("digits", "image_folder", "image_shards")])
def test_check_of_an_empty_root_says_missing(name, tmp_path):
    reports = datasets()[name]().check(tmp_path)
    assert reports
    assert {report.state for report in reports} == {FileState.MISSING}


def test_module_that_fails_to_import_is_not_skipped(tmp_path, monkeypatch):
    (tmp_path / "broken_set.py").write_text("raise ImportError('broken on purpose')")
    monkeypatch.setattr(aplysia.data, "__path__", [*aplysia.data.__path__, str(tmp_path)])
    with pytest.raises(ImportError, match="broken on purpose"):
        datasets()


def test_new_module_is_found(tmp_path, monkeypatch):
    code = (
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from aplysia.data.base import AbstractDataset\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Mine(AbstractDataset):\n    name: ClassVar[str] = 'mine'\n"
        "    def load(self, root, *, steps, download=True): ...\n    def check(self, root): ...\n"
    )
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.setattr(aplysia.data, "__path__", [*aplysia.data.__path__, str(tmp_path)])
    assert list(datasets()) == sorted([*NAMES, "mine"])
    monkeypatch.delitem(sys.modules, "aplysia.data.mine")
    monkeypatch.delattr(aplysia.data, "mine", raising=False)


def test_digits():
    bundle = Digits().load()
    assert bundle.train.inputs.shape == (1442, 1, 8, 8)
    assert bundle.test.inputs.shape == (355, 1, 8, 8)
    assert bundle.train.inputs.dtype == torch.uint8
    assert int(bundle.train.inputs.max()) == 16
    assert bundle.scale * 16 == 1
    assert bundle.train.labels[:8].tolist() == list(range(8))
    assert bundle.test.labels[:8].tolist() == [5, 0, 9, 8, 7, 1, 2, 6]
    assert bundle.test.labels.bincount().tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
    assert int(bundle.train.inputs.sum()) == 450_566
    assert int(bundle.test.inputs.sum()) == 111_152
    assert bundle.train.inputs[0, 0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert Digits().check()[0].state is FileState.OK
    assert Digits().fetch(Path("unused")) == []


def test_digits_are_those_of_the_source():
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn, which ships the same samples, is not installed")
    from sklearn.datasets import load_digits

    source = load_digits()
    bundle = Digits().load()
    pixels = sorted(map(bytes, torch.cat([bundle.train.inputs, bundle.test.inputs]).flatten(1).numpy()))
    assert pixels == sorted(map(bytes, source.data.astype("uint8")))


def test_digits_licence_is_shipped():
    text = (Path(aplysia.data.__path__[0]) / "files" / "LICENSE-digits.txt").read_text()
    assert "Alpaydin" in text
    assert "10.24432/C50P49" in text
    assert "CC BY 4.0" in text


def test_root(monkeypatch, tmp_path):
    monkeypatch.setenv("APLYSIA_DATA", str(tmp_path / "environment"))
    assert data_root(tmp_path / "option") == tmp_path / "option"
    assert data_root(None) == tmp_path / "environment"
    assert data_root("") == tmp_path / "environment"
    monkeypatch.delenv("APLYSIA_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_root(None).name == "aplysia"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root("~/x") == tmp_path / "x"


@pytest.mark.parametrize(
    ("inputs", "labels", "words"),
    [
        (torch.zeros(3, 1, 4, 4), torch.zeros(2), "3 images and 2 labels"),
        (torch.zeros(0, 1, 4, 4), torch.zeros(0), "at least one"),
        (torch.zeros(2, 1, 4, 5), torch.zeros(2), "1×4×4 .* got 1×4×5"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2), "got 3×4×4"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([0, 3]), "labels 0 to 2, got the label 3 at sample 1"),
        (torch.zeros(2, 1, 4, 4), torch.tensor([-1, 0]), "label -1 at sample 0"),
    ],
)
def test_make_split_refuses(inputs, labels, words):
    with pytest.raises(DataError, match=words) as raised:
        make_split(inputs, labels, classes=3, shape=(1, 4, 4), where="the place")
    assert str(raised.value).startswith("the place: ")
