"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour images of 32 × 32.

Looked for under the root in this order: the pickled batches (torchvision's layout), the binary files, an archive of
either (unpacked then), a folder of images `CIFAR10/{train,test}/CLASS/*`; else the pickled archive is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from torch import Tensor

from aplysia.data.archive import unpack
from aplysia.data.base import (
    AbstractDataset,
    Bundle,
    FileReport,
    FileState,
    Outline,
    RemoteFile,
    make_split,
    subset_caveat,
)
from aplysia.data.cifar_formats import SHAPE, read_batches, read_records
from aplysia.data.image_files import list_images, load_images
from aplysia.data.remote import check_hash, check_remote
from aplysia.errors import DataError


def _archive(name: str, md5: str, size: int, folder: str) -> tuple[RemoteFile, ...]:
    mirrors = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
    return (RemoteFile(name, tuple(mirror + name for mirror in mirrors), f"md5:{md5}", size, unpacks=(folder,)),)


class AbstractCifar(AbstractDataset):
    """The shared search and formats; a subclass adds facts.

    Class facts:
        batches: pickled files, train and then test, each with the md5 of the original.
        records: the same for the binary files, whose md5 is not recorded here.
        label_key, label_bytes: which entry, and how many bytes before the pixels.
    """

    classes: ClassVar[int]
    pickled_folder: ClassVar[str]
    batches: ClassVar[dict[str, str]]
    label_key: ClassVar[str]
    binary_archive: ClassVar[str]
    binary_md5: ClassVar[str]
    binary_folder: ClassVar[str]
    records: ClassVar[tuple[str, ...]]
    label_bytes: ClassVar[int]
    image_folder: ClassVar[str]

    @property
    def outline(self) -> Outline:
        return Outline(SHAPE, self.classes)

    def load(self, root: Path, *, steps: int = 1, download: bool = True) -> Bundle:
        root = Path(root)
        place = (
            f"{self.pickled_folder}, {self.binary_folder}, an archive of either, "
            f"or {self.image_folder}/{{train,test}}/CLASS/* in {root}"
        )
        self.require(root, lambda: self._form(root) is not None, place, download)
        if (archive := self._form(root)) is not None and archive.is_file():
            inside = self.binary_folder if archive.name == self.binary_archive else self.pickled_folder
            unpack(archive, (inside,), self.name)
        form = self._form(root)
        caveat = ""
        if form == root / self.pickled_folder:
            paths = [root / self.pickled_folder / name for name in self.batches]
            parts = [read_batches(some, self.label_key, self.name) for some in (paths[:-1], paths[-1:])]
        elif form == root / self.binary_folder:
            paths = [root / self.binary_folder / name for name in self.records]
            parts = [read_records(some, self.label_bytes, self.name) for some in (paths[:-1], paths[-1:])]
        else:
            parts, caveat = self._images(root)
        train, test = (
            make_split(*part, classes=self.classes, shape=SHAPE, where=f"data set '{self.name}' in {form}")
            for part in parts
        )
        subset = subset_caveat(train, test, (50_000, 10_000))
        return Bundle(train, test, self.classes, SHAPE, False, 1 / 255, "; ".join(filter(None, (caveat, subset))))

    def check(self, root: Path) -> list[FileReport]:
        root = Path(root)
        form = self._form(root)
        if form is None or form == root / self.files[0].path:
            return [check_remote(root, file) for file in self.files]
        if form == root / self.pickled_folder:
            return [check_hash(form / name, f"md5:{md5}") for name, md5 in self.batches.items()]
        if form == root / self.binary_folder:
            return [check_hash(form / name, None) for name in self.records]
        if form.is_file():
            return [check_hash(form, f"md5:{self.binary_md5}")]
        folders = (form / "train", form / "test")
        return [
            FileReport(folder, FileState.UNVERIFIED, None, f"{len(list_images(folder).paths):,} image files")
            for folder in folders
        ]

    def _form(self, root: Path) -> Path | None:
        """The best thing found: a folder of one of the three layouts, or an archive."""
        folders = [root / self.pickled_folder, root / self.binary_folder]
        archives = [root / self.files[0].path, root / self.binary_archive]
        images = root / self.image_folder
        found = [path for path in folders if path.is_dir()] + [path for path in archives if path.is_file()]
        if (images / "train").is_dir() and (images / "test").is_dir():
            found.append(images)
        return found[0] if found else None

    def _images(self, root: Path) -> tuple[list[tuple[Tensor, Tensor]], str]:
        parts, suffixes = [], set()
        for part in ("train", "test"):
            folder = root / self.image_folder / part
            listing = list_images(folder)
            if len(listing.classes) != self.classes:
                # Labels are numbered by name, which is the original order only if every class is there.
                raise DataError(
                    str(folder),
                    expected=f"a folder for each of the {self.classes} classes",
                    got=f"{len(listing.classes)} folders",
                    fix="add or remove folders",
                )
            suffixes |= {path.suffix.lower() for path in listing.paths}
            name = f"{self.name}-images-{part}"
            parts.append(load_images(root, name, listing, channels=3, size=None))
        if suffixes & {".jpg", ".jpeg"}:
            return parts, "read as JPEG folder: the pixels are not the original ones"
        return parts, "read as image folder"


@final
@dataclass(frozen=True, kw_only=True)
class Cifar10(AbstractCifar):
    """Ten classes of animals and vehicles."""

    name: ClassVar[str] = "cifar10"
    summary: ClassVar[str] = "small photographs, 32×32 colour, 10 classes, 50,000 + 10,000"
    licence: ClassVar[str] = "none stated; the authors ask to be cited"
    source: ClassVar[str] = "A. Krizhevsky (2009), Learning multiple layers of features from tiny images, tech. report"
    classes: ClassVar[int] = 10
    files: ClassVar[tuple[RemoteFile, ...]] = _archive(
        "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071, "cifar-10-batches-py"
    )
    pickled_folder: ClassVar[str] = "cifar-10-batches-py"
    batches: ClassVar[dict[str, str]] = {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }
    label_key: ClassVar[str] = "labels"
    binary_archive: ClassVar[str] = "cifar-10-binary.tar.gz"
    binary_md5: ClassVar[str] = "c32a1d4ab5d03f1284b67883e8d87530"
    binary_folder: ClassVar[str] = "cifar-10-batches-bin"
    records: ClassVar[tuple[str, ...]] = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
    label_bytes: ClassVar[int] = 1
    image_folder: ClassVar[str] = "CIFAR10"


@final
@dataclass(frozen=True, kw_only=True)
class Cifar100(AbstractCifar):
    """A hundred classes; the labels are the fine ones."""

    name: ClassVar[str] = "cifar100"
    summary: ClassVar[str] = "small photographs, 32×32 colour, 100 classes, 50,000 + 10,000"
    licence: ClassVar[str] = "none stated; the authors ask to be cited"
    source: ClassVar[str] = "A. Krizhevsky (2009), Learning multiple layers of features from tiny images, tech. report"
    classes: ClassVar[int] = 100
    files: ClassVar[tuple[RemoteFile, ...]] = _archive(
        "cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437, "cifar-100-python"
    )
    pickled_folder: ClassVar[str] = "cifar-100-python"
    batches: ClassVar[dict[str, str]] = {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    }
    label_key: ClassVar[str] = "fine_labels"
    binary_archive: ClassVar[str] = "cifar-100-binary.tar.gz"
    binary_md5: ClassVar[str] = "03b5dce01913d631647c71ecec9e9cb8"
    binary_folder: ClassVar[str] = "cifar-100-binary"
    records: ClassVar[tuple[str, ...]] = ("train.bin", "test.bin")
    label_bytes: ClassVar[int] = 2
    image_folder: ClassVar[str] = "CIFAR100"
