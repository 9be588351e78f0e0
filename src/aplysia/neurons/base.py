"""What a neuron model is to the rest of the library: pure dynamics, no knowledge of rules.

There are kinds of neurons, by what a signal is. A net is of one kind throughout, and a temporal scheme says which kind it
can train:

    AbstractStepped      signals are 0/1 spikes at each of T steps, `[K, B, …]`; a state goes in and comes out
    AbstractFirstSpike   signals are the earliness of one spike, in closed form, `[1, B, …]`; no time is stepped through
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from aplysia.ops.synapse import Connection

State = tuple[Tensor, ...]


class AbstractNeuron(ABC):
    """Dynamics of the units of one layer.

    Concrete neurons are frozen dataclasses: their fields are constants, their state is passed in and handed back.

    Attributes:
        spiking: whether the output is spikes. Declared, never guessed from values.
        summary: one line for `aplysia list neurons`.
        kind: the kind of net it can be in, for sentences.
        advice: what to do when a layer of these falls silent.
    """

    spiking: ClassVar[bool]
    summary: ClassVar[str]
    kind: ClassVar[str]
    advice: ClassVar[str] = ""


class AbstractStepped(AbstractNeuron):
    """A neuron simulated step by step."""

    kind: ClassVar[str] = "stepped"
    advice: ClassVar[str] = "lower neuron.threshold, raise neuron.leak, or set standardise=true and gain=2.74"

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


class AbstractFirstSpike(AbstractNeuron):
    """A neuron that fires at most once, its spike time in closed form.

    A signal is the *earliness* x = T_e − t of a spike before the end T_e of its window (or horizon), x = 0 where there is
    none: zero padding then means silence, the maximum means the earliest spike, and ∞ never meets a product. Absolute times
    are put back by `aplysia.ops.first_spike.to_times`.

    Attributes:
        averages: whether an average over spikes is defined in front of this neuron.
        biased: whether a bias is.
    """

    kind: ClassVar[str] = "first-spike"
    advice: ClassVar[str] = "lower neuron.threshold, set temporal.revive=push, or start with init=positive_mean"
    averages: ClassVar[bool] = True
    biased: ClassVar[bool] = True

    @property
    @abstractmethod
    def input_window(self) -> float | None:
        """T, the length of the window that input spikes lie in; None: any earliness ≥ 0."""

    @property
    @abstractmethod
    def saturation(self) -> float | None:
        """The earliness at which a unit cannot get earlier; None: there is none."""

    @abstractmethod
    def drives(self, x: Tensor) -> tuple[Tensor, ...]:
        """What goes through the weights, from the earliness `[B, …]` of the inputs. Each is pooled on its own."""

    @abstractmethod
    def respond(self, drives: tuple[Tensor, ...], connection: Connection) -> Tensor:
        """The earliness `[B, …]` of the units' own spikes (of a readout: its potential)."""
