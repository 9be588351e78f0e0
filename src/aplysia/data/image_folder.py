"""Your own images: `PATH/{train,test}/CLASS/*` (`val` is a test too), or `PATH/CLASS/*` cut in two by a fixed rule."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import torch

from aplysia.data.base import AbstractDataset, Bundle, FileReport, FileState, Split, make_split
from aplysia.data.image_files import Listing, list_images, load_images
from aplysia.data.splits import every_nth
from aplysia.data.streamed import ImageFiles
from aplysia.errors import DataError


@final
@dataclass(frozen=True, kw_only=True)
class ImageFolder(AbstractDataset):
    """Any folder of images with one sub-folder per class.

    Without `train` and `test` (or `val`) folders every fifth image of its class, in the order of the file names, is a test
    image.

    Attributes:
        path: the folder, absolute or relative to the data root.
        size: (H, W) to resize to; `None`: all images have one size already.
        channels: 1 (grey) or 3 (colour).
        stream: leave the images in their files and decode each batch when it is wanted, for sets that no memory holds.
        resize: with `stream`, length of the shorter side before the middle of `size` is cut out; `None`: the whole image is
            resized to `size`.
    """

    path: str
    size: tuple[int, int] | None = None
    channels: int = 3
    stream: bool = False
    resize: int | None = None

    name: ClassVar[str] = "image_folder"
    summary: ClassVar[str] = "your own folder of images, one sub-folder per class"
    licence: ClassVar[str] = "the images' own"
    source: ClassVar[str] = "the folder named"

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            self._refuse("channels 1 (grey) or 3 (colour)", str(self.channels))
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            self._refuse("a size (H, W) of positive numbers", str(self.size))
        if self.stream and self.size is None:
            self._refuse("a size (H, W) for images that stay in their files", "none", "set data.size=224,224")
        if self.resize is not None and not (self.stream and self.size is not None and self.resize >= max(self.size)):
            self._refuse(
                "a shorter side of at least the size, with stream=true", f"resize={self.resize}", "set data.resize=none"
            )

    def load(self, root: Path, *, steps: int = 1, download: bool = True) -> Bundle:
        folder = Path(root) / self.path
        self.require(Path(root), folder.is_dir, f"a folder {folder} with one sub-folder per class", download)
        held_out = self._held_out(folder)
        if (folder / "train").is_dir() and held_out is not None:
            train, test = list_images(folder / "train"), list_images(held_out)
            if train.classes != test.classes:
                odd = sorted(set(train.classes) ^ set(test.classes))
                raise DataError(
                    str(folder),
                    expected="the same classes in train and test",
                    got=f"{', '.join(odd)} in one of them only",
                    fix="add or remove these folders",
                )
            parts = self._split(root, train), self._split(root, test)
        else:
            train = list_images(folder)
            everything = self._split(root, train)
            first, second = every_nth(everything.labels, 5)
            if len(second) == 0:
                self._refuse("at least five images in one class", f"{len(first)} in all of {folder}")
            parts = everything.subset(first), everything.subset(second)
        height, width = parts[0].inputs.shape[-2:]
        shape = (self.channels, height, width)
        if parts[1].inputs.shape[1:] != shape:
            self._refuse(
                "test images of the size of the train images",
                "another size under " + str(folder / "test"),
                "give a size=(H, W)",
            )
        return Bundle(*parts, len(train.classes), shape, False, 1 / 255)

    def check(self, root: Path) -> list[FileReport]:
        folder = Path(root) / self.path
        if not folder.is_dir():
            return [FileReport(folder, FileState.MISSING)]
        held_out = self._held_out(folder)
        both = held_out is not None and (folder / "train").is_dir()
        parts = (folder / "train", held_out) if held_out is not None and both else (folder,)
        return [
            FileReport(part, FileState.UNVERIFIED, None, f"{len(list_images(part).paths):,} images") for part in parts
        ]

    @staticmethod
    def _held_out(folder: Path) -> Path | None:
        """Where the test images are: `test`, or `val` as ImageNet calls it."""
        return next((folder / name for name in ("test", "val") if (folder / name).is_dir()), None)

    def _split(self, root: Path, listing: Listing) -> Split:
        if self.stream:
            assert self.size is not None
            files = ImageFiles(listing.paths, self.channels, self.size, self.resize)
            return Split(files, torch.tensor(listing.labels, dtype=torch.int64))
        # The name tells configurations apart; the listing's key tells whether the files changed.
        configuration = f"{listing.paths[0].parent.parent.resolve()}|{self.size}|{self.channels}"
        name = f"image_folder-{hashlib.blake2b(configuration.encode(), digest_size=8).hexdigest()}"
        images, labels = load_images(Path(root), name, listing, channels=self.channels, size=self.size)
        height, width = images.shape[-2:]
        where = str(listing.paths[0].parent.parent)
        shape = (self.channels, height, width)
        return make_split(images, torch.as_tensor(labels), classes=len(listing.classes), shape=shape, where=where)

    def _refuse(self, expected: str, got: str, fix: str = "change the data set's settings") -> None:
        raise DataError(f"data set '{self.name}'", expected=expected, got=got, fix=fix)
