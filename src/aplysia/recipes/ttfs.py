"""First-spike (time-to-first-spike) nets."""

from __future__ import annotations

from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.data.base import AbstractDataset
from aplysia.data.digits import Digits
from aplysia.data.encode import FirstSpike
from aplysia.neurons.potential import Potential
from aplysia.neurons.windowed import Windowed
from aplysia.train.optimise import Adam
from aplysia.train.recipe import Recipe


def _first_spike(name: str, data: AbstractDataset, net: str, epochs: int, lr: float, batch_size: int = 128) -> Recipe:
    """What all first-spike recipes share."""
    return Recipe(
        name=name,
        data=data,
        net=net,
        rule=Symmetric(),
        temporal=SpikeTime(),
        neuron=Windowed(),
        readout=Potential(),
        loss=StepwiseLoss(mse_share=0.0),
        encoder=FirstSpike(),
        steps=1,
        bias=False,
        epochs=epochs,
        batch_size=batch_size,
        optimiser=Adam(lr=lr),
    )


def digits_ttfs() -> Recipe:
    """64-128-128-10 windowed first-spike neurons on the digits."""
    return _first_spike("digits-ttfs", Digits(), "F128-F128-F10", 12, 3e-3, 64)
