"""Decoded data kept beside the originals, so that the second load of many small files is one read.

A cache is never believed blindly: it holds a key made of every file's name, size and time of change, and a cache
with another key, or a damaged one, is built again. It is stored as plain arrays; reading one runs no code.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

FOLDER = ".aplysia"


def listing_key(paths: Iterable[Path]) -> str:
    """A fingerprint of a list of files: their names, sizes and times of change."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        stat = os.stat(path)
        digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def cached(root: Path, name: str, key: str, build: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays that `build()` makes, from the cache if it holds them under `key`.

    Args:
        root: the data root; the cache lies in `root/.aplysia/name.npz`.
        name: one per data set and configuration, a valid file name.
        key: what the originals are, by `listing_key`.
    """
    path = root / FOLDER / f"{name}.npz"
    arrays = _read(path, key)
    if arrays is None:
        arrays = build()
        _write(path, key, arrays)
    return arrays


def _read(path: Path, key: str) -> dict[str, np.ndarray] | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            return {name: stored[name] for name in stored.files if name != "key"}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # damaged: the originals are there, so build it again and write over it


def _write(path: Path, key: str, arrays: dict[str, np.ndarray]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".cache-") as folder:
            temporary = Path(folder) / path.name
            np.savez(temporary, key=np.array(key), **arrays)  # pyright: ignore[reportArgumentType]
            os.replace(temporary, path)
    except OSError:
        pass  # a read-only or full disk costs the next load some time, and nothing else
