"""Mean and standard deviation per channel, for images and for frames, against the plain formula."""

from __future__ import annotations

import torch

from aplysia.data.base import Split
from aplysia.data.splits import channel_statistics


def test_images_and_frames() -> None:
    source = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2050, 3, 4, 5), dtype=torch.uint8, generator=source)
    images[:, 1] = 7  # a channel without variance must not divide by zero
    for inputs in (images, images.view(205, 10, 3, 4, 5)):
        mean, std = channel_statistics(Split(inputs, torch.zeros(len(inputs), dtype=torch.int64)), 1 / 255)
        flat = (images.double() / 255).transpose(0, 1).flatten(1)
        torch.testing.assert_close(torch.tensor(mean, dtype=torch.float64), flat.mean(1))
        want = flat.std(1, correction=0)
        want[1] = 1e-3
        torch.testing.assert_close(torch.tensor(std, dtype=torch.float64), want)
