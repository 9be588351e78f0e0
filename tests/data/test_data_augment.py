"""Each augmentation against a slow reference that handles one sample at a time."""

from __future__ import annotations

import pytest
import torch

from aplysia.data import Cutout, RandomCrop, RandomFlip
from aplysia.errors import DataError
from aplysia.rng import generator

ALL = [RandomCrop(padding=4), RandomCrop(padding=1), RandomFlip(), Cutout(size=16), Cutout(size=5)]
SHAPES = [(6, 3, 32, 32), (5, 4, 2, 20, 12)]


def images_of(shape, dtype=torch.uint8):
    return torch.randint(1, 256, shape, generator=generator("cpu", 1)).to(dtype)


def stream():
    return generator("cpu", 2)


def slow_crop(image, padding, dy, dx):
    height, width = image.shape[-2:]
    out = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            row, column = y + dy - padding, x + dx - padding
            if 0 <= row < height and 0 <= column < width:
                out[..., y, x] = image[..., row, column]
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_crop_is_some_window_of_each_sample(shape):
    images = images_of(shape)
    out = RandomCrop(padding=2)(images, stream())
    found = []
    for before, after in zip(images, out, strict=True):
        places = [(dy, dx) for dy in range(5) for dx in range(5) if torch.equal(after, slow_crop(before, 2, dy, dx))]
        assert len(places) == 1
        found += places
    assert len(set(found)) > 1


def test_crop_reaches_every_place_equally():
    images = torch.arange(1, 10).reshape(1, 1, 3, 3).expand(9000, 1, 3, 3)
    centre = RandomCrop(padding=1)(images, stream())[:, 0, 1, 1]
    counts = centre.bincount(minlength=10)[1:]
    assert counts.min() > 850
    assert counts.max() < 1150


@pytest.mark.parametrize("shape", SHAPES)
def test_flip_mirrors_about_half(shape):
    images = images_of((400, *shape[1:]))
    out = RandomFlip()(images, stream())
    flipped = 0
    for before, after in zip(images, out, strict=True):
        mirrored = torch.equal(after, before.flip(-1))
        assert mirrored or torch.equal(after, before)
        flipped += mirrored
    assert 160 < flipped < 240


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_is_a_square_around_some_pixel(shape, size):
    images = images_of(shape)
    out = Cutout(size=size)(images, stream())
    height, width = shape[-2:]
    for before, after in zip(images, out, strict=True):
        fits = 0
        for cy in range(height):
            for cx in range(width):
                top, left = cy - size // 2, cx - size // 2
                expected = before.clone()
                expected[..., max(0, top) : max(0, top + size), max(0, left) : max(0, left + size)] = 0
                fits += torch.equal(after, expected)
        assert fits >= 1


@pytest.mark.parametrize("size", [3, 4])
def test_cutout_makes_exactly_the_holes_of_all_centres(size):
    expected = set()
    for cy in range(6):
        for cx in range(5):
            image = torch.ones(6, 5)
            top, left = cy - size // 2, cx - size // 2
            image[max(0, top) : top + size, max(0, left) : left + size] = 0
            expected.add(tuple(image.flatten().tolist()))
    out = Cutout(size=size)(torch.ones(2000, 1, 6, 5), stream())
    assert {tuple(image.flatten().tolist()) for image in out} == expected


def test_cutout_area():
    ones = torch.ones(4000, 1, 32, 32)
    area = (Cutout(size=8)(ones, stream()) == 0).sum((1, 2, 3))
    assert area.max() == 64
    assert area.min() == 16  # a corner keeps half of each side
    # The visible length of one side is 8 except near the borders: 4 … 7 and 7 … 5.
    side = (8 * 25 + (4 + 5 + 6 + 7) + (7 + 6 + 5)) / 32
    assert area.float().mean().item() == pytest.approx(side**2, rel=0.02)


@pytest.mark.parametrize("augmentation", ALL)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_pure_seeded_and_alike_for_all_frames(augmentation, shape, dtype):
    images = images_of(shape, dtype)
    kept = images.clone()
    out = augmentation(images, stream())
    assert torch.equal(images, kept)
    assert (out.shape, out.dtype) == (images.shape, images.dtype)
    assert torch.equal(out, augmentation(images, stream()))
    assert not torch.equal(out, augmentation(images, generator("cpu", 3)))
    alike = images[:, :1].expand(shape) if len(shape) == 5 else images
    frames = augmentation(alike, stream())
    if len(shape) == 5:
        assert torch.equal(frames, frames[:, :1].expand(shape))


def test_sizes_below_one_are_refused():
    with pytest.raises(DataError, match="padding of at least 1"):
        RandomCrop(padding=0)
    with pytest.raises(DataError, match="size of at least 1"):
        Cutout(size=0)
