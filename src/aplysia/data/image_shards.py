"""Images in tar shards as WebDataset writes them: `PATH/train-*.tar`, and `PATH/test-*.tar` or `PATH/val-*.tar`.

A sample is two files that follow each other in a shard, `key.jpg` (or another kind of image) and `key.cls`, which holds the
number of its class. Shards are read by position: their headers are gone through once and kept, and from then on any image is
one seek and one read. So samples are shuffled as a whole, in the same order as if they were files in a folder, and a run can
begin anywhere; what that needs is a file system, local or shared, and no stream.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, ClassVar, final

import numpy as np
import torch

from aplysia.data.base import AbstractDataset, Bundle, FileReport, FileState, Split
from aplysia.data.cache import cached, listing_key
from aplysia.data.image_files import SUFFIXES
from aplysia.data.progress import announce
from aplysia.data.streamed import ImageFiles
from aplysia.errors import DataError

_LABEL = ".cls"


@dataclass(frozen=True, slots=True)
class Member:
    """One image within a shard; stands where the path of an image file would.

    Attributes:
        parent: the shard.
        name: of the image within it.
        offset, length: where its bytes are.
    """

    parent: Path
    name: str
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.parent}, {self.name}"

    def read_bytes(self) -> bytes:
        """The image file's bytes."""
        with self.parent.open("rb") as shard:
            shard.seek(self.offset)
            return shard.read(self.length)


@final
@dataclass(frozen=True, kw_only=True)
class ImageShards(AbstractDataset):
    """Tar shards of images with their labels, read batch by batch.

    Attributes:
        path: the folder of the shards, absolute or relative to the data root.
        size: (H, W) of what the net sees.
        channels: 1 (grey) or 3 (colour).
        resize: length of the shorter side before the middle of `size` is cut out; `None`: the whole image is resized to `size`.
    """

    path: str
    size: tuple[int, int]
    channels: int = 3
    resize: int | None = None

    name: ClassVar[str] = "image_shards"
    summary: ClassVar[str] = "your own tar shards (WebDataset), key.jpg beside key.cls"
    licence: ClassVar[str] = "the images' own"
    source: ClassVar[str] = "the shards named"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            self._refuse("channels 1 (grey) or 3 (colour)", str(self.channels))
        if len(self.size) != 2 or min(self.size) < 1:
            self._refuse("a size (H, W) of positive numbers", str(self.size))
        if self.resize is not None and self.resize < max(self.size):
            self._refuse("a shorter side of at least the size", f"resize={self.resize}")

    def load(self, root: Path, *, steps: int = 1, download: bool = True) -> Bundle:
        folder = Path(root) / self.path
        expected = f"shards {folder}/train-*.tar, and test-*.tar or val-*.tar"
        self.require(Path(root), lambda: all(map(bool, self._shards(folder))), expected, download)
        parts = [self._split(Path(root), shards) for shards in self._shards(folder)]
        classes = int(parts[0].labels.max()) + 1
        beyond = int(parts[1].labels.max())
        if beyond >= classes:
            self._refuse(
                f"test labels below {classes}, the number of classes in train", str(beyond), "mend the .cls files"
            )
        return Bundle(parts[0], parts[1], classes, (self.channels, *self.size), False, 1 / 255)

    def check(self, root: Path) -> list[FileReport]:
        folder = Path(root) / self.path
        shards = [shard for part in self._shards(folder) for shard in part]
        if not shards:
            return [FileReport(folder, FileState.MISSING)]
        return [FileReport(s, FileState.UNVERIFIED, None, f"{len(_index(s)['label']):,} images") for s in shards]

    @staticmethod
    def _shards(folder: Path) -> tuple[list[Path], list[Path]]:
        found = {kind: sorted(folder.glob(f"{kind}-*.tar")) for kind in ("train", "test", "val")}
        return found["train"], found["test"] or found["val"]

    def _split(self, root: Path, shards: list[Path]) -> Split:
        def build() -> dict[str, np.ndarray]:
            announce(f"reading the headers of {len(shards)} shards under {shards[0].parent}")
            read = [_index(shard) for shard in shards]
            made = {key: np.concatenate([index[key] for index in read]) for key in read[0]}
            made["shard"] = np.repeat(np.arange(len(shards)), [len(index["label"]) for index in read])
            return made

        kind = shards[0].name.partition("-")[0]
        name = hashlib.blake2b(f"{shards[0].parent.resolve()}|{kind}".encode(), digest_size=8).hexdigest()
        index = cached(root, f"image_shards-{name}", listing_key(shards), build)
        columns = (index[key].tolist() for key in ("shard", "name", "offset", "length"))
        members = tuple(Member(shards[s], n, offset, length) for s, n, offset, length in zip(*columns, strict=True))
        files = ImageFiles(members, self.channels, self.size, self.resize)
        return Split(files, torch.from_numpy(index["label"].astype(np.int64)))

    def _refuse(self, expected: str, got: str, fix: str = "change the data set's settings") -> None:
        raise DataError(f"data set '{self.name}'", expected=expected, got=got, fix=fix)


def _index(shard: Path) -> dict[str, np.ndarray]:
    """Name, place and label of each image of a shard, in its order."""
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, int] = {}
    end = shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                if not member.isfile():
                    continue
                if member.offset_data + member.size > end:
                    raise _bad(shard, "a whole shard", f"one that ends within {member.name}", "fetch it again")
                path = PurePosixPath(member.name)
                # WebDataset's own rule: all up to the first dot of the last part is the key.
                stem, _, rest = path.name.partition(".")
                key = str(path.with_name(stem)) if stem else member.name
                if f".{rest}" == _LABEL:
                    labels[key] = _label(shard, member.name, opened.extractfile(member))
                elif f".{rest}".lower() in SUFFIXES:
                    images[key] = (member.name, member.offset_data, member.size)
    except tarfile.TarError as problem:
        raise _bad(
            shard, "a tar file, not compressed", f"one that cannot be read ({problem})", "write it again"
        ) from problem
    odd = sorted(images.keys() ^ labels.keys())
    if odd:
        got = f"{odd[0]} with {'an image alone' if odd[0] in images else 'a label alone'}"
        raise _bad(shard, f"an image and a {_LABEL} for each key", got, "write it again")
    if not images:
        raise _bad(shard, f"images beside their {_LABEL}", "none", "write it again, or remove it")
    names, offsets, lengths = zip(*images.values(), strict=True)
    return {
        "name": np.array(names),
        "offset": np.array(offsets, np.int64),
        "length": np.array(lengths, np.int64),
        "label": np.array([labels[key] for key in images], np.int64),
    }


def _label(shard: Path, name: str, stream: IO[bytes] | None) -> int:
    text = b"" if stream is None else stream.read()
    if not text.strip().isdigit():
        raise _bad(shard, f"the number of a class in {name}", repr(text[:20]), "write it again")
    return int(text)


def _bad(shard: Path, expected: str, got: str, fix: str) -> DataError:
    return DataError(str(shard), expected=expected, got=got, fix=fix)
