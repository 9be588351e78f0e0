"""Images that stay in their files until a batch asks for them, for data sets that no memory holds.

`ImageFiles` stands where a tensor of images would: it has a shape and a device, and indexing decodes. What a loader sees is the
same as if everything had been decoded at the start.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from aplysia.data.image_files import Source, decode

# Images looked at where a statistic over the whole set is asked for.
_SAMPLE = 8192


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files as rows of a tensor, uint8 `[N, C, H, W]`.

    Attributes:
        paths: one per image, or what reads like one.
        channels: 1 or 3.
        size: (H, W) of every image.
        resize: length of the shorter side before the middle of `size` is cut out; None: resized to `size` as a whole.
        device: where decoded images go.
    """

    paths: tuple[Source, ...]
    channels: int
    size: tuple[int, int]
    resize: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.paths), self.channels, *self.size))

    def to(self, device: torch.device | str) -> ImageFiles:
        """The same files, decoded to another device."""
        return replace(self, device=torch.device(device))

    def rows(self, indices: Tensor) -> ImageFiles:
        """Some of the files, in this order; nothing is decoded."""
        return replace(self, paths=tuple(self.paths[i] for i in indices.tolist()))

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        paths = self.paths[chosen] if isinstance(chosen, slice) else tuple(self.paths[i] for i in chosen.tolist())
        images = decode(paths, channels=self.channels, size=self.size, resize=self.resize)
        return torch.from_numpy(images).to(self.device, non_blocking=True)

    def split(self, size: int) -> list[Tensor]:
        """Decoded parts of an evenly spaced sample of the files, for statistics that need not see all of them."""
        step = max(1, len(self.paths) // _SAMPLE)
        sample = replace(self, paths=self.paths[::step])
        return [sample[start : start + size] for start in range(0, len(sample), size)]
