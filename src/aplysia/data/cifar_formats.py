"""The two original formats of CIFAR: pickled batches and binary records.

    pickled   a dictionary: data uint8 [n, 3072] (red, green, blue plane of 32 × 32), labels or fine_labels [n]
    binary    records of L + 3072 bytes: CIFAR-10 L = 1, the label; CIFAR-100 L = 2, coarse then fine label

Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aplysia.data.safe_pickle import read_pickle
from aplysia.errors import DataError

SHAPE = (3, 32, 32)
_PIXELS = 3072


def read_batches(paths: list[Path], label_key: str, owner: str) -> tuple[Tensor, Tensor]:
    """Images uint8 `[N, 3, 32, 32]` and labels int64 `[N]` of pickled batches, in order."""
    return _joined([_batch(path, label_key, owner) for path in paths])


def read_records(paths: list[Path], label_bytes: int, owner: str) -> tuple[Tensor, Tensor]:
    """The same from binary files; the last of the `label_bytes` is the label."""
    return _joined([_records(path, label_bytes, owner) for path in paths])


def _joined(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    images, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    return torch.from_numpy(images.reshape(-1, *SHAPE)), torch.from_numpy(labels.astype(np.int64))


def _batch(path: Path, label_key: str, owner: str) -> tuple[np.ndarray, np.ndarray]:
    content = read_pickle(_present(path, owner), owner)
    images, labels = content.get("data"), content.get(label_key)
    if not isinstance(images, np.ndarray) or images.shape[1:] != (_PIXELS,):
        got = f"'data' of shape {images.shape}" if isinstance(images, np.ndarray) else "no array 'data'"
        raise _bad(path, owner, "'data' of shape (n, 3072)", got)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise _bad(path, owner, f"a list of whole numbers '{label_key}'", "none")
    if len(labels) != len(images):
        raise _bad(path, owner, "one label per image", f"{len(images)} images and {len(labels)} labels")
    return images, np.array(labels, np.int64)


def _records(path: Path, label_bytes: int, owner: str) -> tuple[np.ndarray, np.ndarray]:
    data = np.fromfile(_present(path, owner), np.uint8)
    record = label_bytes + _PIXELS
    if data.size == 0 or data.size % record:
        raise _bad(path, owner, f"records of {record} bytes", f"{data.size:,} bytes, which is no multiple of it")
    records = data.reshape(-1, record)
    return records[:, label_bytes:], records[:, label_bytes - 1]


def _present(path: Path, owner: str) -> Path:
    if not path.is_file():
        raise _bad(path, owner, "the file", "a folder without it")
    return path


def _bad(path: Path, owner: str, expected: str, got: str) -> DataError:
    fix = f"delete the folder {path.parent} and run `aplysia data fetch {owner}`"
    return DataError(str(path), expected=expected, got=got, fix=fix)
