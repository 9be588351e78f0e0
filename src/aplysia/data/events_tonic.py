"""Event data whose files are read by tonic, an optional extra: Spiking Heidelberg Digits and DVS-CIFAR10.

tonic is under the GPL and is imported only when one of these two is loaded. The files are fetched by us, checked,
and put where tonic looks for them, so that tonic itself never opens the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, final

import numpy as np
import torch

from aplysia.data.archive import unpack
from aplysia.data.base import (
    AbstractDataset,
    Bundle,
    FileReport,
    Outline,
    RemoteFile,
    Split,
    make_split,
)
from aplysia.data.binning import BY_TIME, AbstractBinning, Events
from aplysia.data.cache import listing_key
from aplysia.data.dvs_gesture import SENSOR, check_pool
from aplysia.data.event_frames import cached_frames, stack_frames
from aplysia.data.remote import check_remote
from aplysia.data.splits import every_nth
from aplysia.errors import DataError

_SHD_SHAPE = (1, 1, 700)


def tonic_datasets(owner: str) -> ModuleType:
    """`tonic.datasets`, or one sentence on how to get it."""
    try:
        import tonic.datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError(
            f"data set '{owner}'",
            expected="the package tonic, which reads its files",
            got=str(error) or "none",
            fix="pip install 'aplysia[events]'",
        ) from error
    return tonic.datasets


def _events(recording: np.ndarray, pool: int = 1) -> Events:
    """tonic's structured array with fields x, (y,) p, t; sets without y have one row."""
    x, p, t = (recording[field].astype(np.int64) for field in ("x", "p", "t"))
    names = recording.dtype.names or ()
    y = recording["y"].astype(np.int64) if "y" in names else np.zeros_like(x)
    return Events(x // pool, y // pool, p, t)


@final
@dataclass(frozen=True, kw_only=True)
class Shd(AbstractDataset):
    """Spoken digits, English and German, as spikes of 700 channels of an artificial ear.

    A frame has the shape (1, 1, 700).

    Attributes:
        binning: how a recording is cut into `steps` windows.
        clip: largest count of one channel in one frame; `None` keeps the counts.
    """

    binning: AbstractBinning = BY_TIME
    clip: int | None = None

    name: ClassVar[str] = "shd"
    summary: ClassVar[str] = "spoken digits as spikes of 700 channels, 20 classes, 8,156 + 2,264 (needs tonic)"
    licence: ClassVar[str] = "CC BY 4.0"
    source: ClassVar[str] = (
        "B. Cramer, Y. Stradmann, J. Schemmel, F. Zenke (2020), The Heidelberg spiking data sets for the systematic "
        "evaluation of spiking neural networks, IEEE TNNLS"
    )
    files: ClassVar[tuple[RemoteFile, ...]] = tuple(
        RemoteFile(
            path=f"SHD/shd_{part}.h5.zip",
            urls=(f"https://zenkelab.org/datasets/shd_{part}.h5.zip",),
            known_hash=f"md5:{md5}",
            unpacks=(f"shd_{part}.h5",),
        )
        for part, md5 in (
            ("train", "f3252aeb598ac776c1b526422d90eecb"),
            ("test", "1503a5064faa34311c398fb0a1ed0a6f"),
        )
    )

    @property
    def outline(self) -> Outline:
        return Outline(_SHD_SHAPE, 20, temporal=True)

    def load(self, root: Path, *, steps: int, download: bool = True) -> Bundle:
        module = tonic_datasets(self.name)
        root = Path(root)
        folder = root / "SHD"
        wanted = [folder / f"shd_{part}.h5{end}" for part in ("train", "test") for end in ("", ".zip")]
        place = f"shd_train.h5, shd_test.h5 and the .zip of each in {folder}"
        self.require(root, lambda: all(path.is_file() for path in wanted), place, download)
        train, test = (self._split(root, module, part, steps) for part in ("train", "test"))
        return Bundle(train, test, 20, _SHD_SHAPE, True, 1.0)

    def check(self, root: Path) -> list[FileReport]:
        return [check_remote(Path(root), file) for file in self.files]

    def _split(self, root: Path, module: ModuleType, part: str, steps: int) -> Split:
        recordings: Any = module.SHD(save_to=str(root), train=part == "train")
        count, file = len(recordings), root / "SHD" / f"shd_{part}.h5"
        labels = torch.tensor([int(recordings[i][1]) for i in range(count)])

        def read(index: int) -> Events:
            events = _events(recordings[index][0])
            return events._replace(p=np.zeros_like(events.x))  # tonic adds a polarity of 1; there is none

        def build() -> np.ndarray:
            names = [f"{file}, recording {i}" for i in range(count)]
            return stack_frames(read, names, steps=steps, shape=_SHD_SHAPE, binning=self.binning, clip=self.clip)

        configuration = f"{steps}|{self.binning!r}|{self.clip}"
        frames = cached_frames(root, f"shd-{part}", configuration, listing_key([file]), build)
        return make_split(frames, labels, classes=20, shape=_SHD_SHAPE, where=str(file))


@final
@dataclass(frozen=True, kw_only=True)
class DvsCifar10(AbstractDataset):
    """CIFAR-10 images moved before an event camera. Test split, as none is published: every tenth of its class.

    Attributes:
        binning: how a recording is cut into `steps` windows.
        clip: largest count of one pixel in one frame; `None` keeps the counts.
        pool: events of pool × pool pixels are counted together: frames of 128/pool × 128/pool.
    """

    binning: AbstractBinning = BY_TIME
    clip: int | None = None
    pool: int = 1

    name: ClassVar[str] = "dvs_cifar10"
    summary: ClassVar[str] = "CIFAR-10 seen by an event camera, 128×128, 2 polarities, 9,000 + 1,000 (needs tonic)"
    licence: ClassVar[str] = "CC BY 4.0"
    source: ClassVar[str] = (
        "H. Li, H. Liu, X. Ji, G. Li, L. Shi (2017), CIFAR10-DVS: an event-stream dataset for object classification, "
        "Front. Neurosci. 11:309"
    )
    class_names: ClassVar[tuple[str, ...]] = (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    files: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            path="CIFAR10DVS/CIFAR10DVS.zip",
            urls=(
                "https://ndownloader.figshare.com/files/38023437",
                "https://figshare.com/ndownloader/files/38023437",
            ),
            known_hash="md5:ce3a4a0682dc0943703bd8f749a7701c",
            unpacks=tuple(f"{name}.zip" for name in class_names),
        ),
    )

    def __post_init__(self) -> None:
        check_pool(self.pool, self.name)

    @property
    def outline(self) -> Outline:
        return Outline((2, SENSOR // self.pool, SENSOR // self.pool), 10, temporal=True)

    def load(self, root: Path, *, steps: int, download: bool = True) -> Bundle:
        module = tonic_datasets(self.name)
        root = Path(root)
        folder = root / "CIFAR10DVS"
        wanted = [folder / "CIFAR10DVS.zip", *(folder / f"{name}.zip" for name in self.class_names)]
        place = f"CIFAR10DVS.zip and the ten archives that come out of it in {folder}"
        self.require(root, lambda: all(path.is_file() for path in wanted), place, download)
        for name in self.class_names:
            if not (folder / name).is_dir():
                unpack(folder / f"{name}.zip", (name,), self.name)
        recordings: Any = module.CIFAR10DVS(save_to=str(root))
        # tonic lists files in the order of the disk; names give every machine one order.
        order = sorted(range(len(recordings)), key=lambda i: recordings.data[i])
        paths: Sequence[Path] = [Path(recordings.data[i]) for i in order]
        labels = torch.tensor([int(recordings.targets[i]) for i in order])
        shape = (2, SENSOR // self.pool, SENSOR // self.pool)

        def build() -> np.ndarray:
            return stack_frames(
                lambda i: _events(recordings[order[i]][0], self.pool),
                [str(path) for path in paths],
                steps=steps,
                shape=shape,
                binning=self.binning,
                clip=self.clip,
            )

        configuration = f"{steps}|{self.binning!r}|{self.clip}|{self.pool}"
        frames = cached_frames(root, self.name, configuration, listing_key(paths), build)
        everything = make_split(frames, labels, classes=10, shape=shape, where=str(folder))
        train, test = every_nth(everything.labels, 10)
        return Bundle(everything.subset(train), everything.subset(test), 10, shape, True, 1.0)

    def check(self, root: Path) -> list[FileReport]:
        return [check_remote(Path(root), file) for file in self.files]
