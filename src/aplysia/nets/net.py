"""A net: named layers in order, states in and out, T steps in chunks of K."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aplysia.errors import DataError, RecipeError
from aplysia.nets.layer import Counts, Layer, LayerState
from aplysia.nets.noise import Drawn, NoiseSource, Noisy
from aplysia.nets.route import Route
from aplysia.nets.shortcut import Sent, check_shortcuts
from aplysia.rng import generator
from aplysia.types import Held

Input = Tensor | Held
States = list[LayerState]


@dataclass(frozen=True)
class Pass:
    """What one chunk gave.

    Attributes:
        outs: one `[K, B, …]` per layer, the last one the readout's.
        states: one per layer, for the next chunk.
        spikes: number of spikes per layer `[L]`, exact integers in floating point.
        saturated: number of spikes per layer that could not have been earlier `[L]`, likewise; None: no spike could.
        noise: z per hidden layer, unscaled; empty where there was none. The outs are without it.
    """

    outs: list[Tensor]
    states: States
    spikes: Tensor
    saturated: Tensor | None
    noise: list[Drawn]


def steps_of(x: Input) -> int:
    """T of an input."""
    return x.steps if isinstance(x, Held) else len(x)


def widest(net: Net, batch: int) -> int:
    """Numbers that the widest layer sends in a step, of all samples of a batch."""
    return batch * max(layer.units for layer in net.all)


def chunks(x: Input, size: int) -> Iterator[Input]:
    """Cut an input into chunks of at most `size` steps."""
    for start in range(0, steps_of(x), size):
        if isinstance(x, Held):
            yield Held(x.value, min(size, x.steps - start))
        else:
            yield x[start : start + size]


def noise_amplitude(layer: Layer, source: NoiseSource) -> float:
    """Factor on z in this layer."""
    return source.amplitude(gain=layer.gain, threshold=float(getattr(layer.neuron, "threshold", 1.0)))


def _disturbed(
    layer: Layer,
    x: Input | Noisy,
    state: LayerState | None,
    route: Route,
    source: NoiseSource,
    beside: Sent | None,
) -> tuple[Tensor, LayerState, Counts, Tensor | Noisy, Drawn]:
    """One hidden layer under noise: its output, state and counts, what it sends on, and z."""
    site = source.noise.site
    if isinstance(x, Held):
        steps, batch = x.steps, len(x.value)
    else:
        steps, batch = len(x), (x.spikes if isinstance(x, Noisy) else x).shape[1]
    like, amplitude = (
        layer.weight.detach().new_empty(()).expand(batch, *layer.output_shape),
        noise_amplitude(layer, source),
    )
    z = source.drawn(layer.name, route.start, steps, like)
    disturbance = None
    if not site.at_output:
        before = None
        if site.remembers and route.start > 0:
            before = source.draw(layer.name, route.start - 1, 1, like)[0] * amplitude
        disturbance = site.into_currents(z.all() * amplitude, before, layer.neuron.decay)  # type: ignore[attr-defined]
    out, after, counts = layer(x, state, route, disturbance=disturbance, beside=beside, planted=route.planted)
    return out, after, counts, Noisy(out, z, amplitude, source.noise.traced) if site.at_output else out, z


def _synapses(layers: list[Layer]) -> list[Layer]:
    made: list[Layer] = []
    for layer in layers:
        made.append(layer)
        if layer.shortcut is not None and layer.shortcut.projection is not None:
            made.append(layer.shortcut.projection)
    return made


class Net(nn.Module):
    """Feed-forward layers, the last one the readout.

    Args:
        layers: in order; each one's input shape is the output shape of the one before, all neurons of one kind. A layer may
            have a second input from further down, a shortcut.
        seed: of the initial weights. The draw is the same on every device.

    Raises:
        RecipeError: two layers of one name, neurons of two kinds, or a shortcut that does not fit.
    """

    def __init__(self, layers: Iterable[Layer], *, seed: int = 0) -> None:
        super().__init__()
        layers = list(layers)
        names = [layer.name for layer in _synapses(layers)]
        if len(set(names)) < len(names):
            raise RecipeError("net", expected="layers of different names", got=f"{names}", fix="rename one")
        if len({layer.neuron.kind for layer in layers}) > 1:
            raise RecipeError(
                "net",
                expected="neurons of one kind in all layers",
                got=", ".join(f"{layer.name}: {type(layer.neuron).__name__} ({layer.neuron.kind})" for layer in layers),
                fix="give first-spike neurons the readout 'potential' (or themselves), stepped ones 'integrator'",
            )
        check_shortcuts(layers)
        self.layers = nn.ModuleDict({layer.name: layer for layer in layers})
        with torch.no_grad():
            for layer in self.synapses:
                drawn = layer.draw_weight(generator("cpu", seed, "weights", layer.name))
                layer.weight.copy_(drawn if layer.law.start == 1.0 else drawn * layer.law.start)
                if layer.bias is not None:
                    layer.bias.fill_(layer.law.bias)

    @property
    def all(self) -> list[Layer]:
        """Every layer, in order."""
        # Straight to where modules keep each other: it is asked for all over a step.
        layers = self._modules["layers"]
        assert layers is not None
        return list(layers._modules.values())  # type: ignore[arg-type]

    @property
    def hidden(self) -> list[Layer]:
        """All but the readout."""
        return self.all[:-1]

    @property
    def readout(self) -> Layer:
        """The last layer."""
        return self.all[-1]

    @property
    def synapses(self) -> list[Layer]:
        """All that owns weights: every layer, each followed by the projection of its shortcut where it has one."""
        return _synapses(self.all)

    @property
    def fed_back(self) -> list[Layer]:
        """The synapses that own an error slot: all but the first, below which no error is needed."""
        return self.synapses[1:]

    @property
    def kind(self) -> str:
        """The kind of its neurons: stepped, first-spike or stream."""
        return self.readout.neuron.kind

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.all[0].input_shape

    @property
    def classes(self) -> int:
        return self.readout.units

    def check_input(self, x: Input) -> None:
        """Refuse an input whose samples do not fit the first layer."""
        got = tuple(x.value.shape[1:] if isinstance(x, Held) else x.shape[2:])
        if got != self.input_shape:
            raise DataError(
                "net input",
                expected=f"samples of shape {self.input_shape} (time first: [T, B, …], or Held([B, …], T))",
                got=f"{got}",
                fix="use a net made for this input size, or resize the images",
            )

    def forward(self, x: Input, states: Iterable[LayerState] | None = None, route: Route | None = None) -> Pass:
        """Run one chunk through all layers.

        Args:
            x: `[K, B, …]`, or a constant input held for K steps.
            states: from the chunk before, taken one by one; None at the start of a sequence.
            route: how errors and updates will run; None is backpropagation through time.
        """
        self.check_input(x)
        outs: list[Tensor] = []
        after: States = []
        counts: list[Counts] = []
        drawn: list[Drawn] = []
        sent: dict[str, Sent] = {}
        signal: Input | Noisy = x
        source = None if route is None else route.noise
        sources = {layer.shortcut.source for layer in self.all if layer.shortcut is not None}
        given = None if states is None else iter(states)
        layers = self.all
        for layer in layers:
            state = None if given is None else next(given)
            beside = None if layer.shortcut is None else sent[layer.shortcut.source]
            if source is None or layer is layers[-1]:
                planted = route is not None and route.planted and layer is not layers[-1]
                out, state, count = layer(signal, state, route, beside=beside, planted=planted)
                signal = out
            else:
                assert route is not None
                out, state, count, signal, z = _disturbed(layer, signal, state, route, source, beside)
                drawn.append(z)
            if layer.name in sources:
                assert not isinstance(signal, Held), "no layer sends a held input"
                sent[layer.name] = Sent(signal, state.currents)
            outs.append(out)
            after.append(state)
            counts.append(count)
        fired = torch.stack([count.spikes for count in counts])
        early = [count.saturated for count in counts]
        if any(count is not None for count in early):
            saturated = torch.stack([torch.zeros_like(fired[0]) if count is None else count for count in early])
        else:
            saturated = None
        return Pass(outs, after, fired, saturated, drawn)

    @torch.no_grad()
    def predict(self, x: Input, *, chunk: int = 8, noise: NoiseSource | None = None) -> tuple[Tensor, Tensor]:
        """Mean output over time `[B, C]` and the number of spikes per layer `[L]`, without a graph."""
        total, spikes, states, start = None, None, None, 0
        for part in chunks(x, chunk):
            done = self(part, states, None if noise is None else Route(noise=noise, start=start))
            states = done.states
            start += steps_of(part)
            out = done.outs[-1].sum(0)
            total = out if total is None else total + out
            spikes = done.spikes if spikes is None else spikes + done.spikes
        assert total is not None
        assert spikes is not None
        return total / steps_of(x), spikes
