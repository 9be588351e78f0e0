"""What a neuron model is to the rest of the library: pure dynamics, no knowledge of rules.

There are kinds of neurons, by what a signal is. A net is of one kind throughout, and a temporal scheme says which kind it
can train:

    AbstractStepped      signals are 0/1 spikes at each of T steps, `[K, B, …]`; a state goes in and comes out
    AbstractFirstSpike   signals are the earliness of one spike, in closed form, `[1, B, …]`; no time is stepped through
    AbstractStream       signals are stochastic bits, `[K, B, …]`, or what an engine has stand for them; gradients are too
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from aplysia.neurons.stream_memory import AbstractMemory
from aplysia.ops.stream import Draws
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
        partners: parts of a recipe that go with this kind, as `--set` takes them.
    """

    spiking: ClassVar[bool]
    summary: ClassVar[str]
    kind: ClassVar[str]
    advice: ClassVar[str] = ""
    partners: ClassVar[Mapping[str, str]] = {}

    @property
    @abstractmethod
    def gives(self) -> str:
        """What its output means to a loss, where it is the readout: potentials, spikes, spike times, winners or bits."""


class Sloped(NamedTuple):
    """What a scan without a graph gives.

    Attributes:
        out: `[K, B, …]`.
        state: after the last step.
        slopes: ∂(output)/∂(current), `[K, B, …]`; the caller's to write to.
        fired: the sum of `out` in float64, where it was found on the way.
    """

    out: Tensor
    state: State
    slopes: Tensor
    fired: Tensor | None = None


class AbstractStepped(AbstractNeuron):
    """A neuron simulated step by step.

    Attributes:
        pointwise: whether what a unit gives at a step hangs on no other unit's current of that step, so that slopes say all.
    """

    pointwise: ClassVar[bool] = False
    kind: ClassVar[str] = "stepped"
    advice: ClassVar[str] = "lower neuron.threshold, raise neuron.leak, or set standardise=true and gain=2.74"
    partners: ClassVar[Mapping[str, str]] = {
        "readout": "integrator",
        "loss": "stepwise",
        "temporal": "trace",
        "encoder": "direct",
    }

    @property
    def gives(self) -> str:
        return "spikes" if self.spiking else "potentials"

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

    def scan_sloped(self, currents: Tensor, state: State | None) -> Sloped:
        """`scan` where nothing passes through the state, without a graph, and ∂(output)/∂(current) of each step beside it.

        For pointwise neurons. May be replaced by what has that at hand.

        Args:
            currents: `[K, B, …]`.
            state: what `scan` or this has given last; None: that before the first step.
        """
        state = self.init(currents.detach()[0]) if state is None else state
        with torch.enable_grad():
            leaf = currents.detach().clone().requires_grad_()
            out, after = self.scan(leaf, state, through_time=False)
            (slopes,) = torch.autograd.grad(out, leaf, torch.ones_like(out))
        return Sloped(out.detach(), tuple(part.detach() for part in after), slopes)


class AbstractFirstSpike(AbstractNeuron):
    """A neuron that fires at most once, its spike time in closed form.

    A signal is the *earliness* x = T_e − t of a spike before the end T_e of its window (or horizon), x = 0 where there is
    none: zero padding then means silence, the maximum means the earliest spike, and ∞ never meets a product. Absolute times
    are put back by `aplysia.ops.first_spike.to_times`.

    Attributes:
        real_drives: for each of `drives`, whether it is a real number (a time), and not only that a spike came.
        averages: whether an average over spikes is defined in front of this neuron.
        biased: whether a bias is.
    """

    kind: ClassVar[str] = "first-spike"
    advice: ClassVar[str] = "lower neuron.threshold, set temporal.revive=push, or start with init=positive_mean"
    partners: ClassVar[Mapping[str, str]] = {
        "readout": "potential",
        "loss": "stepwise",
        "temporal": "spike_time",
        "encoder": "first_spike",
    }
    real_drives: ClassVar[tuple[bool, ...]] = (True,)
    averages: ClassVar[bool] = True
    biased: ClassVar[bool] = True

    @property
    def gives(self) -> str:
        return "spike times" if self.spiking else "potentials"

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


class AbstractStream(AbstractNeuron):
    """A stochastic neuron whose signals are streams of bits, forward and backward in the same steps.

    Attributes:
        memory: from currents to the membrane.
        emits: whether errors go on down as gradient spikes of its own; else they pass as they are.
        one_winner: whether exactly one unit of the layer fires at each step.
    """

    kind: ClassVar[str] = "stream"
    advice: ClassVar[str] = "start with smaller weights, or raise the bias: a clipped unit dies at both ends"
    partners: ClassVar[Mapping[str, str]] = {
        "readout": "winner_take_all",
        "loss": "winner",
        "temporal": "coincidence",
        "encoder": "stream",
    }
    emits: ClassVar[bool]
    one_winner: ClassVar[bool] = False

    memory: AbstractMemory

    @property
    def gives(self) -> str:
        return "winners" if self.one_winner else "bits"

    @abstractmethod
    def respond(self, m: Tensor, variance: Tensor | None, draws: Draws) -> tuple[Tensor, Tensor | None]:
        """What is sent on, and the factor on gradient spikes.

        Args:
            m: membrane `[K, B, …]`.
            variance: of the membrane over the bits of its inputs, in the limit of memoryless streams; else None.
            draws: the layer's own.

        Returns:
            the stream `[K, B, …]`, and the probability of the derivative bits, or None where errors pass as they are.
        """

    @property
    @abstractmethod
    def scale(self) -> float:
        """The derivative is this times the probability of its bit."""
