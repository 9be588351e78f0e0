"""Stochastic stream nets trained by coincidence (SSNN-BP; Biswas et al. 2023), and the artificial nets they stand for.

Of the paper only the abstracts could be read: two-layer nets on MNIST, Fashion-MNIST, EMNIST and N-MNIST, beside an artificial
net of equal architecture and regularisation. Widths, rates, lengths and bounds are ours.
"""

from __future__ import annotations

from aplysia.credit.loss import WinnerLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.data.base import AbstractDataset
from aplysia.data.digits import Digits
from aplysia.data.emnist import Emnist
from aplysia.data.encode import Stream
from aplysia.data.mnist import FashionMnist, Mnist
from aplysia.data.nmnist import NMnist
from aplysia.devices.ideal import Ideal
from aplysia.nets.initial import MidRange
from aplysia.neurons.bitstream import Bitstream
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.train.optimise import Cosine, Pulsed
from aplysia.train.recipe import Recipe


def _streams(
    name: str, data: AbstractDataset, net: str, *, epochs: int, lr: float, batch_size: int, steps: int = 32
) -> Recipe:
    """What all stream recipes share."""
    return Recipe(
        name=name,
        data=data,
        net=net,
        rule=Symmetric(),
        temporal=Coincidence(),
        neuron=Bitstream(),
        readout=WinnerTakeAll(),
        loss=WinnerLoss(),
        encoder=Stream(),
        steps=steps,
        epochs=epochs,
        batch_size=batch_size,
        # Any real step within bounds: what streams do by themselves. Devices with steps of their own are `optimiser.device=…`.
        optimiser=Pulsed(lr=lr, device=Ideal(bound=2.0)),
        schedule=Cosine(floor=0.1),
        init=MidRange(),
    )


def ssnn_digits() -> Recipe:
    """64-48-10 on the digits, streams of 32 bits."""
    return _streams("ssnn-digits", Digits(), "F48-F10", epochs=15, lr=0.5, batch_size=16)


def ssnn_mnist() -> Recipe:
    """784-256-10 on MNIST, streams of 32 bits."""
    return _streams("ssnn-mnist", Mnist(), "F256-F10", epochs=10, lr=0.3, batch_size=32)


def ssnn_fmnist() -> Recipe:
    """784-256-10 on Fashion-MNIST, streams of 32 bits."""
    return _streams("ssnn-fmnist", FashionMnist(), "F256-F10", epochs=10, lr=0.3, batch_size=32)


def ssnn_emnist() -> Recipe:
    """784-400-47 on the balanced split of EMNIST, streams of 32 bits."""
    return _streams("ssnn-emnist", Emnist(split="balanced"), "F400-F47", epochs=10, lr=0.3, batch_size=32)


def ssnn_nmnist() -> Recipe:
    """2312-256-10 on N-MNIST, whose events take the place of the input's bits: one frame a step, 32 frames."""
    return _streams("ssnn-nmnist", NMnist(), "F256-F10", epochs=10, lr=0.3, batch_size=32)
