"""Random changes of training images, drawn per sample and applied to the whole batch at once.

    augmentation(images, generator) -> images          [B, C, H, W], or frames [B, T, C, H, W]

Pure: the batch is not changed, and all randomness comes from the generator. Every frame of a recording gets the same
change. Any dtype: `Loader` applies them to the stored bytes, before scaling, so what is filled in is 0, black.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.errors import DataError


class AbstractAugmentation(ABC):
    """A random change of images that keeps their shape and dtype; subclasses are frozen dataclasses."""

    @abstractmethod
    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The changed batch; `generator` lies on the device of `images`."""


@final
@dataclass(frozen=True, kw_only=True)
class RandomCrop(AbstractAugmentation):
    """Pad by zeros on all sides, cut out a window of the old size at a uniform place.

        out[b, …, y, x] = padded[b, …, y + dy_b, x + dx_b],      dy_b, dx_b ∈ {0, …, 2·padding}

    Attributes:
        padding: pixels on each side.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        _positive("RandomCrop", "padding", self.padding)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        batch, (height, width), device = len(images), images.shape[-2:], images.device
        padded = F.pad(images.reshape(batch, -1, height, width), (self.padding,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view [B, ·, dy, dx, H, W], nothing is copied
        dy, dx = torch.randint(2 * self.padding + 1, (2, batch), generator=generator, device=device)
        return windows[torch.arange(batch, device=device), :, dy, dx].reshape(images.shape)


@final
@dataclass(frozen=True, kw_only=True)
class RandomFlip(AbstractAugmentation):
    """Mirror left and right with probability ½."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        flip = torch.randint(2, (len(images),), generator=generator, device=images.device, dtype=torch.bool)
        return torch.where(_per_sample(flip, images), images.flip(-1), images)


@final
@dataclass(frozen=True, kw_only=True)
class Cutout(AbstractAugmentation):
    """Set a square to zero, around a uniform pixel; what falls outside the image is cut off.

        out = 0 where  cy − ⌊s/2⌋ ≤ y < cy − ⌊s/2⌋ + s  and the same for x,   cy, cx uniform over the image

    T. DeVries, G. W. Taylor (2017). Improved regularization of convolutional neural networks with cutout.
    arXiv:1708.04552.

    Attributes:
        size: s, side of the square in pixels.
    """

    size: int = 16

    def __post_init__(self) -> None:
        _positive("Cutout", "size", self.size)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        inside = []
        for extent in images.shape[-2:]:
            centre = torch.randint(extent, (len(images), 1), generator=generator, device=images.device)
            distance = torch.arange(extent, device=images.device) - (centre - self.size // 2)
            inside.append((distance >= 0) & (distance < self.size))
        rows, columns = inside
        hole = rows[:, :, None] & columns[:, None, :]
        hole = hole.reshape(len(images), *([1] * (images.ndim - 3)), *images.shape[-2:])
        return images.masked_fill(hole, 0)


def _per_sample(value: Tensor, images: Tensor) -> Tensor:
    """`[B]` as `[B, 1, …, 1]`, to go with images."""
    return value.reshape(-1, *([1] * (images.ndim - 1)))


def _positive(owner: str, what: str, value: int) -> None:
    if value < 1:
        raise DataError(owner, expected=f"{what} of at least 1", got=str(value), fix="raise it or leave it out")
