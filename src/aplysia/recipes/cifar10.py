"""CIFAR-10."""

from __future__ import annotations

from aplysia.data.augment import Cutout, RandomCrop, RandomFlip
from aplysia.data.cifar import Cifar10
from aplysia.train.optimise import SGD
from aplysia.train.recipe import Recipe


def cifar10_conv_s() -> Recipe:
    """Three convolutions with standardised weights, T = 4: the size a CPU can train."""
    return Recipe(
        name="cifar10-conv-s",
        data=Cifar10(),
        net="32C3s2-64C3-A2-128C3-A2-F10",
        steps=4,
        batch_size=128,
        epochs=30,
        normalise=True,
        standardise=True,
        gain=2.74,
        augment=(RandomCrop(padding=4), RandomFlip(), Cutout(size=8)),
        optimiser=SGD(lr=0.1),
    )
