"""A pass of stochastic streams through one layer: synapse → membrane → spikes forward, gradient spikes backward.

The synapse's slots are filled as everywhere: the drive is the bits, the error slot holds whatever the spatial rule feeds back,
and the update is the coincidence count of the two streams that meet at a cross point. What is stochastic stands in
`aplysia.ops.stream`; here it is put between the layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aplysia.errors import PairError, RecipeError
from aplysia.nets.pool import AveragePool
from aplysia.neurons.base import AbstractStream
from aplysia.ops.bit_products import fast_bits, for_bits
from aplysia.ops.coincidence import wants_coincidences
from aplysia.ops.geometry import AbstractGeometry
from aplysia.ops.stream import AbstractEngine, Draws, Expect, Meeting, stochastic
from aplysia.ops.synapse import synapse
from aplysia.types import Held

if TYPE_CHECKING:
    from aplysia.nets.layer import Layer
    from aplysia.nets.route import Route


@dataclass
class Load:
    """What was seen of a layer's gradient lines in one sequence: numbers of entries, 0-dim.

    Attributes:
        active: with an error at all.
        half: |g| above half the ceiling.
        clipped: |g| above the ceiling.
    """

    active: Tensor
    half: Tensor
    clipped: Tensor

    def __add__(self, other: Load) -> Load:
        return Load(self.active + other.active, self.half + other.half, self.clipped + other.clipped)


@dataclass
class Streams:
    """One sequence of streams through a net: what is drawn from, the ceilings of the gradient lines, and what is counted.

    Attributes:
        engine: how streams are represented.
        n: N.
        keys: what every random number is a function of, beside layer and purpose.
        ceilings: Γ of each layer that emits gradient spikes, 0-dim, in units of the output error.
        bounded: layers whose errors cannot exceed the ceiling, so that nothing need be watched.
        loads: of the others.
        busy: coincidences on both lines together, of each parameter that asked for counts, in units of one slot's.
    """

    engine: AbstractEngine
    n: int
    keys: tuple[int | str, ...] = ()
    ceilings: dict[str, Tensor] = field(default_factory=dict)
    bounded: set[str] = field(default_factory=set)
    loads: dict[str, Load] = field(default_factory=dict)
    busy: dict[torch.nn.Parameter, Tensor] = field(default_factory=dict)
    _draws: dict[str, Draws] = field(default_factory=dict)

    def draws(self, name: str, device: torch.device) -> Draws:
        """What a layer draws from; it goes on from chunk to chunk."""
        if name not in self._draws:
            self._draws[name] = Draws(self.engine, self.n, (*self.keys, name), device)
        return self._draws[name]

    def unit(self, layer: Layer) -> Tensor:
        """What one gradient spike of a layer stands for, 0-dim: Γ times the derivative bit's scale; 1 where errors pass."""
        if self.engine.limit or layer.name not in self.ceilings:
            return layer.weight.detach().new_ones(())
        assert isinstance(layer.neuron, AbstractStream)
        return self.ceilings[layer.name] * layer.neuron.scale

    def exact(self, layer: Layer) -> bool:
        """Whether all that meets this layer's weights is 0 or a power of two, so that bf16 holds it: bits, not rates."""
        whole = all(isinstance(pool, AveragePool) and _power_of_two(float(pool.size or 3)) for pool in layer.pools)
        return self.engine.stepped and whole and _power_of_two(float(self.unit(layer)))

    def emit(self, layer: Layer, g: Tensor, gate: Tensor, draws: Draws) -> Tensor:
        """Gradient spikes for errors g `[K, B, …]` behind derivative bits, times what one of them stands for."""
        assert isinstance(layer.neuron, AbstractStream)
        if self.engine.limit:
            return g * gate if layer.neuron.scale == 1.0 else g * gate * layer.neuron.scale
        ceiling = self.ceilings[layer.name]
        if layer.name not in self.bounded:
            size = g.abs()
            load = Load(size.count_nonzero(), (size > 0.5 * ceiling).count_nonzero(), (size > ceiling).count_nonzero())
            self.loads[layer.name] = self.loads[layer.name] + load if layer.name in self.loads else load
        return draws.rails(g, ceiling, gate).mul_(self.unit(layer))

    def tally(self, layer: Layer, geometry: AbstractGeometry, delta: Tensor, pre: Tensor) -> None:
        """Add up what moved at all, whatever its sign, for parameters whose devices want to know."""
        for parameter, count in (
            (layer.weight, lambda size: geometry.outer(size, pre, layer.weight.shape)),
            (layer.bias, layer.geometry.bias_gradient),
        ):
            if parameter is not None and wants_coincidences(parameter):
                counted = count(delta.abs() / self.unit(layer))
                self.busy[parameter] = self.busy[parameter] + counted if parameter in self.busy else counted


def run_stream(
    layer: Layer, neuron: AbstractStream, x: Tensor | Held, carry: Tensor | None, route: Route
) -> tuple[Tensor, Tensor | None, Tensor]:
    """One chunk through one layer.

    Args:
        layer: its weights and pools.
        neuron: of the layer.
        x: bits `[K, B, …]`, or rates `[1, B, …]` where the engine takes all steps as one.
        carry: of the membrane, from the chunk before.
        route: slots, and `streams`; without streams the limit of endless ones.

    Returns:
        the stream `[K, B, …]`, what the membrane carries on, and the number of spikes it stands for.
    """
    streams = route.streams or Streams(Expect(), 1)
    draws = streams.draws(layer.name, layer.weight.device)
    bits = x.value.unsqueeze(0) if isinstance(x, Held) else x
    steps, batch = bits.shape[:2]
    drive = layer.prepare((bits.detach() if route.cut else bits).flatten(0, 1))
    weight, geometry = layer.effective_weight(), layer.geometry
    if fast_bits(drive) and streams.exact(layer):
        geometry = for_bits(geometry, unit=float(streams.unit(layer)), whole=not layer.pools)
    feedback = route.feedback(layer, weight) if drive.requires_grad else None

    def outer(delta: Tensor, pre: Tensor, shape: torch.Size) -> Tensor:
        streams.tally(layer, geometry, delta, pre)
        return streams.engine.paired(Meeting(delta, pre, geometry, shape), streams.unit(layer), draws)

    currents = synapse(drive, weight, layer.bias, geometry=geometry, feedback=feedback, outer=outer)
    currents = currents.unflatten(0, (steps, batch))
    with torch.no_grad():
        membrane, carry = neuron.memory.scan(currents.detach(), carry, route.start, streams.engine.slots(streams.n))
        variance = None
        if streams.engine.limit and neuron.emits and neuron.memory.noise > 0.0:
            heard = drive.detach()
            spread = layer.geometry.forward(heard * (1.0 - heard), weight.detach().square())
            variance = spread.unflatten(0, (steps, batch)) * neuron.memory.noise
        sent, gate = neuron.respond(membrane, variance, draws)

    def respond(g: Tensor) -> Tensor:
        if gate is None:
            return g
        mean = g.mean(0, keepdim=True).expand_as(g) if neuron.memory.block else g
        return streams.emit(layer, mean, gate, draws)

    out = stochastic(currents, sent, respond)
    per_slot = streams.n / streams.engine.slots(streams.n)
    # Per sample first: a float32 sum over a whole chunk would no longer be an exact integer.
    return out, carry, sent.flatten(2).sum(2).sum(dtype=torch.float64) * per_slot


def first_stream(net_input: Tensor | Held, steps: int, draws: Draws) -> Tensor:
    """What the first layer gets for a chunk: bits drawn for rates `[B, …]` held over `steps` steps, or the bits that come."""
    if isinstance(net_input, Held):
        return draws.unipolar(net_input.value.expand(steps, *net_input.value.shape), "input")
    return net_input


def check_bits(x: Tensor | Held) -> None:
    """Raise `PairError` unless every value is a probability, or a bit where steps are given one by one."""
    values = x.value if isinstance(x, Held) else x
    low, high = torch.stack(torch.aminmax(values)).tolist()
    if not (low >= 0.0 and high <= 1.0):  # written so that NaN is refused too
        raise PairError(
            "input of a stream net",
            expected="rates from 0 to 1, as probabilities are",
            got=f"values from {low:.3g} to {high:.3g}",
            fix="load the data without mean and deviation (normalise=false)",
        )
    if not isinstance(x, Held) and not bool(((x == 0.0) | (x == 1.0)).all()):
        raise PairError(
            "input of a stream net",
            expected="bits, 0 or 1, where every step has values of its own",
            got="values in between",
            fix="hold rates by Held([B, …], N), or cut events to 0 and 1",
        )


def check_stream(
    name: str,
    *,
    max_pool: bool,
    gain: float,
    dropout: float,
    standardise: bool,
    centre: bool,
    shortcut: bool,
    stem_pool: bool,
) -> None:
    """Raise `RecipeError` where a part of a layer has no meaning for stochastic streams."""
    wrong = []
    if max_pool:
        wrong.append("a maximum pool, whose OR of bits is no maximum of rates")
    if gain != 1.0:
        wrong.append(f"gain={gain:g}, since a bit is 0 or 1")
    if dropout:
        wrong.append(f"dropout={dropout:g}, which is for stepped neurons")
    if standardise or centre:
        wrong.append("weights that act otherwise than they are stored, since the array is the weight")
    if shortcut:
        wrong.append("a shortcut")
    if stem_pool:
        wrong.append("a pool of currents")
    if wrong:
        raise RecipeError(
            f"layer {name}",
            expected="what streams of bits know",
            got=", and ".join(wrong),
            fix="leave it out; pool by average (A2) or stride (s2)",
        )


def _power_of_two(value: float) -> bool:
    return math.frexp(value)[0] == 0.5
