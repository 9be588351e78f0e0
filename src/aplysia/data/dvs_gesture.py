"""DVS128-Gesture: eleven hand and arm gestures of 29 people before an event camera.

Read here are the files that tonic's authors cut from the original recordings, one gesture per file, without tonic:
`ROOT/DVSGesture/ibmGesture{Train,Test}/userNN_LIGHT/LABEL.npy`, an array `[E, 4]` of x, y, polarity and milliseconds.
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
)
from aplysia.data.binning import BY_TIME, AbstractBinning, Events
from aplysia.data.cache import listing_key
from aplysia.data.event_frames import cached_frames, stack_frames
from aplysia.data.remote import check_remote
from aplysia.errors import DataError

SENSOR = 128
_PARTS = ("ibmGestureTrain", "ibmGestureTest")


def check_pool(pool: int, owner: str) -> None:
    """Refuse a pooling that does not divide the sensor."""
    if pool < 1 or SENSOR % pool:
        raise DataError(
            f"data set '{owner}'",
            expected=f"a pool that divides {SENSOR}",
            got=str(pool),
            fix="choose 1, 2, 4, 8 or 16",
        )


def read_gesture(path: Path) -> Events:
    """The events of one file.

    Raises:
        DataError: no plain array `[E, 4]`.
    """
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        table, reason = None, type(error).__name__
    else:
        reason = f"shape {table.shape}"
    if table is None or table.ndim != 2 or table.shape[1] != 4:
        raise DataError(
            str(path),
            expected="an array of events with 4 columns",
            got=reason,
            fix="the file is damaged: unpack it again",
        )
    milliseconds = table[:, 3].astype(np.float64)
    x, y, p = table[:, :3].astype(np.int64).T
    return Events(x, y, p, np.rint(milliseconds * 1000).astype(np.int64))


@final
@dataclass(frozen=True, kw_only=True)
class DvsGesture(AbstractDataset):
    """Gestures, binned to frames of two polarities.

    Attributes:
        binning: how a recording is cut into `steps` windows.
        clip: largest count of one pixel in one frame; `None` keeps the counts.
        pool: events of pool × pool pixels are counted together: frames of 128/pool × 128/pool.
    """

    binning: AbstractBinning = BY_TIME
    clip: int | None = None
    pool: int = 1

    name: ClassVar[str] = "dvs_gesture"
    summary: ClassVar[str] = "hand gestures seen by an event camera, 128×128, 2 polarities, 11 classes"
    licence: ClassVar[str] = "CC BY 4.0"
    source: ClassVar[str] = "A. Amir et al. (2017), A low power, fully event-based gesture recognition system, CVPR"
    files: ClassVar[tuple[RemoteFile, ...]] = tuple(
        RemoteFile(
            path=f"DVSGesture/{part}.tar.gz",
            urls=(
                f"https://ndownloader.figshare.com/files/{number}",
                f"https://figshare.com/ndownloader/files/{number}",
            ),
            known_hash=f"md5:{md5}",
            unpacks=(part,),
        )
        for part, number, md5 in (
            (_PARTS[0], 38022171, "3a8f0d4120a166bac7591f77409cb105"),
            (_PARTS[1], 38020584, "56070e45dadaa85fff82e0fbfbc06de5"),
        )
    )

    def __post_init__(self) -> None:
        check_pool(self.pool, self.name)

    @property
    def outline(self) -> Outline:
        return Outline(self._shape(), 11, temporal=True)

    def load(self, root: Path, *, steps: int, download: bool = True) -> Bundle:
        folders = [Path(root) / "DVSGesture" / part for part in _PARTS]
        place = f"the folders {_PARTS[0]} and {_PARTS[1]} in {folders[0].parent}"
        self.require(Path(root), lambda: all(folder.is_dir() for folder in folders), place, download)
        train, test = (self._split(Path(root), folder, steps) for folder in folders)
        return Bundle(train, test, 11, self._shape(), True, 1.0)

    def check(self, root: Path) -> list[FileReport]:
        reports = []
        for file, part in zip(self.files, _PARTS, strict=True):
            folder = Path(root) / "DVSGesture" / part
            if folder.is_dir():
                note = f"{len(_recordings(folder)):,} recordings"
                reports.append(FileReport(folder, FileState.UNVERIFIED, None, note))
            else:
                reports.append(check_remote(Path(root), file))
        return reports

    def _shape(self) -> tuple[int, int, int]:
        return 2, SENSOR // self.pool, SENSOR // self.pool

    def _split(self, root: Path, folder: Path, steps: int) -> Split:
        paths = _recordings(folder)
        labels = torch.tensor([int(path.stem) for path in paths], dtype=torch.int64)

        def read(index: int) -> Events:
            x, y, p, t = read_gesture(paths[index])
            return Events(x // self.pool, y // self.pool, p, t)

        def build() -> np.ndarray:
            names = [str(path) for path in paths]
            return stack_frames(read, names, steps=steps, shape=self._shape(), binning=self.binning, clip=self.clip)

        configuration = f"{steps}|{self.binning!r}|{self.clip}|{self.pool}"
        frames = cached_frames(root, f"dvs_gesture-{folder.name}", configuration, listing_key(paths), build)
        return make_split(frames, labels, classes=11, shape=self._shape(), where=str(folder))


def _recordings(folder: Path) -> list[Path]:
    """Every `folder/userNN_LIGHT/LABEL.npy`, in the order of names."""
    return sorted(path for path in folder.glob("*/*.npy") if path.stem.isdecimal())
