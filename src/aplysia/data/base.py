"""What a data set is: a configuration that can be loaded into tensors, checked, and fetched.

    dataset.load(root, steps=T) -> Bundle(train: Split, test: Split, facts)

Images stay uint8 `[N, C, H, W]` as they were recorded; events become counts per time window `[N, T, C, H, W]`.
Both are small enough to live whole on the device, and `Loader` turns batches of them into floats; a folder of images that is
not stays in its files, of which each batch is decoded when it is wanted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.data.archive import unpack
from aplysia.data.remote import FileReport, FileState, RemoteFile, fetch_remote
from aplysia.data.streamed import ImageFiles
from aplysia.errors import DataError

__all__ = [
    "AbstractDataset",
    "Bundle",
    "FileReport",
    "FileState",
    "Outline",
    "RemoteFile",
    "Split",
    "make_split",
    "subset_caveat",
]


@dataclass(frozen=True, eq=False)
class Split:
    """Samples with their labels.

    Attributes:
        inputs: uint8 `[N, C, H, W]` images, in memory or in their files, or uint8 or float32 `[N, T, C, H, W]` event counts.
        labels: int64 `[N]`, 0 … classes − 1.
    """

    inputs: Tensor | ImageFiles
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same samples on another device."""
        return Split(self.inputs.to(device), self.labels.to(device))

    def subset(self, indices: Tensor) -> Split:
        """The samples `indices [n]`, in that order."""
        indices = indices.to(self.labels.device)
        inputs = self.inputs[indices] if isinstance(self.inputs, Tensor) else self.inputs.rows(indices)
        return Split(inputs, self.labels[indices])


@dataclass(frozen=True, eq=False)
class Bundle:
    """A data set in memory.

    Attributes:
        train, test: the two splits of the data set's authors, or ours where the data set states it.
        classes: how many labels there are.
        shape: `(C, H, W)` of one sample, or of one frame of it.
        temporal: inputs are frames `[N, T, C, H, W]`.
        scale: stored value × scale is the float the net sees: 1/255 for images, so 0 … 1; 1 for event counts.
        caveat: what a reader of a figure made from these data must be told; empty if nothing.
    """

    train: Split
    test: Split
    classes: int
    shape: tuple[int, int, int]
    temporal: bool
    scale: float
    caveat: str = ""


@dataclass(frozen=True)
class Outline:
    """What is known of a data set before it is loaded.

    Attributes:
        shape, classes, temporal: see `Bundle`.
    """

    shape: tuple[int, int, int]
    classes: int
    temporal: bool = False


class AbstractDataset(ABC):
    """A data set's facts and its configuration; subclasses are frozen dataclasses.

    `outline`, which knows nothing here, may be replaced.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    licence: ClassVar[str]
    source: ClassVar[str]
    files: ClassVar[tuple[RemoteFile, ...]] = ()

    @abstractmethod
    def load(self, root: Path, *, steps: int, download: bool = True) -> Bundle:
        """Read the data under `root`, fetched first if they are not there and `download` allows it.

        Args:
            root: the folder of all data sets.
            steps: T, into how many frames a recording of events is binned; images do not use it.
        """

    @property
    def outline(self) -> Outline | None:
        """Shape, classes and kind, where they are known without loading."""
        return None

    @abstractmethod
    def check(self, root: Path) -> list[FileReport]:
        """What lies under `root`, file by file, with checksums where they are known."""

    def fetch(self, root: Path) -> list[Path]:
        """Download and unpack what is not there yet; the paths of the files, none for data that are not downloaded."""
        paths = []
        for file in self.files:
            path = fetch_remote(root, file, self.name)
            if any(not (path.parent / entry).exists() for entry in file.unpacks):
                unpack(path, file.unpacks, self.name)
            paths.append(path)
        return paths

    def require(self, root: Path, found: Callable[[], bool], place: str, download: bool) -> None:
        """Return if the data are found, after a download where allowed and needed; else refuse.

        Args:
            found: looks for the data.
            place: where they should be, in words.
        """
        if found():
            return
        if download and self.files:
            self.fetch(root)
            if found():
                return
        fetch = f"run `aplysia data fetch {self.name}`, or " if self.files else ""
        raise DataError(
            f"data set '{self.name}'",
            expected=place,
            got="nothing there",
            fix=f"{fetch}name the folder that holds it with --data DIR or APLYSIA_DATA",
        )


def make_split(
    inputs: Tensor | ImageFiles, labels: Tensor, *, classes: int, shape: tuple[int, int, int], where: str
) -> Split:
    """A `Split` after the checks that every data set needs.

    Raises:
        DataError: no samples, images and labels that differ in number, a wrong image size, a label out of range.
    """
    fix = "the files do not belong together or are damaged: fetch them again"
    if len(inputs) != len(labels) or len(labels) == 0:
        got = f"{len(inputs)} images and {len(labels)} labels"
        raise DataError(where, expected="one label per image, and at least one", got=got, fix=fix)
    if tuple(inputs.shape[-3:]) != shape:
        want, got = ("×".join(map(str, size)) for size in (shape, inputs.shape[-3:]))
        raise DataError(where, expected=f"images of {want} (channels × height × width)", got=got, fix=fix)
    labels = labels.to(torch.int64)
    if bool((wrong := (labels < 0) | (labels >= classes)).any()):
        at = int(wrong.nonzero()[0, 0])
        got = f"the label {int(labels[at])} at sample {at}"
        raise DataError(where, expected=f"labels 0 to {classes - 1}", got=got, fix=fix)
    return Split(inputs, labels)


def subset_caveat(train: Split, test: Split, full: tuple[int, int]) -> str:
    """Words for data that are not the whole set; empty if they are."""
    if (len(train), len(test)) == full:
        return ""
    return f"{len(train):,} train and {len(test):,} test samples, where the full set has {full[0]:,} and {full[1]:,}"
