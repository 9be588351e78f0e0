"""Many recordings as one tensor of frames, and the cache of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aplysia.data.binning import AbstractBinning, Events
from aplysia.data.cache import cached
from aplysia.data.progress import Progress, announce
from aplysia.errors import DataError

_MANY = 500  # recordings from which it is worth a word


def stack_frames(
    read: Callable[[int], Events],
    names: Sequence[str],
    *,
    steps: int,
    shape: tuple[int, int, int],
    binning: AbstractBinning,
    clip: int | None,
) -> np.ndarray:
    """Frames `[N, T, C, H, W]`: uint8 where every count is at most 255, else float32.

    Args:
        read: recording i.
        names: of all N recordings, for messages.
        steps: T.
        shape: (C, H, W).
        clip: counts above it are set to it; 1 makes frames of zeros and ones.
    """
    if steps < 1 or (clip is not None and clip < 1):
        got = f"steps {steps}" if steps < 1 else f"clip {clip}"
        raise DataError("binning of events", expected="steps and clip of at least 1", got=got, fix="raise it")
    if len(names) > _MANY:
        announce(f"binning {len(names):,} recordings into {steps} frames each")
    progress = Progress("binning", len(names))
    stacked = np.empty((len(names), steps, *shape), np.uint8)
    for index, name in enumerate(names):
        counts = binning.frames(read(index), steps=steps, shape=shape, where=name)
        if clip is not None:
            counts = np.minimum(counts, clip)
        if stacked.dtype == np.uint8 and counts.max() > 255:
            stacked = stacked.astype(np.float32)  # a quarter of the memory is worth trying bytes first
        stacked[index] = counts
        progress.update(1)
    progress.close()
    return stacked


def cached_frames(root: Path, name: str, configuration: str, key: str, build: Callable[[], np.ndarray]) -> Tensor:
    """`build()`'s frames, from the cache if it holds them for this configuration and these recordings.

    Args:
        name: data set and split.
        configuration: steps, binning and whatever else the frames depend on.
        key: fingerprint of the recordings.
    """
    digest = hashlib.blake2b(configuration.encode(), digest_size=8).hexdigest()
    return torch.from_numpy(cached(root, f"{name}-{digest}", key, lambda: {"frames": build()})["frames"])
