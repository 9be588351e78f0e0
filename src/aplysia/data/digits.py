"""The 8 × 8 digits that come with the library: 1,797 real samples, no download, enough to see a rule learn.

Each pixel counts the set points in a 4 × 4 block of a 32 × 32 bitmap, so values are 0 … 16. These are the test part
of UCI's "Optical Recognition of Handwritten Digits" (13 writers); the split below mixes those writers, so its test
accuracy says nothing about unseen handwriting.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch

from aplysia.data.base import AbstractDataset, Bundle, FileReport, Outline, make_split
from aplysia.data.remote import check_hash
from aplysia.data.splits import every_nth

_FILE = Path(__file__).parent / "files" / "digits.npz"
_HASH = "sha256:b2dab7b501728c22e9119ad76740b2e17c77a231e42d1e592380d90886f1a05e"


@final
@dataclass(frozen=True, kw_only=True)
class Digits(AbstractDataset):
    """Handwritten digits, shipped. Test split: every fifth sample of its class (355); the other 1,442 train."""

    name: ClassVar[str] = "digits"
    summary: ClassVar[str] = "handwritten digits, 8×8 grey, 10 classes, 1,442 + 355, comes with the library"
    licence: ClassVar[str] = "CC BY 4.0"
    source: ClassVar[str] = (
        "E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
        "doi:10.24432/C50P49"
    )

    @property
    def outline(self) -> Outline:
        return Outline((1, 8, 8), 10)

    def load(self, root: Path | None = None, *, steps: int = 1, download: bool = True) -> Bundle:
        with np.load(_FILE, allow_pickle=False) as stored:
            images, labels = torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
        everything = make_split(images.unsqueeze(1), labels, classes=10, shape=(1, 8, 8), where=str(_FILE))
        train, test = every_nth(everything.labels, 5)
        return Bundle(everything.subset(train), everything.subset(test), 10, (1, 8, 8), False, 1 / 16)

    def check(self, root: Path | None = None) -> list[FileReport]:
        return [check_hash(_FILE, _HASH)]
