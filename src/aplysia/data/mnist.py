"""MNIST, Fashion-MNIST and Kuzushiji-MNIST: 60,000 + 10,000 grey images of 28 × 28, ten classes.

Layout, the one torchvision uses: `ROOT/FOLDER/raw/train-images-idx3-ubyte[.gz]` and its three companions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import torch

from aplysia.data.base import AbstractDataset, Bundle, FileReport, Outline, RemoteFile, Split, make_split, subset_caveat
from aplysia.data.idx import find_idx, read_idx
from aplysia.data.remote import check_remote

IMAGE = (1, 28, 28)
_STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _files(
    folder: str,
    mirrors: tuple[str, ...],
    packed: tuple[str, ...],
    sizes: tuple[int, ...],
    content: tuple[str, ...] = (),
) -> tuple[RemoteFile, ...]:
    """The four files in the order of `_STEMS`: md5 as served, bytes as served, md5 of the content where it is known."""
    return tuple(
        RemoteFile(
            path=f"{folder}/raw/{stem}.gz",
            urls=tuple(f"{mirror}{stem}.gz" for mirror in mirrors),
            known_hash=f"md5:{packed[i]}",
            size=sizes[i],
            content_hash=f"md5:{content[i]}" if content else None,
        )
        for i, stem in enumerate(_STEMS)
    )


class AbstractMnist(AbstractDataset):
    """The shared layout; a subclass adds facts."""

    folder: ClassVar[str]

    @property
    def outline(self) -> Outline:
        return Outline(IMAGE, 10)

    def load(self, root: Path, *, steps: int = 1, download: bool = True) -> Bundle:
        raw = Path(root) / self.folder / "raw"
        place = f"the four IDX files (…-ubyte or …-ubyte.gz) in {raw}"
        self.require(Path(root), lambda: all(find_idx((raw,), stem) for stem in _STEMS), place, download)
        train, test = (self._split(raw, *_STEMS[i : i + 2]) for i in (0, 2))
        return Bundle(train, test, 10, IMAGE, False, 1 / 255, subset_caveat(train, test, (60_000, 10_000)))

    def check(self, root: Path) -> list[FileReport]:
        return [check_remote(Path(root), file) for file in self.files]

    def _split(self, raw: Path, images: str, labels: str) -> Split:
        return load_pair((raw,), images, labels, classes=10, owner=self.name)


def load_pair(
    folders: tuple[Path, ...], images: str, labels: str, *, classes: int, owner: str, first_label: int = 0
) -> Split:
    """One split from an image and a label file, which must be there."""
    image_path, label_path = find_idx(folders, images), find_idx(folders, labels)
    if image_path is None or label_path is None:
        raise FileNotFoundError(f"{images}, {labels}")  # a bug: the caller has looked
    pixels = torch.from_numpy(read_idx(image_path, 3, owner)).unsqueeze(1)
    classes_read = torch.from_numpy(read_idx(label_path, 1, owner)).long() - first_label
    return make_split(pixels, classes_read, classes=classes, shape=IMAGE, where=f"{image_path} with {label_path.name}")


@final
@dataclass(frozen=True, kw_only=True)
class Mnist(AbstractMnist):
    """Handwritten digits."""

    name: ClassVar[str] = "mnist"
    summary: ClassVar[str] = "handwritten digits, 28×28 grey, 10 classes, 60,000 + 10,000"
    licence: ClassVar[str] = "CC BY-SA 3.0"
    source: ClassVar[str] = (
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998), Gradient-based learning applied to document recognition, "
        "Proc. IEEE 86(11)"
    )
    folder: ClassVar[str] = "MNIST"
    files: ClassVar[tuple[RemoteFile, ...]] = _files(
        "MNIST",
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        (
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        (9_912_422, 28_881, 1_648_877, 4_542),
        (
            "6bbc9ace898e44ae57da46a324031adb",
            "a25bea736e30d166cdddb491f175f624",
            "2646ac647ad5339dbf082846283269ea",
            "27ae3e4e09519cfbb04c329615203637",
        ),
    )


@final
@dataclass(frozen=True, kw_only=True)
class FashionMnist(AbstractMnist):
    """Pictures of clothes."""

    name: ClassVar[str] = "fashion_mnist"
    summary: ClassVar[str] = "pictures of clothes, 28×28 grey, 10 classes, 60,000 + 10,000"
    licence: ClassVar[str] = "MIT"
    source: ClassVar[str] = "H. Xiao, K. Rasul, R. Vollgraf (2017), Fashion-MNIST, arXiv:1708.07747"
    folder: ClassVar[str] = "FashionMNIST"
    files: ClassVar[tuple[RemoteFile, ...]] = _files(
        "FashionMNIST",
        (
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        (26_421_880, 29_515, 4_422_102, 5_148),
        (
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "9018921c3c673c538a1fc5bad174d6f9",
            "8181f5470baa50b63fa0f6fddb340f0a",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    )


@final
@dataclass(frozen=True, kw_only=True)
class Kmnist(AbstractMnist):
    """Cursive Japanese characters."""

    name: ClassVar[str] = "kmnist"
    summary: ClassVar[str] = "cursive Japanese characters, 28×28 grey, 10 classes, 60,000 + 10,000"
    licence: ClassVar[str] = "CC BY-SA 4.0"
    source: ClassVar[str] = (
        "T. Clanuwat et al. (2018), Deep learning for classical Japanese literature, arXiv:1812.01718; "
        "'KMNIST Dataset' (created by CODH), adapted from 'Kuzushiji Dataset' (created by NIJL and others), "
        "doi:10.20676/00000341"
    )
    folder: ClassVar[str] = "KMNIST"
    files: ClassVar[tuple[RemoteFile, ...]] = _files(
        "KMNIST",
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        (
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        (18_165_135, 29_497, 3_041_136, 5_120),
    )
