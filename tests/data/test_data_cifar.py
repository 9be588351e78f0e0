"""CIFAR in its four forms, and a pickle that wants to run code."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from data_writers import cifar_arrays, python2_batch, tar_of, write_batch
from PIL import Image

from aplysia.data import Cifar10, Cifar100
from aplysia.data.remote import FileState
from aplysia.data.safe_pickle import read_pickle
from aplysia.errors import DataError

NAMES10 = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def batches10(rng):
    return {name: cifar_arrays(rng, 4, 10) for name in NAMES10}


def expect(bundle, batches, names):
    train = np.concatenate([batches[name][0] for name in names[:-1]]).reshape(-1, 3, 32, 32)
    assert np.array_equal(bundle.train.inputs.numpy(), train)
    assert bundle.train.labels.tolist() == np.concatenate([batches[name][1] for name in names[:-1]]).tolist()
    assert np.array_equal(bundle.test.inputs.numpy(), batches[names[-1]][0].reshape(-1, 3, 32, 32))
    assert bundle.test.labels.tolist() == batches[names[-1]][1].tolist()


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickled_batches(tmp_path, rng, protocol):
    batches = batches10(rng)
    for name, (images, labels) in batches.items():
        write_batch(tmp_path / "cifar-10-batches-py" / name, images, labels, protocol=protocol)
    bundle = Cifar10().load(tmp_path, download=False)
    expect(bundle, batches, NAMES10)
    assert bundle.classes == 10
    assert {report.state for report in Cifar10().check(tmp_path)} == {FileState.WRONG}


def test_batch_as_python_2_wrote_it(tmp_path, rng):
    images, labels = cifar_arrays(rng, 4, 10)
    (tmp_path / "batch").write_bytes(python2_batch(images, labels))
    content = read_pickle(tmp_path / "batch", "cifar10")
    assert np.array_equal(content["data"], images)
    assert content["labels"] == labels.tolist()


def test_cifar100_reads_fine_labels(tmp_path, rng):
    batches = {name: cifar_arrays(rng, 7, 100) for name in ("train", "test")}
    for name, (images, labels) in batches.items():
        write_batch(tmp_path / "cifar-100-python" / name, images, labels, key=b"fine_labels")
    bundle = Cifar100().load(tmp_path, download=False)
    expect(bundle, batches, ["train", "test"])
    assert bundle.classes == 100


def test_binary_records(tmp_path, rng):
    batches = batches10(rng)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, (images, labels) in batches.items():
        np.concatenate([labels[:, None], images], 1).astype(np.uint8).tofile(folder / f"{name}.bin")
    expect(Cifar10().load(tmp_path, download=False), batches, NAMES10)


def test_binary_records_of_cifar100_begin_with_the_coarse_label(tmp_path, rng):
    batches = {name: cifar_arrays(rng, 7, 100) for name in ("train", "test")}
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name, (images, labels) in batches.items():
        coarse = np.full((7, 1), 3)
        np.concatenate([coarse, labels[:, None], images], 1).astype(np.uint8).tofile(folder / f"{name}.bin")
    expect(Cifar100().load(tmp_path, download=False), batches, ["train", "test"])


def test_cut_binary_file_is_refused(tmp_path, rng):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    np.zeros(3074 * 2 - 1, np.uint8).tofile(folder / "train.bin")
    with pytest.raises(DataError, match=r"records of 3074 bytes, got 6,147 bytes"):
        Cifar100().load(tmp_path, download=False)


@pytest.mark.parametrize("pickled", [True, False])
def test_archive_is_unpacked(tmp_path, rng, pickled):
    batches = batches10(rng)
    files = {}
    for name, (images, labels) in batches.items():
        if pickled:
            files[f"cifar-10-batches-py/{name}"] = python2_batch(images, labels)
        else:
            record = np.concatenate([labels[:, None], images], 1).astype(np.uint8)
            files[f"cifar-10-batches-bin/{name}.bin"] = record.tobytes()
    tar_of(tmp_path / ("cifar-10-python.tar.gz" if pickled else "cifar-10-binary.tar.gz"), files)
    expect(Cifar10().load(tmp_path, download=False), batches, NAMES10)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".unpack")]


def test_cut_archive_leaves_nothing(tmp_path, rng):
    path = tmp_path / "cifar-10-python.tar.gz"
    tar_of(path, {f"cifar-10-batches-py/{name}": python2_batch(*batch) for name, batch in batches10(rng).items()})
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(DataError, match="damaged"):
        Cifar10().load(tmp_path, download=False)
    assert os.listdir(tmp_path) == ["cifar-10-python.tar.gz"]


def test_archive_that_climbs_out_is_refused(tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    tar_of(inside / "cifar-10-python.tar.gz", {"../climbed": b"x", "cifar-10-batches-py/test_batch": b"x"})
    with pytest.raises(DataError, match="climbed"):
        Cifar10().load(inside, download=False)
    assert not (tmp_path / "climbed").exists()


class Evil:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_pickle_that_runs_code_is_refused(tmp_path, rng):
    target = tmp_path / "ran"
    evil = pickle.dumps({b"data": Evil(target), b"labels": []}, protocol=2)
    pickle.loads(evil)  # the attack works on a plain reader
    assert target.is_dir()
    target.rmdir()
    path = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    path.parent.mkdir()
    path.write_bytes(evil)
    with pytest.raises(DataError, match="mkdir"):
        Cifar10().load(tmp_path, download=False)
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        {b"data": np.zeros((2, 3072), np.int64), b"labels": [0, 1]},
        {b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, -1]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": ["0", "1"]},
        {b"data": np.array([object()]), b"labels": [0]},
        {b"labels": [0]},
        [1, 2],
    ],
)
def test_batches_that_do_not_fit_are_refused(tmp_path, content):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in NAMES10:
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError):
        Cifar10().load(tmp_path, download=False)


def test_missing_batch_is_named(tmp_path, rng):
    batches = batches10(rng)
    for name in NAMES10[1:]:
        write_batch(tmp_path / "cifar-10-batches-py" / name, *batches[name])
    with pytest.raises(DataError, match="data_batch_1"):
        Cifar10().load(tmp_path, download=False)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="aplysia data fetch cifar10"):
        Cifar10().load(tmp_path, download=False)
    assert [report.state for report in Cifar10().check(tmp_path)] == [FileState.MISSING]


def write_folder(root, rng, classes, end, per_class=2):
    written = {}
    for part in ("train", "test"):
        for label in range(classes):
            for i in range(per_class):
                pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
                path = root / "CIFAR10" / part / f"class{label}" / f"{i:03}{end}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                written[part, label, i] = pixels
    return written


def test_folder_of_images(tmp_path, rng):
    written = write_folder(tmp_path, rng, 10, ".png")
    bundle = Cifar10().load(tmp_path, download=False)
    assert bundle.train.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert np.array_equal(bundle.train.inputs[7].numpy(), written["train", 3, 1].transpose(2, 0, 1))
    assert bundle.caveat.startswith("read as image folder")
    (tmp_path / "CIFAR10" / "test" / "class0" / "000.png").rename(tmp_path / "CIFAR10" / "test" / "class0" / "000.jpg")
    assert Cifar10().load(tmp_path, download=False).caveat.startswith("read as JPEG folder")


def test_folder_without_all_classes_is_refused(tmp_path, rng):
    write_folder(tmp_path, rng, 9, ".png", 1)
    with pytest.raises(DataError, match="each of the 10 classes, got 9 folders"):
        Cifar10().load(tmp_path, download=False)


def test_pickled_batches_come_before_the_folder(tmp_path, rng):
    write_folder(tmp_path, rng, 10, ".png", 1)
    batches = batches10(rng)
    for name, (images, labels) in batches.items():
        write_batch(tmp_path / "cifar-10-batches-py" / name, images, labels)
    expect(Cifar10().load(tmp_path, download=False), batches, NAMES10)
