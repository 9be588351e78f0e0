"""One data set and one net size for all three kinds of neurons: what the table `headline` compares."""

from __future__ import annotations

from dataclasses import replace

from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.data.mnist import FashionMnist
from aplysia.neurons.bitstream import Bitstream
from aplysia.neurons.stream_memory import BlockMean
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.stream import Counts
from aplysia.recipes.fbp import fbp_fmnist
from aplysia.recipes.ssnn import ssnn_fmnist
from aplysia.train.optimise import SGD
from aplysia.train.recipe import Recipe

NET, EPOCHS = "F256-F256-F10", 6


def headline_lif() -> Recipe:
    """784-256-256-10 LIF on Fashion-MNIST, T = 6, eligibility traces."""
    return Recipe(
        name="headline-lif",
        data=FashionMnist(),
        net=NET,
        rule=Symmetric(),
        steps=6,
        batch_size=128,
        epochs=EPOCHS,
        optimiser=SGD(lr=0.1),
    )


def headline_ttfs() -> Recipe:
    """784-256-256-10 windowed first-spike neurons on Fashion-MNIST."""
    return replace(fbp_fmnist(), name="headline-ttfs", net=NET, epochs=EPOCHS, rule=Symmetric())


def headline_streams() -> Recipe:
    """784-256-256-10 stochastic streams of 32 bits on Fashion-MNIST, as counts."""
    return replace(
        ssnn_fmnist(),
        name="headline-streams",
        net=NET,
        epochs=EPOCHS,
        temporal=Coincidence(engine=Counts()),
        neuron=Bitstream(memory=BlockMean()),
        readout=WinnerTakeAll(memory=BlockMean()),
        validation=0.1,
    )
