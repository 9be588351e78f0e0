"""Loader, encoders and splits."""

from __future__ import annotations

import pytest
import torch

from aplysia.data import Cutout, Direct, Loader, Poisson, RandomCrop, RandomFlip, Split, train_validation
from aplysia.data.splits import every_nth
from aplysia.errors import DataError
from aplysia.rng import generator
from aplysia.types import Held


def split_of(count=23, shape=(3, 8, 8)):
    inputs = torch.randint(0, 256, (count, *shape), generator=generator("cpu", 5), dtype=torch.uint8)
    return Split(inputs, torch.arange(count) % 10)


def loader(split, batch_size=5, **settings):
    return Loader(split, batch_size, **{"seed": 3, "scale": 1 / 255} | settings)


def test_every_sample_once_per_epoch():
    split = Split(torch.arange(23, dtype=torch.uint8).reshape(23, 1, 1, 1), torch.arange(23))
    orders = []
    for epoch in (0, 1):
        labels = [labels for _, labels in loader(split).batches(epoch)]
        assert [len(some) for some in labels] == [5, 5, 5, 5, 3]
        orders.append(torch.cat(labels).tolist())
        assert sorted(orders[-1]) == list(range(23))
    assert orders[0] != orders[1]
    assert orders[0] != list(range(23))
    unshuffled = torch.cat([labels for _, labels in loader(split, shuffle=False).batches(4)])
    assert unshuffled.tolist() == list(range(23))
    inputs, labels = loader(split).batch(0, 2)
    assert torch.equal((inputs.flatten() * 255).round().long(), labels)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("count", [20, 23])
def test_length(count, drop_last):
    batches = loader(split_of(count), drop_last=drop_last)
    assert len(batches) == len(list(batches.batches(0))) == (5 if count == 23 and not drop_last else 4)
    with pytest.raises(IndexError):
        batches.batch(0, len(batches))
    with pytest.raises(IndexError):
        batches.batch(0, -1)


def test_resuming_anywhere_gives_the_same_batches():
    augmentations = (RandomCrop(padding=2), RandomFlip(), Cutout(size=3))
    settings = {"augmentations": augmentations, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    whole = loader(split_of(), **settings)
    run = [whole.batch(epoch, index) for epoch in range(2) for index in range(5)]
    fresh = loader(split_of(), **settings)
    resumed = list(fresh.batches(1, start=2))
    assert len(resumed) == 3
    for (inputs, labels), (again, labels_again) in zip(run[7:], resumed, strict=True):
        assert torch.equal(inputs, again)
        assert torch.equal(labels, labels_again)
    other = loader(split_of(), **settings | {"seed": 4})
    assert not torch.equal(other.batch(0, 0)[0], run[0][0])


def test_augmentation_differs_between_batches_and_epochs():
    same = Split(split_of(1).inputs.expand(10, 3, 8, 8), torch.zeros(10, dtype=torch.int64))
    batches = loader(same, augmentations=(RandomCrop(padding=2),))
    drawn = [batches.batch(epoch, index)[0] for epoch in (0, 1) for index in (0, 1)]
    assert len({tuple(some.flatten().tolist()) for some in drawn}) == 4


@pytest.mark.parametrize("shape", [(3, 8, 8), (6, 3, 8, 8)])
def test_scale_and_normalisation_per_channel(shape):
    split = split_of(7, shape)
    plain, _ = loader(split, shuffle=False, scale=1 / 16).batch(0, 0)
    assert plain.dtype == torch.float32
    assert torch.equal(plain, split.inputs[:5].float() / 16)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0])
    normal, _ = loader(split, shuffle=False, scale=1 / 16, mean=mean.tolist(), std=std.tolist()).batch(0, 0)
    for channel in range(3):
        expected = (plain[..., channel, :, :] - mean[channel]) / std[channel]
        assert torch.allclose(normal[..., channel, :, :], expected)


def test_fill_of_a_crop_is_black_before_normalisation():
    split = Split(torch.full((4, 1, 6, 6), 255, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    batch, _ = loader(split, augmentations=(Cutout(size=2),), mean=(0.5,), std=(0.5,)).batch(0, 0)
    assert batch.unique().tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 0}, "batch size of at least 1"),
        ({"batch_size": 50, "drop_last": True}, "at least one batch"),
        ({"mean": (0.0, 0.0, 0.0)}, "mean and std together"),
        ({"mean": (0.0,), "std": (1.0,)}, "mean of 3 channels"),
        ({"mean": (0.0, 0.0, 0.0), "std": (1.0, 0.0, 1.0)}, "std above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(DataError, match=words):
        loader(split_of(), **settings)


def test_direct_holds_images_and_turns_frames_time_first():
    stream = generator("cpu", 1)
    image = torch.rand(4, 3, 8, 8)
    held = Direct()(image, 6, stream)
    assert isinstance(held, Held)
    assert held.value is image
    assert held.steps == 6
    frames = torch.rand(4, 6, 2, 8, 8)
    drive = Direct()(frames, 6, stream)
    assert isinstance(drive, torch.Tensor)
    assert torch.equal(drive[5, 2], frames[2, 5])
    with pytest.raises(DataError, match="recordings of 5 frames, got 6 frames"):
        Direct()(frames, 5, stream)


def test_poisson_rates():
    x = torch.tensor([0.0, 0.2, 0.5, 1.0])
    spikes = Poisson()(x.expand(50, 4), 400, generator("cpu", 1))
    assert isinstance(spikes, torch.Tensor)
    assert spikes.shape == (400, 50, 4)
    assert spikes.dtype == torch.float32
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    # 20,000 draws: standard error at most 0.0036
    assert torch.allclose(spikes.mean((0, 1)), x, atol=0.015)
    half = Poisson(gain=0.5)(x.expand(50, 4), 400, generator("cpu", 1))
    assert torch.allclose(half.mean((0, 1)), x / 2, atol=0.015)
    double = Poisson(gain=2.0)(x.expand(50, 4), 400, generator("cpu", 1))
    assert torch.allclose(double.mean((0, 1)), (2 * x).clamp(max=1), atol=0.015)
    assert not torch.equal(spikes[0], spikes[1])
    assert torch.equal(spikes, Poisson()(x.expand(50, 4), 400, generator("cpu", 1)))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_poisson_refuses_what_is_no_probability(value):
    x = torch.full((2, 1, 4, 4), 0.5)
    x[1, 0, 2, 2] = value
    with pytest.raises(DataError, match="without mean and std"):
        Poisson()(x, 3, generator("cpu", 1))


def test_poisson_refuses_frames_and_no_gain():
    with pytest.raises(DataError, match="spikes already"):
        Poisson()(torch.zeros(2, 3, 1, 4, 4), 3, generator("cpu", 1))
    with pytest.raises(DataError, match="gain above 0"):
        Poisson(gain=0.0)


def test_validation_is_stratified_seeded_and_disjoint():
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate((50, 30, 20))])
    split = Split(torch.arange(100, dtype=torch.float32).reshape(100, 1, 1, 1), labels)
    train, validation = train_validation(split, 0.2, seed=9)
    assert validation.labels.bincount().tolist() == [10, 6, 4]
    assert train.labels.bincount().tolist() == [40, 24, 16]
    together = torch.cat([train.inputs, validation.inputs]).flatten().sort().values
    assert together.tolist() == list(range(100))
    assert torch.equal(validation.inputs, train_validation(split, 0.2, seed=9)[1].inputs)
    assert not torch.equal(validation.inputs, train_validation(split, 0.2, seed=10)[1].inputs)


@pytest.mark.parametrize("fraction", [-0.1, 0.0, 1.0, 1.5, 0.001, 0.999])
def test_validation_that_leaves_a_side_empty_is_refused(fraction):
    with pytest.raises(DataError, match="a fraction between 0 and 1"):
        train_validation(split_of(20), fraction, seed=0)


def test_every_nth():
    labels = torch.tensor([0, 1, 0, 0, 1, 1, 0, 1])
    others, chosen = every_nth(labels, 2)
    assert chosen.tolist() == [2, 4, 6, 7]
    assert others.tolist() == [0, 1, 3, 5]


def test_split_moves_and_selects():
    split = split_of(9)
    part = split.subset(torch.tensor([4, 1]))
    assert part.labels.tolist() == [4, 1]
    assert torch.equal(part.inputs[0], split.inputs[4])
    assert len(part.to("cpu")) == 2
