"""Spatial learning through time (SLTT): online as with traces, but each error is paired with the same step's input.

ΔW_l ∝ Σ_t δ_l[t] ⊗ s_{l−1}[t]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal, Apply, Record
from aplysia.credit.temporal.trace import AbstractUpdate, AfterSequence, check_chunk, check_online, online_learn
from aplysia.nets.net import Input, Net
from aplysia.nets.route import Instantaneous
from aplysia.types import Paper


@dataclass(frozen=True, kw_only=True)
class Traceless(AbstractTemporal):
    """Online without traces; memory does not grow with T.

    Attributes:
        update: when weights change.
        chunk: K, steps run at once; None: 8. No number depends on it, memory does.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Meng, Xiao, Yan, Wang, Lin, Luo",
        title="Towards memory- and time-efficient backpropagation for training spiking neural networks",
        year=2023,
        venue="ICCV",
        url="https://arxiv.org/abs/2302.14311",
    )
    summary: ClassVar[str] = "online without traces (SLTT): each step's error with the same step's input"

    update: AbstractUpdate = field(default_factory=AfterSequence)
    chunk: int | None = None

    def __post_init__(self) -> None:
        check_chunk(self.chunk)

    @property
    def updates_inside(self) -> bool:
        return self.update.inside

    def check(self, net: Net, loss: AbstractLoss, spatial: AbstractSpatial) -> None:
        check_online("Traceless", loss)

    def learn(
        self,
        net: Net,
        x: Input,
        target: Tensor,
        loss: AbstractLoss,
        spatial: AbstractSpatial,
        *,
        generator: torch.Generator | None = None,
        apply: Apply | None = None,
    ) -> Record:
        return online_learn(
            net,
            x,
            target,
            loss,
            spatial,
            Instantaneous(),
            self.update,
            chunk=self.chunk,
            generator=generator,
            apply=apply,
        )
