"""A first-spike net as a graph that steps: what NIR's primitives can say of windows, ramps and a falling threshold.

The neuron (`aplysia.neurons.windowed`), with inputs of earliness x in the window before its own, which starts at t₀:

    V(t) = Σ w·(t − t_j)⁺,   fires once, at the first t in [t₀, t₀ + T) with V(t) ≥ (ϑ − b)·(1 − (t − t₀)/T)

A window has M steps of dt = T/M. Spikes are impulses of one step, and a layer is

    synapse ── I ── IF        I counts spikes, S = Σ w·m; the IF sums dt·S up, which is V. It fires at most once: v_reset = −2³⁰
       └── Scale ½ ──┘        −½ of a spike's first step: a spike counts from the middle of its step on
    LIF "open"                fires by itself as the window starts, once (its leak potential is above its threshold, R = 0 makes
                              it deaf); its spike starts a ramp of (ϑ − b)/T in I, against which the threshold is fixed, and
                              lifts the membrane by a bound on all V, before which no unit can reach the threshold
    LIF "close"               likewise behind the last step, and presses the membrane down for good

A maximum pool is a sum and an IF that fires once. The readout is two I in a row; its potential is the output at the last step.

What is lost is time: a spike is known to its step, so an earliness is off by up to dt/2 where the inputs are exact, and errors
of layers add up, weighted. They fall as 1/M; `aplysia.exchange.first_spike_steps` measures them. In single precision the bound
on V costs some digits more, and a unit that fires at the very edge of its window may do so in one of the two alone.
None of snnTorch, SpikingJelly and Norse reads I and Scale: such a file is for tools that read NIR's equations.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from aplysia.errors import RunError
from aplysia.exchange.first_spike_steps import Grid
from aplysia.exchange.fold import fold
from aplysia.exchange.nir_write import FORMAT, grouped
from aplysia.exchange.package import nir_package
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.pool import MaxPool
from aplysia.neurons.potential import End, Potential
from aplysia.neurons.windowed import Windowed
from aplysia.ops.geometry import Conv2d, Dense

_NEVER = -(2.0**30)


def refused(net: Net) -> list[str]:
    """Everything about a first-spike net that has no stepwise equivalent here; empty if it can be written."""
    found, windows = [], set()
    for layer in net.all:
        last = layer is net.readout
        if isinstance(layer.neuron, Windowed):
            windows.add(layer.neuron.window)
        elif isinstance(layer.neuron, Potential) and last:
            windows |= {layer.neuron.reading.window} if isinstance(layer.neuron.reading, End) else set()
        else:
            found.append(f"{layer.name}: {type(layer.neuron).__name__} neurons, where windowed ones step")
        if isinstance(layer.geometry, Conv2d) and layer.geometry.groups != 1:
            found.append(f"{layer.name}: {layer.geometry.groups} groups, which NIR's types do not allow for")
        maxima = [isinstance(pool, MaxPool) for pool in layer.pools]
        if True in maxima and False in maxima[: len(maxima) - maxima[::-1].index(True)]:
            found.append(f"{layer.name}: a maximum pool behind an average, where it is no first spike")
    if len(windows) > 1:
        found.append("windows of " + ", ".join(f"{w:g}" for w in sorted(windows)) + ", where one clock counts all")
    return found


def to_nir(net: Net, per_window: int = 64) -> tuple[Any, Grid]:
    """The stepwise equivalent of a windowed first-spike net, a `nir.NIRGraph`, and its grid.

    Args:
        net: windowed layers, with a potential or a windowed layer as the readout.
        per_window: M ≥ 2.

    Raises:
        RunError: a net that has none, with all reasons; or the package is missing.
    """
    nir = nir_package()
    reasons = refused(net) + ([f"{per_window} steps a window"] if per_window < 2 else [])
    if reasons:
        raise RunError(
            "NIR",
            expected="a net of windowed first-spike layers, in at least 2 steps a window",
            got=grouped(reasons),
            fix="change these in the recipe and train again",
        )
    return _Writer(nir, fold(net), per_window).graph()


class _Writer:
    """The graph, layer by layer; `last` is the node whose spikes go on."""

    def __init__(self, nir: Any, net: Net, per_window: int) -> None:
        self.nir, self.net = nir, net
        readout = net.readout.neuron
        hidden = sum(isinstance(layer.neuron, Windowed) for layer in net.all)
        late = isinstance(readout, Potential) and isinstance(readout.reading, End)
        window = next((layer.neuron.window for layer in net.all if isinstance(layer.neuron, Windowed)), 1.0)
        if late and isinstance(readout, Potential) and isinstance(readout.reading, End):
            window = readout.reading.window
        self.grid = Grid(window, per_window, 1 + hidden + late)
        self.nodes: dict[str, Any] = {"input": nir.Input({"input": np.array(net.input_shape)})}
        self.edges: list[tuple[str, str]] = []
        self.last = "input"

    def graph(self) -> tuple[Any, Grid]:
        """Write all layers."""
        for place, layer in enumerate(self.net.all, start=1):
            self._synapse(layer, place)
            if isinstance(layer.neuron, Windowed):
                self._windowed(layer, layer.neuron, place)
            else:
                self._potential(layer)
        self._add("output", self.nir.Output({"output": np.array(self.net.readout.output_shape)}), self.last)
        notes = {
            "format": FORMAT,
            "kind": "first-spike",
            "for": "nir",
            "dt": self.grid.dt,
            "steps": self.grid.steps,
            "window": self.grid.window,
            "steps_per_window": self.grid.per_window,
        }
        return self.nir.NIRGraph(self.nodes, self.edges, metadata={"aplysia": json.dumps(notes)}), self.grid

    def _add(self, name: str, node: Any, *sources: str) -> str:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        return name

    def _synapse(self, layer: Layer, place: int) -> None:
        nir, shape = self.nir, layer.input_shape
        for number, pool in enumerate(layer.pools):
            name = f"pool{place}" + ("" if number == 0 else f"_{number}")
            size = shape[1:] if pool.size is None else (pool.size, pool.size)
            window = (np.array(size), np.array(size), np.array([0, 0]))
            shape = (shape[0], shape[1] // size[0], shape[2] // size[1])
            if isinstance(pool, MaxPool):
                self.last = self._add(name, nir.SumPool2d(*window), self.last)
                first = self._if(np.full(shape, 0.5), 1.0 / self.grid.dt)
                self.last = self._add(f"{name}_first", first, self.last)
            else:
                self.last = self._add(name, nir.AvgPool2d(*window), self.last)
        weight = layer.weight.detach().numpy().copy()
        if isinstance(layer.geometry, Dense):
            if len(shape) == 3:
                self.last = self._add(f"flatten{place}", nir.Flatten({"input": np.array(shape)}, -3, -1), self.last)
            node = nir.Linear(weight)
        else:
            assert isinstance(layer.geometry, Conv2d)
            g, zeros = layer.geometry, np.zeros(len(weight), weight.dtype)
            node = nir.Conv2d(shape[1:], weight, (g.stride,) * 2, (g.padding,) * 2, (1, 1), 1, zeros)
        self.last = self._add(layer.name, node, self.last)

    def _windowed(self, layer: Layer, neuron: Windowed, place: int) -> None:
        name, shape, grid = layer.name, layer.output_shape, self.grid
        bias = torch.zeros(len(layer.weight)) if layer.bias is None else layer.bias.detach()
        start = (neuron.threshold - bias.double()).view(-1, *[1] * (len(shape) - 1)).expand(shape).numpy()
        slope = start / grid.window
        # No potential gets higher, nor falls lower, while a sample lasts.
        weight = layer.weight.detach().double().flatten(1)
        top = float(weight.clamp(min=0.0).sum(1).max()) * grid.window
        above = top + abs(start).max() + 1.0
        below = grid.windows * (top + abs(slope).max() * grid.window) + above
        # One step early, when the last input has come: whatever is above the threshold then fires, as it must.
        opens = self._clock(f"{name}_open", place * grid.per_window - 1, shape, name)
        closes = self._clock(f"{name}_close", (place + 1) * grid.per_window, shape, name)
        ramp = self._scale(f"{name}_slope", slope, opens)
        count = self._add(f"{name}_count", self.nir.I(np.full(shape, 1.0 / grid.dt)), name, ramp)
        into = [
            count,
            self._scale(f"{name}_half", np.full(shape, -0.5), name),
            self._scale(f"{name}_lift", above / grid.dt - slope, opens),
            self._scale(f"{name}_press", np.full(shape, -below / grid.dt), closes),
        ]
        self.last = self._add(f"{name}_neuron", self._if(start + above, 1.0), *into)

    def _potential(self, layer: Layer) -> None:
        name, shape, grid = layer.name, layer.output_shape, self.grid
        count = self._add(f"{name}_count", self.nir.I(np.full(shape, 1.0 / grid.dt)), name)
        into = [count, self._scale(f"{name}_half", np.full(shape, -0.5), name)]
        if layer.bias is not None:
            clock = self._clock(f"{name}_bias", 0, shape, name)
            into.append(self._scale(f"{name}_offset", layer.bias.detach().double().numpy() / grid.dt, clock))
        self.last = self._add(f"{name}_neuron", self.nir.I(np.full(shape, 1.0)), *into)

    def _if(self, threshold: np.ndarray, r: float) -> Any:
        return self.nir.IF(np.full(threshold.shape, r), np.array(threshold), np.full(threshold.shape, _NEVER))

    def _scale(self, name: str, factor: np.ndarray, source: str) -> str:
        return self._add(name, self.nir.Scale(np.array(factor)), source)

    def _clock(self, name: str, step: int, shape: Sequence[int], source: str) -> str:
        """A neuron that fires once, at the given step, whatever comes in."""
        total = 2.0 * self.grid.steps
        # v after n steps is 1 − (1 − 1/total)ⁿ; its threshold lies between the values before and after the step.
        low, high = (1.0 - (1.0 - 1.0 / total) ** n for n in (step, step + 1))
        values = (total * self.grid.dt, 0.0, 1.0, (low + high) / 2.0, _NEVER)
        tau, r, leak, threshold, reset = (np.full(tuple(shape), value) for value in values)
        node = self.nir.LIF(tau=tau, r=r, v_leak=leak, v_threshold=threshold, v_reset=reset)
        return self._add(name, node, source)
