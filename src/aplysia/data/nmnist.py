"""N-MNIST: MNIST digits seen by an event camera that moves in three saccades.

    One event, 40 bits:  x (8) | y (8) | polarity (1) | timestamp in µs (23, big-endian)

An event with y = 240 is no pixel: the 13-bit clock of the recording ran over, and 2¹³ µs are added to it and to
every later timestamp.

Layout, the one tonic uses: `ROOT/NMNIST/{Train,Test}/LABEL/*.bin`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch

from aplysia.data.base import (
    AbstractDataset,
    Bundle,
    FileReport,
    FileState,
    Outline,
    RemoteFile,
    Split,
    make_split,
    subset_caveat,
)
from aplysia.data.binning import BY_TIME, AbstractBinning, Events
from aplysia.data.cache import listing_key
from aplysia.data.event_frames import cached_frames, stack_frames
from aplysia.data.remote import check_remote
from aplysia.errors import DataError

SHAPE = (2, 34, 34)
_OVERFLOW = 240
_FULL = {"Train": 60_000, "Test": 10_000}
_MENDELEY = "https://data.mendeley.com/public-files/datasets/468j46mzdv/files/"


def read_aer40(path: Path) -> Events:
    """The events of one 40-bit address-event file.

    Raises:
        DataError: a length that is no multiple of five bytes.
    """
    data = np.fromfile(path, np.uint8)
    if data.size % 5:
        raise DataError(
            str(path),
            expected="events of 5 bytes",
            got=f"{data.size} bytes",
            fix="the file is cut or damaged: unpack it again",
        )
    x, y, high, middle, low = data.reshape(-1, 5).astype(np.int64).T
    clock = (high & 0x7F) << 16 | middle << 8 | low
    marker = y == _OVERFLOW
    times = clock + (np.cumsum(marker) << 13)
    pixel = ~marker
    return Events(x[pixel], y[pixel], (high >> 7)[pixel], times[pixel])


@final
@dataclass(frozen=True, kw_only=True)
class NMnist(AbstractDataset):
    """Event-camera digits, binned to frames of two polarities.

    Attributes:
        binning: how a recording is cut into `steps` windows.
        clip: largest count of one pixel in one frame; `None` keeps the counts.
    """

    binning: AbstractBinning = BY_TIME
    clip: int | None = None

    name: ClassVar[str] = "nmnist"
    summary: ClassVar[str] = "digits seen by an event camera, 34×34, 2 polarities, 10 classes, 60,000 + 10,000"
    licence: ClassVar[str] = "CC BY-SA 4.0"
    source: ClassVar[str] = (
        "G. Orchard, A. Jayawant, G. Cohen, N. Thakor (2015), Converting static image datasets to spiking neuromorphic "
        "datasets using saccades, Front. Neurosci. 9:437"
    )
    files: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            path="NMNIST/train.zip",
            urls=(f"{_MENDELEY}39c25547-014b-4137-a934-9d29fa53c7a0/file_downloaded",),
            known_hash="md5:20959b8e626244a1b502305a9e6e2031",
            unpacks=("Train",),
        ),
        RemoteFile(
            path="NMNIST/test.zip",
            urls=(f"{_MENDELEY}05a4d654-7e03-4c15-bdfa-9bb2bcbea494/file_downloaded",),
            known_hash="md5:69ca8762b2fe404d9b9bad1103e97832",
            unpacks=("Test",),
        ),
    )

    @property
    def outline(self) -> Outline:
        return Outline(SHAPE, 10, temporal=True)

    def load(self, root: Path, *, steps: int, download: bool = True) -> Bundle:
        folders = [Path(root) / "NMNIST" / part for part in _FULL]
        place = f"the folders Train/LABEL and Test/LABEL with .bin files in {Path(root) / 'NMNIST'}"
        self.require(Path(root), lambda: all(folder.is_dir() for folder in folders), place, download)
        train, test = (self._split(Path(root), folder, steps) for folder in folders)
        caveat = subset_caveat(train, test, (_FULL["Train"], _FULL["Test"]))
        return Bundle(train, test, 10, SHAPE, True, 1.0, caveat)

    def check(self, root: Path) -> list[FileReport]:
        reports = []
        for file, (part, full) in zip(self.files, _FULL.items(), strict=True):
            folder = Path(root) / "NMNIST" / part
            if folder.is_dir():
                note = f"{len(_recordings(folder)[0]):,} of {full:,} recordings"
                reports.append(FileReport(folder, FileState.UNVERIFIED, None, note))
            else:
                reports.append(check_remote(Path(root), file))
        return reports

    def _split(self, root: Path, folder: Path, steps: int) -> Split:
        paths, labels = _recordings(folder)

        def build() -> np.ndarray:
            names = [str(path) for path in paths]
            return stack_frames(
                lambda i: read_aer40(paths[i]), names, steps=steps, shape=SHAPE, binning=self.binning, clip=self.clip
            )

        configuration = f"{steps}|{self.binning!r}|{self.clip}"
        frames = cached_frames(root, f"nmnist-{folder.name}", configuration, listing_key(paths), build)
        return make_split(frames, torch.tensor(labels), classes=10, shape=SHAPE, where=str(folder))


def _recordings(folder: Path) -> tuple[list[Path], list[int]]:
    """Every `folder/LABEL/*.bin`, in the order of labels and names, with its label."""
    paths, labels = [], []
    for inside in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        if not inside.name.isdecimal():
            raise DataError(
                str(inside), expected="a folder named after a digit", got=f"'{inside.name}'", fix="remove or rename it"
            )
        found = sorted(inside.glob("*.bin"))
        paths += found
        labels += [int(inside.name)] * len(found)
    return paths, labels
