"""Fashion-MNIST."""

from __future__ import annotations

from aplysia.data.mnist import FashionMnist
from aplysia.train.optimise import SGD
from aplysia.train.recipe import Recipe


def fmnist_mlp() -> Recipe:
    """784-800-800-10 LIF, T = 6, eligibility traces."""
    return Recipe(
        name="fmnist-mlp",
        data=FashionMnist(),
        net="F800-F800-F10",
        steps=6,
        batch_size=128,
        epochs=10,
        optimiser=SGD(lr=0.1),
    )


def fmnist_conv() -> Recipe:
    """A small convolutional net with standardised weights, sized for a CPU."""
    return Recipe(
        name="fmnist-conv",
        data=FashionMnist(),
        net="16C3-P2-32C3-P2-F10",
        steps=6,
        batch_size=128,
        epochs=10,
        normalise=True,
        standardise=True,
        gain=2.74,
        optimiser=SGD(lr=0.1),
    )
