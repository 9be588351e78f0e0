"""Handwritten digits, 8×8, shipped with the package: seconds a run, no network."""

from __future__ import annotations

from aplysia.data.digits import Digits
from aplysia.train.optimise import SGD
from aplysia.train.recipe import Recipe


def digits_mlp() -> Recipe:
    """64-128-128-10 LIF, T = 6, eligibility traces."""
    return Recipe(
        name="digits-mlp",
        data=Digits(),
        net="F128-F128-F10",
        steps=6,
        batch_size=64,
        epochs=12,
        optimiser=SGD(lr=0.2),
    )
