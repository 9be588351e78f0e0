"""Bytes that learning keeps beside each other, in closed form, a line for each kind.

    weights      all that is stored of the forward side: weights, biases, gains
    gradients    one number for each parameter that gets a gradient
    feedback     weights that only errors meet, as the rule owns them; backpropagation uses the forward weight itself: the
                 copy that a chip needs of it is not in this line, its writes are counted
    rule         what else a rule owns: counters, weights it remembers
    state        membranes, of B samples at one step
    traces       eligibility traces that are carried from step to step; a held input needs none
    saved        signals kept for a backward pass, of the steps that are kept at a time: what each synapse pairs its error with
                 (a held input once), and a number for each spiking unit, its derivative or the membrane that gives it
    optimiser    what it keeps of each trained tensor, of the rule's own too

State, traces and saved are those of the library on dense nets of LIF neurons, to the byte; with pools, dropout, gains,
standardised weights, shortcuts or first-spike neurons autograd keeps more than a chip must, and this is the chip's part. What a
rule keeps while a batch is learnt and forgets after it (perturbed passes, a mirror phase) is in no line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from aplysia.ledger.sheet import Habits
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.neurons.base import AbstractFirstSpike, AbstractStepped, AbstractStream

MEMORY = ("weights", "gradients", "feedback", "rule", "state", "traces", "saved", "optimiser")

# What a rule calls the weights of errors that are made beside a hidden layer.
_LOCAL = "local/"


@dataclass(frozen=True)
class Memory:
    """A line of the account.

    Attributes:
        layer: whose; None: of no single one.
        kind: one of `MEMORY`.
        bytes: how many; None: not known.
    """

    layer: str | None
    kind: str
    bytes: int | None

    def as_json(self) -> dict[str, str | int | None]:
        """The fields by name."""
        return {"layer": self.layer, "kind": self.kind, "bytes": self.bytes}


class OwningRule(Protocol):
    """What is asked of a spatial rule."""

    tensors: dict[str, Tensor]

    def learning(self, net: Net, step: int) -> list[Layer]: ...

    def parameters(self) -> list[Tensor]: ...


def memory(
    net: Net,
    rule: OwningRule,
    habits: Habits,
    *,
    batch: int,
    held: bool,
    optimiser: Callable[[Tensor], int | None] | None = None,
) -> list[Memory]:
    """What a learning batch keeps.

    Args:
        net: the layers.
        rule: attached to it.
        habits: of the scheme.
        batch: B.
        held: whether one input serves all steps.
        optimiser: bytes that it keeps of a tensor; None: no line for it.
    """
    made = []
    learning = set(rule.learning(net, 0))
    for place, layer in enumerate(net.synapses):
        stored = sum(_bytes(p) for p in layer.parameters(recurse=False))
        made.append(Memory(layer.name, "weights", stored))
        made.append(Memory(layer.name, "gradients", stored if layer in learning else 0))
        if layer in net.all:
            made.append(Memory(layer.name, "state", _state(layer, batch)))
        constant = held and place == 0
        traced = habits.traced and getattr(layer.neuron, "decay", 0.0) != 0.0
        made.append(Memory(layer.name, "traces", batch * _drive(layer) if traced and not constant else 0))
        saved = _saved(net, layer, batch * habits.kept, batch if constant else batch * habits.kept)
        made.append(Memory(layer.name, "saved", saved if layer in learning else 0))
    made += _owned(net, rule.tensors)
    made.append(Memory(None, "gradients", sum(_bytes(tensor) for tensor in rule.parameters())))
    if optimiser is not None:
        trained = [p for layer in net.synapses if layer in learning for p in layer.parameters(recurse=False)]
        kept = [optimiser(tensor) for tensor in [*trained, *rule.parameters()]]
        known = [number for number in kept if number is not None]
        made.append(Memory(None, "optimiser", sum(known) if len(known) == len(kept) else None))
    return made


def totals(lines: Iterable[Memory]) -> dict[str, int | None]:
    """Bytes of each kind; None where a part is not known."""
    found: dict[str, int | None] = dict.fromkeys(MEMORY, 0)
    for line in lines:
        before = found[line.kind]
        found[line.kind] = None if before is None or line.bytes is None else before + line.bytes
    return found


def _owned(net: Net, tensors: Mapping[str, Tensor]) -> list[Memory]:
    names = {layer.name for layer in net.synapses}
    made = []
    for name, tensor in tensors.items():
        place = name.rsplit("/", 1)[-1]
        # A rule calls by the layer's bare name what errors of that layer meet, and puts anything else behind a word.
        weight = tensor.is_floating_point() and (name in names or name.startswith(_LOCAL) or tensor.requires_grad)
        made.append(Memory(place if place in names else None, "feedback" if weight else "rule", _bytes(tensor)))
    return made


def _state(layer: Layer, batch: int) -> int | None:
    if isinstance(layer.neuron, AbstractStepped):
        # One sample's, times B. Not on the meta device, whose first use loads a second's worth of modules.
        like = torch.empty(1, *layer.output_shape, dtype=layer.weight.dtype)
        return batch * sum(_bytes(tensor) for tensor in layer.neuron.init(like))
    return None if isinstance(layer.neuron, AbstractStream) else 0


def _saved(net: Net, layer: Layer, slots: int, inputs: int) -> int | None:
    if isinstance(layer.neuron, AbstractStream):
        return None
    drives = len(layer.neuron.real_drives) if isinstance(layer.neuron, AbstractFirstSpike) else 1
    derivative = math.prod(layer.output_shape) if layer in net.all and layer.neuron.spiking else 0
    return inputs * drives * _drive(layer) + slots * derivative * layer.weight.element_size()


def _drive(layer: Layer) -> int:
    return math.prod(layer.drive_shape) * layer.weight.element_size()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
