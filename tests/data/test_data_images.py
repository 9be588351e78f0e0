"""Folders of images, and the cache of what was decoded."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from aplysia.data import ImageFolder
from aplysia.data.cache import FOLDER, cached, listing_key
from aplysia.data.remote import FileState
from aplysia.errors import DataError


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def colour(rng, height=6, width=5):
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_train_and_test_folders(tmp_path, rng):
    pixels = {}
    for part, count in (("train", 3), ("test", 2)):
        for name in ("ape", "bee"):
            for i in range(count):
                pixels[part, name, i] = colour(rng)
                save(tmp_path / "mine" / part / name / f"{i}.png", pixels[part, name, i])
    bundle = ImageFolder(path="mine").load(tmp_path)
    assert bundle.shape == (3, 6, 5)
    assert bundle.classes == 2
    assert bundle.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(bundle.test.inputs[3].numpy(), pixels["test", "bee", 1].transpose(2, 0, 1))
    reports = ImageFolder(path="mine").check(tmp_path)
    assert [report.note for report in reports] == ["6 images", "4 images"]


def test_one_folder_is_cut_by_a_fixed_rule(tmp_path, rng):
    for name in ("ape", "bee"):
        for i in range(10):
            save(tmp_path / "mine" / name / f"{i}.png", np.full((4, 4), 10 * (name == "bee") + i, np.uint8))
    bundle = ImageFolder(path=str(tmp_path / "mine"), channels=1).load(tmp_path / "elsewhere")
    assert bundle.shape == (1, 4, 4)
    assert bundle.test.inputs[:, 0, 0, 0].tolist() == [4, 9, 14, 19]
    assert len(bundle.train) == 16
    assert bundle.test.labels.tolist() == [0, 0, 1, 1]


def test_grey_files_become_colour_and_back(tmp_path, rng):
    for i in range(5):
        save(tmp_path / "mine" / "a" / f"{i}.png", np.full((4, 4), 9, np.uint8))
    assert ImageFolder(path="mine").load(tmp_path).train.inputs.shape == (4, 3, 4, 4)
    assert ImageFolder(path="mine", channels=1).load(tmp_path).train.inputs.unique().tolist() == [9]


def test_first_odd_image_is_named_and_size_mends_it(tmp_path, rng):
    for i in range(5):
        save(tmp_path / "mine" / "a" / f"{i}.png", colour(rng, 6, 5 + (i >= 2)))
    with pytest.raises(DataError, match=r"2\.png: expected an image of 6×5 like 0\.png, got 6×6"):
        ImageFolder(path="mine").load(tmp_path)
    assert ImageFolder(path="mine", size=(7, 3)).load(tmp_path).shape == (3, 7, 3)


def test_large_images_by_threads_keep_their_order(tmp_path):
    for i in range(6):
        save(tmp_path / "mine" / "a" / f"{i}.png", np.full((130, 130), i, np.uint8))
    bundle = ImageFolder(path="mine", channels=1).load(tmp_path)
    assert bundle.train.inputs[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 5]


@pytest.mark.parametrize("data", [b"", b"not an image"])
def test_unreadable_image_is_named(tmp_path, rng, data):
    for i in range(5):
        save(tmp_path / "mine" / "a" / f"{i}.png", colour(rng))
    (tmp_path / "mine" / "a" / "3.png").write_bytes(data)
    with pytest.raises(DataError, match=r"3\.png.*cannot be read"):
        ImageFolder(path="mine").load(tmp_path)


def test_cut_image_is_named(tmp_path, rng):
    for i in range(5):
        save(tmp_path / "mine" / "a" / f"{i}.jpg", colour(rng, 40, 40))
    path = tmp_path / "mine" / "a" / "1.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"1\.jpg.*cannot be read"):
        ImageFolder(path="mine").load(tmp_path)


def test_what_is_missing_is_said(tmp_path, rng):
    with pytest.raises(DataError, match="one sub-folder per class"):
        ImageFolder(path="mine").load(tmp_path)
    assert ImageFolder(path="mine").check(tmp_path)[0].state is FileState.MISSING
    (tmp_path / "mine").mkdir()
    with pytest.raises(DataError, match="one folder per class"):
        ImageFolder(path="mine").load(tmp_path)
    (tmp_path / "mine" / "a").mkdir()
    with pytest.raises(DataError, match="image files of one class"):
        ImageFolder(path="mine").load(tmp_path)
    for part, name in (("train", "a"), ("test", "b")):
        save(tmp_path / "other" / part / name / "0.png", colour(rng))
    with pytest.raises(DataError, match="a, b in one of them"):
        ImageFolder(path="other").load(tmp_path)
    with pytest.raises(DataError, match="channels 1"):
        ImageFolder(path="mine", channels=2)


def test_changed_files_are_decoded_again(tmp_path, rng):
    for i in range(5):
        save(tmp_path / "mine" / "a" / f"{i}.png", np.full((4, 4), 1, np.uint8))
    dataset = ImageFolder(path="mine", channels=1)
    assert dataset.load(tmp_path).train.inputs.unique().tolist() == [1]
    save(tmp_path / "mine" / "a" / "0.png", np.full((4, 4), 2, np.uint8))
    os.utime(tmp_path / "mine" / "a" / "0.png", ns=(1, 1))
    assert dataset.load(tmp_path).train.inputs.unique().tolist() == [1, 2]


def test_cache_is_used_checked_and_never_half_written(tmp_path):
    calls = []

    def build():
        calls.append(1)
        return {"a": np.arange(5)}

    for _ in range(2):
        assert cached(tmp_path, "x", "key", build)["a"].tolist() == [0, 1, 2, 3, 4]
    assert len(calls) == 1
    cached(tmp_path, "x", "another key", build)
    assert len(calls) == 2
    path = tmp_path / FOLDER / "x.npz"
    for damage in (b"", b"x" * 100, path.read_bytes()[:-10]):
        path.write_bytes(damage)
        assert cached(tmp_path, "x", "another key", build)["a"].tolist() == [0, 1, 2, 3, 4]
    assert len(calls) == 5
    assert os.listdir(tmp_path / FOLDER) == ["x.npz"]


def test_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    assert cached(tmp_path, "x", "key", lambda: {"a": np.arange(3)})["a"].tolist() == [0, 1, 2]


def test_listing_key_sees_size_time_and_name(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12")
    os.utime(path, ns=(5, 5))
    first = listing_key([path])
    os.utime(path, ns=(5, 6))
    second = listing_key([path])
    path.write_bytes(b"123")
    os.utime(path, ns=(5, 6))
    third = listing_key([path])
    fourth = listing_key([path.rename(tmp_path / "b")])
    assert len({first, second, third, fourth, listing_key([])}) == 5
