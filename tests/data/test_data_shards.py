"""Tar shards: the same images, labels and order as a folder of them; what is wrong with a shard is said."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aplysia.data.base import FileState
from aplysia.data.image_folder import ImageFolder
from aplysia.data.image_shards import ImageShards
from aplysia.data.loader import Loader
from aplysia.errors import DataError
from aplysia.recipes import find
from aplysia.train.codec import override
from aplysia.train.folder import RunFolder
from aplysia.train.recipe import AXES
from aplysia.train.run import Run

CLASSES, SIZE = 3, (20, 24)


def picture(source: np.random.Generator, label: int) -> bytes:
    """A PNG, brighter from class to class."""
    stream = io.BytesIO()
    pixels = source.integers(80 * label, 80 * label + 60, (*source.integers(30, 50, 2), 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def write(shard: Path, samples: Iterator[tuple[str, bytes]] | list[tuple[str, bytes]]) -> None:
    """A tar of named bytes."""
    shard.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(shard, "w") as opened:
        for name, data in samples:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))


def both(root: Path, train: int = 7, test: int = 3) -> Path:
    """The same images as a folder and as shards of five samples."""
    source = np.random.default_rng(0)
    for part, kind, count in (("train", "train", train), ("test", "val", test)):
        samples: list[list[tuple[str, bytes]]] = []
        for label in range(CLASSES):
            inside = root / "pictures" / part / f"class{label}"
            inside.mkdir(parents=True)
            for number in range(count):
                data = picture(source, label)
                (inside / f"{number}.png").write_bytes(data)
                samples.append(
                    [(f"class{label}/{number}.png", data), (f"class{label}/{number}.cls", f"{label}\n".encode())]
                )
        for place in range(0, len(samples), 5):
            write(
                root / "shards" / f"{kind}-{place // 5:04}.tar",
                [file for one in samples[place : place + 5] for file in one],
            )
    return root


def test_shards_are_a_folder(tmp_path: Path) -> None:
    root = both(tmp_path)
    folder = ImageFolder(path="pictures", size=SIZE, stream=True).load(root)
    for _ in range(2):  # the second time from the cache
        shards = ImageShards(path="shards", size=SIZE).load(root)
        assert (shards.classes, shards.shape, shards.scale) == (folder.classes, folder.shape, folder.scale)
        assert len(shards.train) == 21
        for mine, theirs in ((shards.train, folder.train), (shards.test, folder.test)):
            assert torch.equal(mine.labels, theirs.labels)
            assert torch.equal(mine.inputs[:], theirs.inputs[:])
            ours = list(Loader(mine, 4, seed=3, scale=1 / 255).batches(2, 1))
            for (a, labels), (b, same) in zip(
                ours, Loader(theirs, 4, seed=3, scale=1 / 255).batches(2, 1), strict=True
            ):
                assert torch.equal(a, b)
                assert torch.equal(labels, same)
    report = ImageShards(path="shards", size=SIZE).check(root)
    assert [r.state for r in report] == [FileState.UNVERIFIED] * 7
    assert ImageShards(path="nowhere", size=SIZE).check(root)[0].state is FileState.MISSING


def test_a_changed_shard_is_read_again(tmp_path: Path) -> None:
    root = both(tmp_path)
    before = len(ImageShards(path="shards", size=SIZE).load(root).train)
    data = picture(np.random.default_rng(1), 2)
    write(root / "shards" / "train-0009.tar", [("a/b.c/x.y.png", data), ("a/b.c/x.cls", b"2"), ("a/b.c/x.png", data)])
    loaded = ImageShards(path="shards", size=SIZE).load(root)
    assert len(loaded.train) == before + 1
    assert int(loaded.train.labels[-1]) == 2


def test_a_net_trains_on_shards(tmp_path: Path) -> None:
    root = both(tmp_path)
    settings = ("data=image_shards", "data.path=shards", "data.size=8,8", "net=F16-F3", "epochs=12", "batch_size=4")
    recipe = override(find("digits-mlp"), settings, AXES)
    run = Run(recipe, RunFolder.create(tmp_path / "run", resume=False), torch.device("cpu"), data=root)
    assert run.execute()["test_accuracy"] > 0.6


GOOD = picture(np.random.default_rng(2), 1)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([("a.png", GOOD)], "a with an image alone"),
        ([("a.png", GOOD), ("a.cls", b"1"), ("b.cls", b"1")], "b with a label alone"),
        ([("a.png", GOOD), ("a.cls", b"one")], r"the number of a class in a\.cls, got b'one'"),
        ([("a.txt", b"x")], r"images beside their \.cls, got none"),
    ],
)
def test_what_is_wrong_with_a_shard_is_said(tmp_path: Path, samples: list[tuple[str, bytes]], said: str) -> None:
    root = both(tmp_path)
    write(root / "shards" / "train-0002.tar", samples)
    with pytest.raises(DataError, match=rf"train-0002\.tar: expected .*{said}"):
        ImageShards(path="shards", size=SIZE).load(root)


def test_damaged_shards_and_images_are_named(tmp_path: Path) -> None:
    root = both(tmp_path)
    shard = root / "shards" / "train-0001.tar"
    whole = shard.read_bytes()
    for size in (1500, 700):
        shard.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"train-0001\.tar: expected"):
            ImageShards(path="shards", size=SIZE).load(root)
    shard.write_bytes(b"no tar" * 200)
    with pytest.raises(DataError, match=r"train-0001\.tar: expected a tar file, not compressed"):
        ImageShards(path="shards", size=SIZE).load(root)
    write(shard, [("bad.png", b"no image"), ("bad.cls", b"0")])
    loaded = ImageShards(path="shards", size=SIZE).load(root)
    with pytest.raises(DataError, match=r"train-0001\.tar, bad\.png: expected an image file"):
        loaded.train.inputs[:]


def test_wrong_settings_and_labels(tmp_path: Path) -> None:
    root = both(tmp_path)
    for settings in ({"channels": 2}, {"size": (0, 4)}, {"resize": 4}):
        with pytest.raises(DataError, match="data set 'image_shards': expected"):
            ImageShards(**{"path": "shards", "size": SIZE} | settings)
    with pytest.raises(DataError, match="train-"):
        ImageShards(path="nowhere", size=SIZE).load(root)
    write(root / "shards" / "val-0009.tar", [("a.png", GOOD), ("a.cls", b"7")])
    with pytest.raises(DataError, match=r"test labels below 3, .* got 7"):
        ImageShards(path="shards", size=SIZE).load(root)
