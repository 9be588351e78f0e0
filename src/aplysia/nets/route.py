"""What a learning rule and a temporal scheme lay into a layer for one pass: the fillings of the synapse's slots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from aplysia.nets.noise import NoiseSource
from aplysia.ops.geometry import AbstractGeometry
from aplysia.ops.synapse import Outer

if TYPE_CHECKING:
    from aplysia.nets.layer import Layer
    from aplysia.nets.stream import Streams

Carry = Any


class AbstractEligibility(ABC):
    """Which past activity an error is paired with.

    Attributes:
        remembers: whether that is more than the activity of the same step.
    """

    remembers: ClassVar[bool]

    @abstractmethod
    def trace(self, drive: Tensor, decay: float, carry: Carry) -> tuple[Tensor | None, Carry]:
        """The `pre` of each step of a chunk `[K, B, …]` (None: the drive itself), and what to carry to the next chunk."""

    @abstractmethod
    def held(self, steps: int, decay: float, carry: Carry) -> tuple[list[float], Carry]:
        """The same for a constant drive x: the K coefficients c[t] of `pre[t] = c[t]·x`, and the carry."""

    def same_step(self, decay: float) -> bool:
        """Whether `pre` is the drive itself in front of neurons of this λ, so that no trace has to be asked for."""
        return not self.remembers

    def on_errors(self, steps: int, decay: float, carry: Carry, geometry: AbstractGeometry) -> Outer | None:
        """The same pairing with the memory on the errors' side: what pairs the δ of a chunk with the drive itself. None: there
        is no such form, or none that is worth it.

        Args:
            steps: K.
            decay, carry: as for `trace`.
            geometry: whose products are taken.
        """
        return None

    def carried(self, drive: Tensor, decay: float, carry: Carry) -> Carry:
        """The carry that `trace` would give, without the rest; asked for after `on_errors`, where the sequence goes on."""
        return self.trace(drive, decay, carry)[1]


@dataclass(frozen=True)
class Instantaneous(AbstractEligibility):
    """`pre` is the drive of the same step."""

    remembers: ClassVar[bool] = False

    def trace(self, drive: Tensor, decay: float, carry: Carry) -> tuple[Tensor | None, Carry]:
        return None, None

    def held(self, steps: int, decay: float, carry: Carry) -> tuple[list[float], Carry]:
        return [1.0] * steps, None


def own_weight(layer: Layer, weight: Tensor) -> Tensor:
    """The error slot of backpropagation: the forward weight itself."""
    return weight


@dataclass(frozen=True, kw_only=True)
class Route:
    """How errors and updates run through a net for one pass.

    The default is backpropagation through time, so a net called without a route is differentiable like any other module.

    Attributes:
        feedback: `(layer, effective weight) -> tensor` for the error slot, or None where no error is to leave.
        cut: whether each layer is detached from the one below.
        eligibility: what δ is paired with.
        through_time: whether gradients pass through the neurons' states.
        generator: source of the dropout masks; None: no dropout.
        noise: what the hidden layers are disturbed by; None: nothing.
        start: number of the chunk's first step within its sequence, which noise is a function of.
        ends: whether the sequence ends with this chunk, so that nothing has to be carried on.
        slopes: whether layers hand out ∂(output)/∂(current), step by step.
        planted: whether hidden layers get errors of their own, which enter at their currents.
        streams: what nets of stochastic streams draw from and count into; None: the limit of endless streams.
    """

    feedback: Callable[[Layer, Tensor], Tensor | None] = own_weight
    cut: bool = False
    eligibility: AbstractEligibility = Instantaneous()
    through_time: bool = True
    generator: torch.Generator | None = None
    noise: NoiseSource | None = None
    start: int = 0
    ends: bool = False
    slopes: bool = False
    planted: bool = False
    streams: Streams | None = None
