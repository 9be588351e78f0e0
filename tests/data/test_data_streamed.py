"""Images that stay in their files: the same numbers as in memory, and the ImageNet recipe on a tiny folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aplysia.data import loader as loading
from aplysia.data.image_folder import ImageFolder
from aplysia.data.loader import Loader
from aplysia.data.splits import channel_statistics, train_validation
from aplysia.errors import DataError
from aplysia.recipes import find
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.optimise import SGD
from aplysia.train.run import Run

CLASSES, TRAIN, HELD_OUT = 3, 6, 2


def folder(root: Path, *, held_out: str = "val", size: tuple[int, int] | None = None) -> Path:
    """Images of several sizes (or one), brighter from class to class, so that they can be told apart."""
    source = np.random.default_rng(0)
    for part, count in (("train", TRAIN), (held_out, HELD_OUT)):
        for label in range(CLASSES):
            inside = root / "pictures" / part / f"class{label}"
            inside.mkdir(parents=True)
            for number in range(count):
                height, width = size or source.integers(40, 80, 2)
                pixels = source.integers(80 * label, 80 * label + 60, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(inside / f"{number}.png")
    return root


def test_streamed_images_are_those_in_memory(tmp_path: Path) -> None:
    root = folder(tmp_path, size=(40, 48))
    whole = ImageFolder(path="pictures", size=(20, 24)).load(root)
    lazy = ImageFolder(path="pictures", size=(20, 24), stream=True).load(root)
    assert isinstance(whole.train.inputs, torch.Tensor)
    assert not isinstance(lazy.train.inputs, torch.Tensor)
    assert lazy.shape == whole.shape == (3, 20, 24)
    assert len(lazy.test) == CLASSES * HELD_OUT
    assert torch.equal(lazy.train.inputs[:], whole.train.inputs)
    assert torch.equal(lazy.train.labels, whole.train.labels)
    options = {"seed": 3, "scale": whole.scale, "mean": (0.4,) * 3, "std": (0.2,) * 3}
    batches = [list(Loader(bundle.train, 4, **options).batches(1, 1)) for bundle in (whole, lazy)]
    assert len(batches[0]) == len(batches[1]) == 4
    for (a, labels), (b, same) in zip(*batches, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(labels, same)
    assert channel_statistics(lazy.train, lazy.scale) == channel_statistics(whole.train, whole.scale)
    for a, b in zip(train_validation(lazy.train, 0.3, 0), train_validation(whole.train, 0.3, 0), strict=True):
        assert torch.equal(a.inputs[:], b.inputs[:])


def test_one_batch_is_decoded_at_a_time_and_one_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = ImageFolder(path="pictures", size=(20, 20), stream=True).load(folder(tmp_path))
    asked: list[int] = []
    real = loading.Loader.batch

    def batch(self: Loader, epoch: int, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(index)
        return real(self, epoch, index)

    monkeypatch.setattr(loading.Loader, "batch", batch)
    stream = Loader(lazy.train, 4, seed=0, scale=1 / 255).batches(0)
    next(stream)
    assert max(asked) <= 1
    assert [len(y) for _, y in stream] == [4, 4, 4, 2]
    assert sorted(asked) == [0, 1, 2, 3, 4]


def test_the_middle_of_a_resized_image(tmp_path: Path) -> None:
    """Against PIL by hand: the shorter side to `resize`, then the middle."""
    inside = tmp_path / "pictures" / "train" / "a"
    inside.mkdir(parents=True)
    held_out = tmp_path / "pictures" / "test" / "a"
    held_out.mkdir(parents=True)
    pixels = np.random.default_rng(1).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    for place in (inside, held_out):
        Image.fromarray(pixels).save(place / "0.png")
    got = ImageFolder(path="pictures", size=(24, 24), resize=30, stream=True).load(tmp_path).train.inputs[:1]
    by_hand = Image.fromarray(pixels).resize((45, 30), Image.Resampling.BILINEAR).crop((10, 3, 34, 27))
    assert torch.equal(got[0], torch.from_numpy(np.asarray(by_hand).transpose(2, 0, 1).copy()))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"stream": True}, "size (H, W)"),
        ({"size": (20, 20), "resize": 30}, "stream=true"),
        ({"size": (20, 20), "resize": 10, "stream": True}, "shorter side"),
    ],
)
def test_wrong_use(options: dict[str, object], named: str) -> None:
    with pytest.raises(DataError, match=named.replace("(", r"\(").replace(")", r"\)")):
        ImageFolder(path="pictures", **options)  # type: ignore[arg-type]


def test_the_imagenet_recipe_fine_tunes_on_a_tiny_folder(tmp_path: Path) -> None:
    """Its own net of 34 layers, weights from a run of backpropagation, noise; only images and batches are small."""
    root = folder(tmp_path)
    recipe = find("opzo-imagenet")
    small = replace(
        recipe,
        data=replace(recipe.data, path="pictures", size=(32, 32), resize=36),  # type: ignore[type-var]
        net=recipe.net.replace("F1000", f"F{CLASSES}"),
        batch_size=6,
        epochs=1,
        steps=2,
        compiled=False,
    )
    assert small.net.count("R3") == 16
    before = replace(small, name="before", rule=type(find("fmnist-mlp").rule)(), optimiser=SGD(lr=0.01))

    def run(made: object, name: str) -> dict[str, object]:
        out = RunFolder.create(tmp_path / name, resume=False)
        quiet = Progress(1, shown=False)
        return Run(made, out, torch.device("cpu"), data=root, progress=quiet).execute()  # type: ignore[arg-type]

    run(before, "bp")
    summary = run(replace(small, weights=tmp_path / "bp" / "model.safetensors"), "opzo")
    assert summary["noisy_test_accuracy"] is not None
    assert summary["rule"] == "pseudo_zeroth_order"
    rates = json.loads((tmp_path / "opzo" / "summary.json").read_text())["rates"]
    # At 32 × 32 one pixel is left for the last blocks, and after two steps few of them have woken up.
    assert sum(rate > 0.0 for rate in rates.values()) >= len(rates) // 2, rates
