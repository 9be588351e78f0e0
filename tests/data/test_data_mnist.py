"""IDX files, and the data sets of the MNIST family."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import torch
from data_writers import STEMS, idx_bytes, mnist_arrays, write_idx, write_mnist

from aplysia.data import Emnist, FashionMnist, Kmnist, Mnist
from aplysia.data.idx import read_idx
from aplysia.data.remote import FileState
from aplysia.errors import DataError


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize(
    ("dataset", "folder"), [(Mnist(), "MNIST"), (FashionMnist(), "FashionMNIST"), (Kmnist(), "KMNIST")]
)
def test_reads_what_was_written(dataset, folder, end, tmp_path, rng):
    arrays = mnist_arrays(rng)
    write_mnist(tmp_path / folder / "raw", arrays, end)
    bundle = dataset.load(tmp_path, steps=3, download=False)
    assert bundle.train.inputs.dtype == torch.uint8
    assert bundle.train.labels.dtype == torch.int64
    assert bundle.train.inputs.shape == (20, 1, 28, 28)
    assert np.array_equal(bundle.train.inputs[:, 0].numpy(), arrays[STEMS[0]])
    assert np.array_equal(bundle.test.inputs[:, 0].numpy(), arrays[STEMS[2]])
    assert bundle.test.labels.tolist() == list(range(10))
    assert (bundle.classes, bundle.shape, bundle.temporal, bundle.scale) == (10, (1, 28, 28), False, 1 / 255)
    assert "20 train" in bundle.caveat
    assert "60,000" in bundle.caveat


def test_cut_file_names_file_bytes_and_fix(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(np.zeros((5, 28, 28)))[:-1])
    with pytest.raises(DataError) as raised:
        read_idx(path, 3, "mnist")
    text = str(raised.value)
    assert str(path) in text
    assert "3,936 bytes" in text
    assert "3,935 bytes" in text
    assert "aplysia data fetch mnist" in text


def test_too_long_file_is_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(idx_bytes(np.zeros((5, 28, 28))) + b"x")
    with pytest.raises(DataError, match="3,937 bytes"):
        read_idx(path, 3, "mnist")


def test_gz_of_two_parts_is_one_file(tmp_path):
    data = idx_bytes(np.arange(200).reshape(2, 10, 10))
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(data[:50]) + gzip.compress(data[50:]))
    assert np.array_equal(read_idx(path, 3, "mnist"), np.arange(200).reshape(2, 10, 10))
    path.write_bytes(gzip.compress(data[:50]) + gzip.compress(data[50:])[:-4])
    with pytest.raises(DataError, match="cut or damaged"):
        read_idx(path, 3, "mnist")


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.9])
def test_cut_gz_is_refused(tmp_path, rng, keep):
    path = tmp_path / "images.gz"
    packed = gzip.compress(idx_bytes(rng.integers(0, 256, (50, 28, 28))))
    path.write_bytes(packed[: int(len(packed) * keep)])
    with pytest.raises(DataError, match=r"images\.gz.*cut or damaged"):
        read_idx(path, 3, "mnist")


def test_gz_without_its_checksum_is_refused(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((5, 28, 28))))[:-8])
    with pytest.raises(DataError, match="cut or damaged"):
        read_idx(path, 3, "mnist")


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", idx_bytes(np.zeros(9))])
def test_wrong_magic_is_refused(tmp_path, data):
    path = tmp_path / "images"
    path.write_bytes(data)
    with pytest.raises(DataError, match="begins with 00 00 08 03"):
        read_idx(path, 3, "mnist")


def test_short_header_is_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(bytes([0, 0, 8, 3, 0, 0]))
    with pytest.raises(DataError, match="header of 16 bytes"):
        read_idx(path, 3, "mnist")


@pytest.mark.parametrize(
    ("stem", "array", "words"),
    [
        (STEMS[1], np.full(20, 10), "labels 0 to 9"),
        (STEMS[1], np.zeros(19), "20 images and 19 labels"),
        (STEMS[0], np.zeros((20, 28, 27)), "1×28×27"),
        (STEMS[2], np.zeros((0, 28, 28)), "0 images"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, rng, stem, array, words):
    write_mnist(tmp_path / "MNIST" / "raw", mnist_arrays(rng) | {stem: array})
    with pytest.raises(DataError, match=words) as raised:
        Mnist().load(tmp_path, download=False)
    assert str(raised.value).count("\n") == 0


def test_missing_without_download_says_where_and_what_to_do(tmp_path):
    with pytest.raises(DataError) as raised:
        Mnist().load(tmp_path, download=False)
    text = str(raised.value)
    assert str(tmp_path / "MNIST" / "raw") in text
    assert "aplysia data fetch mnist" in text
    assert "--data" in text
    assert "APLYSIA_DATA" in text


def test_check_tells_missing_from_wrong_from_right(tmp_path, rng):
    assert {report.state for report in Mnist().check(tmp_path)} == {FileState.MISSING}
    write_mnist(tmp_path / "MNIST" / "raw", mnist_arrays(rng), ".gz")
    reports = Mnist().check(tmp_path)
    assert [report.file.name for report in reports] == [f"{stem}.gz" for stem in STEMS]
    assert {report.state for report in reports} == {FileState.WRONG}
    (tmp_path / "MNIST" / "raw" / f"{STEMS[0]}.gz").write_bytes(b"")
    assert Mnist().check(tmp_path)[0].state is FileState.EMPTY


def write_emnist(root, split, rng, first_label, classes):
    raw, written = root / "EMNIST" / "raw", {}
    for part, count in (("train", 2 * classes), ("test", classes)):
        images = rng.integers(0, 256, (count, 28, 28))
        write_idx(raw / f"emnist-{split}-{part}-images-idx3-ubyte", images)
        write_idx(raw / f"emnist-{split}-{part}-labels-idx1-ubyte.gz", np.arange(count) % classes + first_label)
        written[part] = images
    return written


@pytest.mark.parametrize(
    ("split", "first_label", "classes"),
    [
        ("balanced", 0, 47),
        ("letters", 1, 26),
        ("digits", 0, 10),
        ("byclass", 0, 62),
        ("bymerge", 0, 47),
        ("mnist", 0, 10),
    ],
)
def test_emnist_mends_orientation_and_labels(tmp_path, rng, split, first_label, classes):
    written = write_emnist(tmp_path, split, rng, first_label, classes)
    bundle = Emnist(split=split).load(tmp_path, download=False)
    assert bundle.classes == classes
    assert bundle.test.labels.tolist() == list(range(classes))
    assert np.array_equal(bundle.train.inputs[3, 0].numpy(), written["train"][3].T)
    assert not np.array_equal(bundle.train.inputs[3, 0].numpy(), written["train"][3])


def test_emnist_refuses_letters_from_zero_and_unknown_splits(tmp_path, rng):
    write_emnist(tmp_path, "letters", rng, 0, 26)
    with pytest.raises(DataError, match="label -1"):
        Emnist(split="letters").load(tmp_path, download=False)
    with pytest.raises(DataError, match="did you mean 'letters'"):
        Emnist(split="leters")
    with pytest.raises(DataError, match="emnist-digits"):
        Emnist(split="digits").load(tmp_path, download=False)
