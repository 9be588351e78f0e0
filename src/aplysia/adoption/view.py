"""What a rule sees of a model that is not ours: the part of `Net` and `Layer` that rules use, over the user's own parameters.

A weight has an error slot; a site is a spiking module, whose output errors are planted at. In a net of ours the two are one
layer, here they are two lists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from aplysia.nets.initial import Law
from aplysia.neurons.base import AbstractNeuron
from aplysia.neurons.lif import LIF
from aplysia.ops.geometry import AbstractGeometry


@dataclass(kw_only=True)
class AdoptedWeight:
    """A weight of the model, as rules see a layer.

    Random feedback has the law N(0, σ²) with σ² the mean square of the weights at adoption, for how a user's weights were drawn
    is not known.

    Attributes:
        name: of its module within the model; of the parameter where the module has several.
        weight: the model's own parameter.
        geometry: of the call it was first met in.
        drive_shape, current_shape: of one sample of what it meets and gives.
        fed: whether an error below it serves anyone.
        site: name of the hidden site behind it; None: the output is next.
        weight_gain, shortcut: what of ours stands between it and its value; nothing.
    """

    name: str
    weight: nn.Parameter
    geometry: AbstractGeometry
    drive_shape: tuple[int, ...]
    current_shape: tuple[int, ...]
    fed: bool
    site: str | None = None
    weight_gain: None = None
    shortcut: None = None
    law: Law = field(init=False)

    def __post_init__(self) -> None:
        self.law = Law(0.0, float(self.weight.detach().double().square().mean().sqrt()))

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.current_shape

    @property
    def units(self) -> int:
        """Number of outputs of one sample."""
        return math.prod(self.current_shape)

    @property
    def fan_in(self) -> int:
        return math.prod(self.weight.shape[1:])

    def effective_weight(self) -> Tensor:
        """The weight as the drive meets it: itself."""
        return self.weight

    def centred(self, weight: Tensor) -> Tensor:
        """An increment of the weight, as the drive meets it: itself."""
        return weight

    @torch.no_grad()
    def draw_effective(self, generator: torch.Generator) -> Tensor:
        """A random tensor of the law."""
        return (torch.randn(self.weight.shape, generator=generator) * self.law.std).to(self.weight)


@dataclass(kw_only=True)
class AdoptedSite:
    """A spiking module of the model, as rules see a hidden layer.

    Attributes:
        name: of the module within the model.
        weight: of the last layer of weights in front of it; errors are of its type and on its device.
        output_shape: of one sample of one step.
        whole_sequence: whether one call takes all steps.
        neuron: stands for any neuron that goes step by step; noise is refused at others.
        gain: factor on the spikes.
    """

    name: str
    weight: nn.Parameter
    output_shape: tuple[int, ...]
    whole_sequence: bool
    neuron: AbstractNeuron = field(default_factory=LIF)
    gain: float = 1.0

    @property
    def units(self) -> int:
        """Number of neurons."""
        return math.prod(self.output_shape)


@dataclass(kw_only=True)
class AdoptedNet:
    """A model, as rules see a net.

    Attributes:
        synapses: its weights, in the order they are met.
        hidden: its hidden sites, in the order they are met.
        readout: the weight whose output the errors of direct feedback are taken from.
    """

    synapses: list[AdoptedWeight]
    hidden: list[AdoptedSite]
    readout: AdoptedWeight
    kind: str = "stepped"

    @property
    def all(self) -> list[AdoptedSite | AdoptedWeight]:
        """What gives the outputs a rule sees: the hidden sites, and the readout."""
        return [*self.hidden, self.readout]

    @property
    def fed_back(self) -> list[AdoptedWeight]:
        """The weights that own an error slot."""
        return [weight for weight in self.synapses if weight.fed]

    @property
    def classes(self) -> int:
        """Number of outputs."""
        return self.readout.units
