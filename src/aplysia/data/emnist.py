"""EMNIST: handwritten digits and letters in MNIST's format, in six groupings of the classes.

Two oddities of the files are mended here: every image is stored transposed (rows and columns swapped), and the
labels of `letters` run 1 … 26.

Layout, the one torchvision uses: `ROOT/EMNIST/raw/emnist-SPLIT-{train,test}-images-idx3-ubyte[.gz]` and labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

from torch import Tensor

from aplysia.data.base import AbstractDataset, Bundle, FileReport, Outline, RemoteFile, Split, subset_caveat
from aplysia.data.idx import find_idx
from aplysia.data.mnist import IMAGE, load_pair
from aplysia.data.remote import check_hash, check_remote
from aplysia.errors import DataError, near

# grouping: classes, first label in the file, train and test samples (Cohen et al. 2017, table II, and the files)
_SPLITS = {
    "balanced": (47, 0, (112_800, 18_800)),
    "byclass": (62, 0, (697_932, 116_323)),
    "bymerge": (47, 0, (697_932, 116_323)),
    "digits": (10, 0, (240_000, 40_000)),
    "letters": (26, 1, (124_800, 20_800)),
    "mnist": (10, 0, (60_000, 10_000)),
}


@final
@dataclass(frozen=True, kw_only=True)
class Emnist(AbstractDataset):
    """Handwritten digits and letters.

    Attributes:
        split: which grouping: balanced, byclass, bymerge, digits, letters or mnist; part of the files' names.
    """

    split: str = "balanced"

    name: ClassVar[str] = "emnist"
    summary: ClassVar[str] = "handwritten digits and letters, 28×28 grey, 10 to 62 classes by grouping"
    licence: ClassVar[str] = "none stated; derived from NIST Special Database 19"
    source: ClassVar[str] = (
        "G. Cohen, S. Afshar, J. Tapson, A. van Schaik (2017), EMNIST: an extension of MNIST to handwritten letters, "
        "arXiv:1702.05373"
    )
    files: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            path="EMNIST/raw/gzip.zip",
            urls=(
                "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
                "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
            ),
            known_hash="md5:58c8d27c78d21e728a6bc7b3cc06412e",
            unpacks=("gzip",),
        ),
    )

    def __post_init__(self) -> None:
        if self.split not in _SPLITS:
            raise DataError(
                "data set 'emnist'",
                expected="a known split",
                got=f"'{self.split}'",
                fix=near(self.split, _SPLITS),
            )

    @property
    def outline(self) -> Outline:
        return Outline(IMAGE, _SPLITS[self.split][0])

    def load(self, root: Path, *, steps: int = 1, download: bool = True) -> Bundle:
        place = f"the IDX files emnist-{self.split}-… in {Path(root) / 'EMNIST' / 'raw'}"
        self.require(Path(root), lambda: None not in self._paths(root), place, download)
        train, test = self._part(root, "train"), self._part(root, "test")
        classes, _, full = _SPLITS[self.split]
        return Bundle(train, test, classes, IMAGE, False, 1 / 255, subset_caveat(train, test, full))

    def check(self, root: Path) -> list[FileReport]:
        paths = self._paths(root)
        if any(paths):
            raw = self._folders(root)[0]
            stems = self._stems()
            return [check_hash(path or raw / stems[i], None) for i, path in enumerate(paths)]
        return [check_remote(Path(root), file) for file in self.files]

    def _part(self, root: Path, part: str) -> Split:
        classes, first_label, _ = _SPLITS[self.split]
        images, labels = (stem for stem in self._stems() if f"-{part}-" in stem)
        split = load_pair(
            self._folders(root), images, labels, classes=classes, owner=self.name, first_label=first_label
        )
        assert isinstance(split.inputs, Tensor)
        return Split(split.inputs.transpose(-1, -2).contiguous(), split.labels)

    def _stems(self) -> list[str]:
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        return [f"emnist-{self.split}-{part}-{kind}" for part in ("train", "test") for kind in kinds]

    def _folders(self, root: Path) -> tuple[Path, Path]:
        raw = Path(root) / "EMNIST" / "raw"
        return raw, raw / "gzip"  # where torchvision leaves them, and where the authors' archive does

    def _paths(self, root: Path) -> list[Path | None]:
        return [find_idx(self._folders(root), stem) for stem in self._stems()]
