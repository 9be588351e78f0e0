"""Cutting one split into two, class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from aplysia.data.base import Split
from aplysia.errors import DataError
from aplysia.rng import generator


def train_validation(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """(train, validation): from each class of n samples, round(fraction·n) go to validation, at random.

    The draw depends on `seed` and on the labels alone; both parts keep the order of the split they come from.

    Raises:
        DataError: a fraction outside 0 … 1, or one that leaves either part empty.
    """
    labels = split.labels.cpu()
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    if 0 < fraction < 1:
        for label in labels.unique().tolist():
            members = (labels == label).nonzero().flatten()
            order = torch.randperm(len(members), generator=generator("cpu", seed, "validation", label))
            held_out[members[order[: int(fraction * len(members) + 0.5)]]] = True
    if not held_out.any() or held_out.all():
        raise DataError(
            "the validation split",
            expected="a fraction between 0 and 1 that leaves samples on both sides",
            got=f"{fraction} of {len(labels)} samples in {len(labels.unique())} classes",
            fix="choose another fraction",
        )
    return split.subset((~held_out).nonzero().flatten()), split.subset(held_out.nonzero().flatten())


def part_of(split: Split, samples: int) -> Split:
    """A part of a split, n/k samples of each of k classes at random; the same for every run and seed.

    Raises:
        DataError: more samples than there are.
    """
    if samples > len(split):
        raise DataError(
            "the part of the training set",
            expected=f"at most its {len(split)} samples",
            got=str(samples),
            fix="set train_samples to that or to none",
        )
    labels = split.labels.cpu()
    order = torch.randperm(len(labels), generator=generator("cpu", "part of the training set"))
    # Rank of each sample within its class, in that order: the first ranks of all classes make the part.
    rank = torch.empty(len(labels), dtype=torch.int64)
    for label in labels.unique().tolist():
        members = order[labels[order] == label]
        rank[members] = torch.arange(len(members))
    place = torch.empty_like(rank)
    place[order] = torch.arange(len(order))
    chosen = (rank * len(labels) + place).argsort()[:samples]
    return split.subset(chosen.sort().values)


def every_nth(labels: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Indices (others, every n-th): the n-th, 2n-th, … sample of each class, in the order they are stored.

    A rule without random numbers, so the same for every user and every version of every library.
    """
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        chosen[(labels == label).nonzero().flatten()[n - 1 :: n]] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()


def channel_statistics(split: Split, scale: float) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of the scaled values, over all samples and places; std at least 1e-3."""
    channels = split.inputs.shape[-3]
    total = torch.zeros(channels, dtype=torch.float64)
    squares, count = torch.zeros(channels, dtype=torch.float64), 0
    for part in split.inputs.split(1024):
        values = part.double().flatten(0, -4).transpose(0, 1).flatten(1).cpu() * scale
        total += values.sum(1)
        squares += values.square().sum(1)
        count += values.shape[1]
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0.0).sqrt().clamp(min=1e-3)
    return mean.tolist(), std.tolist()
