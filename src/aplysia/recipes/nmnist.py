"""N-MNIST: MNIST seen by an event camera in saccades."""

from __future__ import annotations

from aplysia.credit.loss import StepwiseLoss
from aplysia.data.nmnist import NMnist
from aplysia.train.optimise import SGD
from aplysia.train.recipe import Recipe


def nmnist_mlp() -> Recipe:
    """2312-800-800-10 LIF on T = 10 frames of equal length."""
    return Recipe(
        name="nmnist-mlp",
        data=NMnist(),
        net="F800-F800-F10",
        steps=10,
        batch_size=64,
        epochs=20,
        loss=StepwiseLoss(mse_share=0.001),
        optimiser=SGD(lr=0.05),
    )
