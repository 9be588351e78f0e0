"""One layer: pool → synapse (+ shortcut) → neuron → (dropout, gain). It runs K steps at once, time folded into the batch.

A layer of first-spike neurons takes and gives earliness `[1, B, …]`: its one "step" is one window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from aplysia.errors import RecipeError
from aplysia.nets.first_spike import check_first_spike
from aplysia.nets.initial import Law
from aplysia.nets.noise import Noisy
from aplysia.nets.pool import AveragePool, MaxPool, Pool, StemPool
from aplysia.nets.route import Route
from aplysia.nets.shortcut import Sent, Shortcut
from aplysia.nets.stream import check_stream, run_stream
from aplysia.neurons.base import AbstractFirstSpike, AbstractNeuron, AbstractStepped, AbstractStream, State
from aplysia.ops.first_spike import count_spikes
from aplysia.ops.geometry import AbstractGeometry, Dense, features
from aplysia.ops.native import native
from aplysia.ops.pairs import by_pairs
from aplysia.ops.precision import AbstractPrecision, Float32
from aplysia.ops.readout import total
from aplysia.ops.synapse import Connection, held_synapse, hold, synapse
from aplysia.types import Held

_UNIT = Law(0.0, 1.0)


class Root(NamedTuple):
    """Where an error of a layer's own enters its graph: an error g of the output is slope ∘ g at the currents.

    Attributes:
        currents: where they leave the graph behind them; they themselves need not be kept.
        slope: ∂(output)/∂(current) `[K, B, …]`, dropout and gain in it. It serves once, and may be written to.
    """

    currents: GradientEdge
    slope: Tensor


@dataclass(frozen=True)
class LayerState:
    """What a layer hands from chunk to chunk.

    Attributes:
        neuron: the neuron's own state.
        carry: the eligibility's.
        mask: the dropout mask of this sequence, one for all its steps.
        slope: ∂(output)/∂(current) `[K, B, …]` of the chunk that is over, where the route asks for it.
        beside: what the eligibility of the shortcut's projection carries.
        currents: those of the chunk that is over `[K, B, …]`, where a shortcut starts.
        root: likewise, where errors are planted at currents.
    """

    neuron: State | None = None
    carry: Any = None
    mask: Tensor | None = None
    slope: Tensor | None = None
    beside: Any = None
    currents: Tensor | None = None
    root: Root | None = None

    def detach(self) -> LayerState:
        if self.neuron is None:
            return self
        return replace(self, neuron=tuple(v.detach() for v in self.neuron), currents=None, slope=None, root=None)


class Counts(NamedTuple):
    """Of one chunk, 0-dim each, exact integers in floating point.

    Attributes:
        spikes: fired.
        saturated: fired as early as a unit can; None: no unit can.
    """

    spikes: Tensor
    saturated: Tensor | None = None


class Layer(nn.Module):
    """Weights and a neuron.

    Args:
        name: how errors, logs and ledgers call it.
        geometry: dense or convolution.
        input_shape: shape of one sample of the input, before pooling.
        weight_shape: `[N, M]` or `[N, C/groups, k, k]`.
        neuron: the units' dynamics.
        pools: what happens to the input before the synapse.
        bias: whether there is one.
        standardise: scaled weight standardisation, Ŵ = γ·(W − mean)/√(var·fan_in + 1e-4) with a learnt γ per output
            (Brock et al. 2021; in spiking nets OTTT, Xiao et al. 2022).
        centre: each unit's weights act less their mean, Ŵ = W − mean, a linear map. Windowed first-spike neurons live by it on
            inputs that nearly all fire: with a mean, what all inputs share decides when a unit fires.
        gain: factor on the output; 2.74 goes with standardised weights and keeps the variance of rare spikes near 1.
        dropout: probability that a unit is silenced for a whole sequence while learning.
        law: of the initial weights.
        stem_pool: thins the currents out in front of the neurons.
        shortcut: a second input, from an earlier layer, which the currents are added to.

    Raises:
        RecipeError: a part that has no meaning for this kind of neuron.
    """

    def __init__(
        self,
        name: str,
        geometry: AbstractGeometry,
        input_shape: tuple[int, ...],
        weight_shape: tuple[int, ...],
        neuron: AbstractNeuron,
        *,
        pools: tuple[Pool, ...] = (),
        bias: bool = True,
        standardise: bool = False,
        centre: bool = False,
        gain: float = 1.0,
        dropout: float = 0.0,
        law: Law = _UNIT,
        stem_pool: StemPool | None = None,
        shortcut: Shortcut | None = None,
    ) -> None:
        super().__init__()
        if isinstance(neuron, AbstractFirstSpike):
            check_first_spike(
                name,
                neuron,
                pools=pools,
                bias=bias,
                gain=gain,
                dropout=dropout,
                stem_pool=stem_pool is not None,
                shortcut=shortcut is not None,
            )
        if isinstance(neuron, AbstractStream):
            check_stream(
                name,
                max_pool=any(isinstance(pool, MaxPool) for pool in pools),
                gain=gain,
                dropout=dropout,
                standardise=standardise,
                centre=centre,
                shortcut=shortcut is not None,
                stem_pool=stem_pool is not None,
            )
        self.name, self.geometry, self.neuron, self.pools = name, geometry, neuron, pools
        if centre and math.prod(weight_shape[1:]) == 1:
            raise RecipeError(
                f"layer {name}",
                expected="more than one input per unit where weights are centred",
                got="one, whose weight would always be 0",
                fix="set centre=false, or a wider net",
            )
        self.gain, self.dropout, self.law, self.centre = gain, dropout, law, centre
        self.stem_pool, self.shortcut = stem_pool, shortcut
        # Whether a shortcut starts here, which its net knows.
        self.carried = False
        # The type of its products, which its net chooses.
        self.precision: AbstractPrecision = Float32()
        self._made: tuple[AbstractPrecision, AbstractGeometry, bool, AbstractGeometry] | None = None
        self.weight = nn.Parameter(torch.empty(weight_shape))
        self.bias = nn.Parameter(torch.zeros(weight_shape[0])) if bias else None
        self.weight_gain = nn.Parameter(torch.ones(weight_shape[0])) if standardise else None
        self.input_shape = input_shape
        self.drive_shape = self._prepared_shape(input_shape)
        self.current_shape = geometry.output_shape(self.drive_shape, self.weight.shape)
        self.output_shape = tuple(self.thinned(torch.zeros(1, *self.current_shape)).shape[1:])
        # Number of neurons (for a convolution: channels × positions).
        self.units = math.prod(self.output_shape)

    def _prepared_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(self.prepare(torch.zeros(1, *input_shape)).shape[1:])

    def thinned(self, currents: Tensor) -> Tensor:
        """Currents `[B, …]` behind the stem's pool."""
        return currents if self.stem_pool is None else self.stem_pool(currents)

    @property
    def fan_in(self) -> int:
        return math.prod(self.weight.shape[1:])

    def prepare(self, x: Tensor) -> Tensor:
        """Pool, and flatten in front of dense weights: `[B, …]` to the drive's shape."""
        for pool in self.pools:
            x = pool(x)
        return features(x) if isinstance(self.geometry, Dense) else x

    def centred(self, weight: Tensor) -> Tensor:
        """A stored weight, or an increment of it, less each unit's mean where the layer has it so."""
        return weight - weight.flatten(1).mean(1).view(-1, *[1] * (weight.ndim - 1)) if self.centre else weight

    def standardised(self, weight: Tensor, gain: Tensor | None) -> Tensor:
        """The weight that acts, from the weight that is stored."""
        if gain is None:
            return self.centred(weight)
        variance, mean = torch.var_mean(weight.flatten(1), dim=1, keepdim=True)
        scale = gain[:, None] * torch.rsqrt(variance * self.fan_in + 1e-4)
        return ((weight.flatten(1) - mean) * scale).view_as(weight)

    def effective_weight(self) -> Tensor:
        """The weight as the drive meets it."""
        weight = self.standardised(self.weight, self.weight_gain)
        return weight if self.shortcut is None else weight * self.shortcut.scale

    def _effective_bias(self) -> Tensor | None:
        return self.bias if self.bias is None or self.shortcut is None else self.bias * self.shortcut.scale

    def _products(self) -> AbstractGeometry:
        """The products of its geometry as its precision has them."""
        made = self._made
        # Made anew where one of these is another by now; not at every chunk, of which there are many.
        if made is None or made[0] is not self.precision or made[1] is not self.geometry or made[2] != native():
            made = self._made = (self.precision, self.geometry, native(), self.precision.products(self.geometry))
        return made[3]

    def draw_weight(self, generator: torch.Generator) -> Tensor:
        """A fresh stored weight from the initial law, on the layer's device; the draw itself is the same on any device."""
        drawn = torch.randn(self.weight.shape, generator=generator) * self.law.std
        return (drawn + self.law.mean if self.law.mean else drawn).to(self.weight)

    @torch.no_grad()
    def draw_effective(self, generator: torch.Generator) -> Tensor:
        """A random tensor of the law that the effective weight has at gains of 1."""
        gain = None if self.weight_gain is None else torch.ones_like(self.weight_gain)
        drawn = self.standardised(self.draw_weight(generator), gain).clone()
        return drawn if self.shortcut is None else drawn.mul_(self.shortcut.alpha)

    def forward(
        self,
        x: Tensor | Held | Noisy,
        state: LayerState | None = None,
        route: Route | None = None,
        *,
        disturbance: Tensor | None = None,
        beside: Sent | None = None,
        planted: bool = False,
    ) -> tuple[Tensor, LayerState, Counts]:
        """Run one chunk.

        Args:
            x: `[K, B, …]`, with its noise apart or without, or a constant input held for K steps; for first-spike neurons
                earliness `[1, B, …]`; for stochastic ones bits, or rates `[1, B, …]`.
            state: from the chunk before; None at the start of a sequence.
            route: the fillings of the slots.
            disturbance: added to the currents, `[K, B, …]`; None: nothing.
            beside: what the source of its shortcut has given, where there is one.
            planted: whether an error of its own enters at its currents, so that stepped neurons run without a graph.

        Returns:
            the output `[K, B, …]`, the state, and what fired.
        """
        state, route = state or LayerState(), route or Route()
        if isinstance(self.neuron, AbstractStepped):
            return self._stepped(self.neuron, x, state, route, disturbance, beside, planted)
        x = x.written() if isinstance(x, Noisy) else x
        if isinstance(self.neuron, AbstractFirstSpike):
            return self._first_spike(self.neuron, x, route)
        assert isinstance(self.neuron, AbstractStream), "a neuron is stepped, first-spike or a stream"
        out, carry, spikes = run_stream(self, self.neuron, x, state.carry, route)
        return out, LayerState(carry=carry), Counts(spikes)

    def _stepped(
        self,
        neuron: AbstractStepped,
        x: Tensor | Held | Noisy,
        state: LayerState,
        route: Route,
        disturbance: Tensor | None,
        beside: Sent | None,
        planted: bool,
    ) -> tuple[Tensor, LayerState, Counts]:
        currents, carry = self.currents(x, state.carry, route, neuron.decay)
        joined, beside_carry = currents, None
        if self.shortcut is not None:
            assert beside is not None, "a shortcut has a source"
            brought, beside_carry = self.shortcut.bring(beside, state.beside, route, neuron.decay)
            joined = brought + currents
            currents = joined / self.shortcut.beta
        if disturbance is not None:
            currents = currents + disturbance
        root = fired = None
        if planted and neuron.pointwise and currents.requires_grad:
            out, after, slope, fired = neuron.scan_sloped(currents, state.neuron)
            root = Root(get_gradient_edge(currents), slope)
        else:
            before = neuron.init(currents.detach()[0]) if state.neuron is None else state.neuron
            out, after = neuron.scan(currents, before, through_time=route.through_time)
        if not neuron.spiking:
            fired = _nothing(out)
        elif fired is None:
            fired = total(out.detach())
        mask = state.mask
        if self.dropout > 0.0 and route.generator is not None and neuron.spiking:
            if mask is None:
                keep = torch.rand(out.shape[1:], generator=route.generator, device=out.device) >= self.dropout
                mask = keep.to(out.dtype) / (1.0 - self.dropout)
            out = out * mask
        if self.gain != 1.0:
            out = out * self.gain
        slope = None
        if route.slopes or root is not None:
            slope = neuron.scan_sloped(currents, state.neuron).slopes if root is None else root.slope
            slope = slope if self.gain == 1.0 else slope.mul_(self.gain)
            slope = slope if mask is None or not neuron.spiking else slope.mul_(mask)
        carried = joined if self.carried else None
        return (
            out,
            LayerState(after, carry, mask, slope, beside_carry, carried, root),
            Counts(fired),
        )

    def _first_spike(
        self, neuron: AbstractFirstSpike, x: Tensor | Held, route: Route
    ) -> tuple[Tensor, LayerState, Counts]:
        if isinstance(x, Held) or len(x) != 1:
            steps = x.steps if isinstance(x, Held) else len(x)
            raise RecipeError(
                f"layer {self.name}",
                expected="one window of earliness, [1, B, …], since a first-spike neuron steps through no time",
                got=f"{steps} steps" + (" of a held current" if isinstance(x, Held) else ""),
                fix="set steps=1 and encoder=first_spike",
            )
        signal = _by_channels(_cut(x, route).squeeze(0))
        if any(isinstance(pool, AveragePool) for pool in self.pools):
            # An average over spikes is an average of what each of them drives, not the drive of an average spike.
            drives = tuple(self.prepare(drive) for drive in neuron.drives(signal))
        else:
            drives = neuron.drives(self.prepare(signal))
        drives = tuple(_by_channels(drive) for drive in drives)
        weight = self.effective_weight()
        feedback = route.feedback(self, weight) if drives[0].requires_grad else None
        out = neuron.respond(drives, Connection(weight, self.bias, self.geometry, feedback))
        counts = Counts(*count_spikes(out, neuron.saturation)) if neuron.spiking else Counts(_nothing(out))
        return out.unsqueeze(0), LayerState(), counts

    def currents(self, x: Tensor | Held | Noisy, carry: Any, route: Route, decay: float) -> tuple[Tensor, Any]:
        """The synapse alone: the currents `[K, B, …]` of one chunk, and what the eligibility carries to the next.

        Args:
            x: `[K, B, …]`, with its noise apart or without, or a constant input held for K steps.
            carry: from the chunk before.
            route: the fillings of the slots.
            decay: λ of the neurons behind.
        """
        weight, bias, products = self.effective_weight(), self._effective_bias(), self._products()
        # Below the first layer, and below a cut, there is nothing an error could serve, so no slot is asked for.
        if isinstance(x, Held):
            drive = self.prepare(_cut(x.value, route))
            feedback = route.feedback(self, weight) if drive.requires_grad else None
            products = products.settled(drive, weight.shape)
            coefficients, carry = route.eligibility.held(x.steps, decay, carry)
            if self.stem_pool is None:
                return held_synapse(drive, weight, bias, coefficients, geometry=products, feedback=feedback), carry
            current = self.thinned(synapse(drive, weight, geometry=products, feedback=feedback))
            return hold(current, bias, coefficients, self.geometry), carry
        current, carry = self._driven(x, weight, bias, products, carry, route, decay)
        return current.view(len(x), -1, *current.shape[1:]), carry

    def _driven(
        self,
        x: Tensor | Noisy,
        weight: Tensor,
        bias: Tensor | None,
        products: AbstractGeometry,
        carry: Any,
        route: Route,
        decay: float,
    ) -> tuple[Tensor, Any]:
        """The currents `[K·B, …]` of a drive that changes from step to step, and what the eligibility carries on."""
        if isinstance(x, Noisy):
            drive, clean, pairs = self._noisy(x, weight, products, route)
        else:
            drive, clean, pairs = self.prepare(_cut(x, route).flatten(0, 1)), None, None
        learnt = pairs if clean is None else None
        feedback = route.feedback(self, weight) if drive.requires_grad else None
        remembered = drive.detach() if clean is None else clean
        written = remembered if learnt is None else None
        learnt = learnt or products.settled(remembered, weight.shape)
        pre, outer, traced = remembered, None, not route.eligibility.same_step(decay)
        if traced and learnt.skips_zeros(remembered, weight.shape):
            outer = route.eligibility.on_errors(len(x), decay, carry, learnt)
        if traced and (outer is None or not route.ends):
            if written is None:
                assert isinstance(x, Noisy), "pairs are of noise"
                written = self.prepare(x.written().detach().flatten(0, 1))
            sequence = written.unflatten(0, (len(x), -1))
            if outer is None:
                traces, carry = route.eligibility.trace(sequence, decay, carry)
                pre = pre if traces is None else traces.flatten(0, 1)
            else:
                carry = route.eligibility.carried(sequence, decay, carry)
        outer = outer or learnt.outer
        current = synapse(drive, weight, bias, geometry=pairs or learnt, feedback=feedback, pre=pre, outer=outer)
        return self.thinned(current), carry

    def _noisy(
        self, x: Noisy, weight: Tensor, products: AbstractGeometry, route: Route
    ) -> tuple[Tensor, Tensor | None, AbstractGeometry | None]:
        """The drive `[K·B, …]` of a noisy signal, what traces hear in place of it (None: the same), and its products by pairs
        of steps, where these pay: the drive is the spikes then, and those very spikes stand for their noise, too."""
        clean = None
        if x.drawn.paired and not self.pools:
            spikes, draws = self.prepare(_cut(x.spikes, route).flatten(0, 1)), x.drawn.draws
            clean = None if x.traced else spikes.detach()
            pairs = by_pairs(products, spikes.detach(), draws, x.amplitude, x.spikes.shape[1], weight.shape)
            if pairs is not None:
                return spikes, clean, pairs
        elif not x.traced:
            clean = self.prepare(x.spikes.detach().flatten(0, 1))
        return self.prepare(_cut(x.written(), route).flatten(0, 1)), clean, None


def _nothing(out: Tensor) -> Tensor:
    return out.new_zeros((), dtype=torch.float64)


def _by_channels(x: Tensor) -> Tensor:
    """Images with the channels last in memory: pools and convolutions on a CPU run several times faster on them.

    `contiguous` would leave a single channel, which is in both orders at once, with the strides of the other one, and those are
    what the convolution goes by.
    """
    return x.to(memory_format=torch.channels_last) if x.ndim == 4 else x


def _cut(x: Tensor, route: Route) -> Tensor:
    return x.detach() if route.cut else x
