"""Batches of a split whose tensors stay on the device, or in their files: shuffled, augmented, scaled, normalised.

    order of epoch e          depends on (seed, e)         drawn on the CPU, the same on every device
    augmentation of batch i   depends on (seed, e, i)      drawn on the device
    x = (stored · scale − mean) / std                      per channel

Nothing depends on the batches drawn before, so a run resumes at any batch with the numbers it would have had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from aplysia.data.augment import AbstractAugmentation
from aplysia.data.base import Split
from aplysia.errors import DataError
from aplysia.ranks import present
from aplysia.rng import generator


class Loader:
    """The batches of a split.

    Args:
        split: on the device where batches are wanted.
        batch_size: samples per batch; the last one may be smaller.
        seed: of order and augmentation.
        scale: of the data set, stored value to float.
        mean, std: per channel, of the scaled values; both or neither.
        augmentations: applied in this order to the stored values.
        shuffle: a new order in each epoch.
        drop_last: leave out a last batch that is smaller.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int,
        scale: float,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        augmentations: Sequence[AbstractAugmentation] = (),
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> None:
        self.split, self.batch_size, self.seed, self.scale = split, batch_size, seed, scale
        self.augmentations, self.shuffle, self.drop_last = tuple(augmentations), shuffle, drop_last
        self._check(mean, std)
        self._mean = None if mean is None else self._per_channel(mean)
        self._std = None if std is None else self._per_channel(std)
        self._order: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(len(self.split), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def count(self, index: int) -> int:
        """Samples of a batch, in all processes that train together."""
        return min(self.batch_size, len(self.split) - index * self.batch_size)

    @property
    def scaling(self) -> dict[str, float | list[float] | None]:
        """`scale`, `mean` and `std` as they are applied, in plain numbers."""
        mean, std = (None if part is None else part.flatten().tolist() for part in (self._mean, self._std))
        return {"scale": self.scale, "mean": mean, "std": std}

    def batch(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index` of an epoch: float32 inputs `[B, C, H, W]` or `[B, T, C, H, W]`, int64 labels `[B]`.

        Of several processes that train together each gets its part of the batch.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        ranks = present()
        start, end = ranks.bounds(self.count(index))
        if start == end:  # one that weighs nothing keeps this process in step with the others
            start, end = 0, 1
        first = index * self.batch_size
        chosen = slice(first + start, first + end)
        if self.shuffle:
            chosen = self._permutation(epoch)[chosen]
        inputs, labels = self.split.inputs[chosen], self.split.labels[chosen]
        if self.augmentations:
            stream = generator(inputs.device, self.seed, "augment", epoch, index, *ranks.keys)
            for augmentation in self.augmentations:
                inputs = augmentation(inputs, stream)
        return self._scaled(inputs), labels

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` samples of the split as they lie, neither shuffled nor augmented: a batch that stays the same."""
        return self._scaled(self.split.inputs[:count]), self.split.labels[:count]

    def _scaled(self, inputs: Tensor) -> Tensor:
        inputs = inputs.to(torch.float32) * self.scale
        return inputs if self._mean is None or self._std is None else (inputs - self._mean) / self._std

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch from batch `start` on."""
        if isinstance(self.split.inputs, Tensor):
            for index in range(start, len(self)):
                yield self.batch(epoch, index)
            return
        # Files are decoded while the batch before them is being learnt from.
        with ThreadPoolExecutor(1) as ahead:
            coming = None
            for index in range(start, len(self)):
                now = coming or ahead.submit(self.batch, epoch, index)
                coming = ahead.submit(self.batch, epoch, index + 1) if index + 1 < len(self) else None
                yield now.result()

    def _permutation(self, epoch: int) -> Tensor:
        """Order `[N]` of an epoch; the last one asked for is kept, which changes the cost and not the result."""
        if self._order is None or self._order[0] != epoch:
            order = torch.randperm(len(self.split), generator=generator("cpu", self.seed, "order", epoch))
            self._order = epoch, order.to(self.split.labels.device)
        return self._order[1]

    def _per_channel(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.split.inputs.device)[:, None, None]

    def _check(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        if self.batch_size < 1:
            raise _bad("a batch size of at least 1", str(self.batch_size), "raise it")
        if len(self) == 0:
            got = f"{len(self.split)} samples in batches of {self.batch_size}, the last one dropped"
            raise _bad("at least one batch per epoch", got, "choose smaller batches")
        if (mean is None) != (std is None):
            raise _bad("mean and std together", "one of them", "give both or neither")
        channels = self.split.inputs.shape[-3]
        for name, values in (("mean", mean), ("std", std)):
            if values is not None and len(values) != channels:
                raise _bad(f"{name} of {channels} channels", f"{len(values)} numbers", "give one number per channel")
        if std is not None and min(std) <= 0:
            raise _bad("std above 0", str(min(std)), "give the standard deviation of the scaled values")


def _bad(expected: str, got: str, fix: str) -> DataError:
    return DataError("Loader", expected=expected, got=got, fix=fix)
