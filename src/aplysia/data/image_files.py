"""Folders of image files, one sub-folder per class: listing, decoding in parallel, and the cached tensor of both."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from aplysia.data.cache import cached, listing_key
from aplysia.data.progress import Progress, announce
from aplysia.errors import DataError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_BLOCK = 64  # files one thread decodes at a time
_MANY = 1000  # files from which it is worth a word
_LARGE = (
    128 * 128
)  # pixels from which threads pay; for 32 × 32 they cost twice the time they save, in waiting for turns


class Source(Protocol):
    """What an image is decoded from: a path, or what reads like one (a member of a shard)."""

    @property
    def name(self) -> str: ...

    @property
    def parent(self) -> Path: ...

    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class Listing:
    """What a folder holds: `paths[i]` belongs to class `labels[i]`, and classes are numbered by name."""

    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[int, ...]


def list_images(folder: Path) -> Listing:
    """Every image file of `folder/CLASS/`, classes and files in the order of their names.

    Raises:
        DataError: no class, or a class without an image.
    """
    classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        inside = folder / name
        files = sorted(
            entry.name for entry in os.scandir(inside) if os.path.splitext(entry.name)[1].lower() in SUFFIXES
        )
        if not files:
            raise _bad(inside, "image files of one class", "none", "remove the empty folder")
        paths += [inside / file for file in files]
        labels += [label] * len(files)
    if not classes:
        raise _bad(folder, "one folder per class", "none", "put each class's images in a folder named after it")
    return Listing(tuple(classes), tuple(paths), tuple(labels))


def load_images(
    root: Path, name: str, listing: Listing, *, channels: int, size: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    """Images uint8 `[N, C, H, W]` and labels int64 `[N]`, decoded or from the cache under `root`.

    Args:
        name: of the cache, one per data set, split and configuration.
        channels: 1 for grey, 3 for colour; files of the other kind are converted.
        size: (H, W) every image is resized to; `None` keeps them and refuses images that differ in size.
    """

    def build() -> dict[str, np.ndarray]:
        return {"images": decode(listing.paths, channels=channels, size=size)}

    images = cached(root, name, listing_key(listing.paths), build)["images"]
    return torch.from_numpy(images), torch.tensor(listing.labels, dtype=torch.int64)


def decode(
    paths: Sequence[Source], *, channels: int, size: tuple[int, int] | None, resize: int | None = None
) -> np.ndarray:
    """uint8 `[N, C, H, W]` of image files, large ones by several threads.

    Args:
        paths: the files.
        channels: 1 for grey, 3 for colour.
        size: (H, W); `None` keeps it.
        resize: length of the shorter side before the middle of `size` is cut out; `None`: resized to `size` as a whole.
    """
    from PIL import Image  # lazily: most data sets are not image files

    mode = "L" if channels == 1 else "RGB"
    height_width = size or _decode(paths[0], Image, mode, None, None).shape[:2]
    images = np.empty((len(paths), channels, *height_width), np.uint8)

    def place(block: range) -> int:
        for index in block:
            pixels = _decode(paths[index], Image, mode, size, resize)
            if pixels.shape[:2] != height_width:
                want, got = (f"{h}×{w}" for h, w in (height_width, pixels.shape[:2]))
                fix = "give the data set a size=(H, W) to resize to"
                raise _bad(paths[index], f"an image of {want} like {paths[0].name}", got, fix)
            images[index] = pixels.transpose(2, 0, 1)
        return len(block)

    if len(paths) >= _MANY:
        announce(f"decoding {len(paths):,} image files under {paths[0].parent.parent}")
    progress = Progress("decoding", len(paths))
    threads = min(8, os.cpu_count() or 1) if height_width[0] * height_width[1] >= _LARGE else 1
    blocks = [range(start, min(start + _BLOCK, len(paths))) for start in range(0, len(paths), _BLOCK)]
    with ThreadPoolExecutor(threads) as pool:
        for done in pool.map(place, blocks):  # an exception of a thread comes out here, the first in order
            progress.update(done)
    progress.close()
    return images


def _decode(
    path: Source, image_module: ModuleType, mode: str, size: tuple[int, int] | None, resize: int | None
) -> np.ndarray:
    """One image, uint8 `[H, W, C]`."""
    try:
        with image_module.open(io.BytesIO(path.read_bytes())) as opened:
            opened.load()
            image = opened if opened.mode == mode else opened.convert(mode)
            if size is not None and resize is not None:
                image = _middle(image, size, resize, image_module)
            elif size is not None and image.size != size[::-1]:
                image = image.resize(size[::-1], image_module.Resampling.BILINEAR)
            return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, -1)
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        got = f"one that cannot be read ({type(error).__name__})"
        raise _bad(path, "an image file", got, "mend or remove it") from error


def _middle(image: Any, size: tuple[int, int], resize: int, image_module: ModuleType) -> Any:
    scale = resize / min(image.size)
    width, height = (max(round(side * scale), least) for side, least in zip(image.size, size[::-1], strict=True))
    left, top = (width - size[1]) // 2, (height - size[0]) // 2
    whole = image.resize((width, height), image_module.Resampling.BILINEAR)
    return whole.crop((left, top, left + size[1], top + size[0]))


def _bad(path: Source, expected: str, got: str, fix: str) -> DataError:
    return DataError(str(path), expected=expected, got=got, fix=fix)
