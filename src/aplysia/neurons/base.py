"""What a neuron model is to the rest of the library: pure dynamics, state in and state out, no knowledge of rules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

State = tuple[Tensor, ...]


class AbstractNeuron(ABC):
    """Dynamics of the units of one layer.

    Concrete neurons are frozen dataclasses: their fields are constants, their state is passed in and handed back.

    Attributes:
        spiking: whether the output is 0/1 spikes. Declared, never guessed from values.
        summary: one line for `aplysia list neurons`.
    """

    spiking: ClassVar[bool]
    summary: ClassVar[str]

    @property
    @abstractmethod
    def decay(self) -> float:
        """λ with which a past input still acts on the present state: the decay of an eligibility trace in front of it."""

    @abstractmethod
    def init(self, current: Tensor) -> State:
        """State before the first step, for units shaped like `current` `[B, …]`."""

    @abstractmethod
    def scan(self, currents: Tensor, state: State, *, through_time: bool) -> tuple[Tensor, State]:
        """Run K steps.

        Args:
            currents: `[K, B, …]`.
            state: what `init` or the last `scan` gave.
            through_time: whether gradients pass from step to step through the state.

        Returns:
            the outputs `[K, B, …]` and the new state. The result must not depend on how T steps are cut into chunks.
        """
