"""Local losses: every hidden layer learns from an error of its own, nothing comes down from the output.

With trained readouts this is layer-wise local learning (Nøkland & Eidnes 2019; Mostafa et al. 2018); with fixed random ones it
is DECOLLE (Kaiser et al. 2020), up to its neuron with two time constants, whose place the layer's own trace takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from aplysia.credit.contract import AbstractSeeded
from aplysia.credit.local import AbstractLocal, Readouts
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.types import Claim, Paper, Tunable


@dataclass(kw_only=True)
class LocalLoss(AbstractSeeded):
    """Hidden layers learn from local errors alone.

    Attributes:
        local: where these come from.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Nøkland, Eidnes; with fixed readouts in spiking nets Kaiser, Mostafa, Neftci (2020)",
        title="Training neural networks with local error signals",
        year=2019,
        venue="ICML",
        url="https://arxiv.org/abs/1901.06656",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT, Claim.UNLOCKED})
    summary: ClassVar[str] = "every hidden layer learns from an error of its own (local losses, DECOLLE)"
    tunable: ClassVar[Tunable] = {"local.weight": (0.1, 10.0, True)}

    local: AbstractLocal = field(default_factory=Readouts)

    def start(self, net: Net) -> dict[str, Tensor]:
        return {}

    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        return None

    def learning(self, net: Net, step: int) -> list[Layer]:
        return [*self.local.served(net), net.readout]
