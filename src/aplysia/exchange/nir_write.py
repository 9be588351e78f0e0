"""From a net of ours to a graph of NIR.

    64C3-A2-F10     input → conv1 → conv1_neuron → pool2 → flatten2 → readout → output

Every layer is a Conv2d, Affine or Linear of its name and a neuron behind it; pools and Flatten stand in front, numbered by the
layer's place. `aplysia.exchange.conventions` has the equations. What NIR has no word for is refused before anything is written,
all of it in one sentence.

The graph's metadata say, as JSON under `aplysia`: format, dt, steps, the dialect it was written for, and for each layer the
exact leak and threshold. A reader that knows nothing of them loses nothing but T.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aplysia.errors import RunError
from aplysia.exchange.conventions import AbstractDialect, Point, Specification, leak_of, time_constant
from aplysia.exchange.fold import fold
from aplysia.exchange.package import nir_package
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.pool import MaxPool
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.geometry import Conv2d, Dense
from aplysia.ops.scan import HardReset

FORMAT = 1


def refused(net: Net, dialect: AbstractDialect, dt: float) -> list[str]:
    """Everything about a net that the file, or its reader, could not say; empty if it can be written."""
    found: list[str] = []
    if not (dt > 0.0 and math.isfinite(dt)):
        found.append(f"dt={dt:g}, which is no time")
    for place, layer in enumerate(net.all):
        last = place == len(net.all) - 1
        found += [f"{layer.name}: {why}" for why in [*_neuron(layer, dialect, dt, last), *_synapse(layer, place)]]
    return found


def _neuron(layer: Layer, dialect: AbstractDialect, dt: float, last: bool) -> list[str]:
    neuron = layer.neuron
    if isinstance(neuron, LIF):
        if not isinstance(neuron.reset, HardReset):
            return ["a soft reset, where NIR's neurons reset to a value (train with neuron.reset=hard)"]
        return dialect.problems(_point(neuron), dt)
    if isinstance(neuron, Integrator):
        if not last:
            return ["an integrator that is no readout"]
        if neuron.leak != 0.0 and not dialect.integrates:
            return [f"a readout with leak {neuron.leak:g}, which {dialect.name} does not read (readout.leak=0)"]
        return []
    return [f"{type(neuron).__name__} neurons, which are no primitive of NIR"]


def _synapse(layer: Layer, place: int) -> list[str]:
    found = []
    if layer.shortcut is not None:
        found.append("a residual shortcut, which carries currents")
    if layer.stem_pool is not None:
        found.append("a pool of currents that leaves out what lies beyond the edge")
    if isinstance(layer.geometry, Conv2d) and layer.geometry.groups != 1:
        found.append(f"{layer.geometry.groups} groups, which NIR's types do not allow for")
    if place == 0 and any(isinstance(pool, MaxPool) for pool in layer.pools):
        found.append("a maximum pool on the input, where it is no OR of spikes")
    kinds = [isinstance(pool, MaxPool) for pool in layer.pools]
    if True in kinds and False in kinds[: len(kinds) - kinds[::-1].index(True)]:
        found.append("a maximum pool behind an average, where it is no OR of spikes")
    return found


def to_nir(
    net: Net,
    *,
    dt: float | None = None,
    steps: int | None = None,
    reader: AbstractDialect | None = None,
    about: Mapping[str, Any] | None = None,
) -> Any:
    """The graph of a stepped net, a `nir.NIRGraph`; weights in it are those of `fold(net)`, bit for bit.

    Args:
        net: LIF layers with hard resets and an Integrator or LIF readout.
        dt: seconds per step; the reader's usual one unless said.
        steps: T, kept in the metadata.
        reader: which library's conventions to write for; NIR's own equations unless said.
        about: more to keep in the metadata.

    Raises:
        RunError: NIR or that reader cannot say it, with all reasons; or the package is missing.
    """
    nir = nir_package()
    reader = reader or Specification()
    dt = reader.dt if dt is None else dt
    if reasons := refused(net, reader, dt):
        raise RunError(
            "NIR",
            expected=f"a net of leaky integrate-and-fire layers as {_means(reader)} can say it",
            got=grouped(reasons),
            fix="change these in the recipe and train again" if reader.name == "nir" else _other(net, dt),
        )
    return _Writer(nir, reader, dt).graph(fold(net), steps, dict(about or {}))


def grouped(reasons: list[str]) -> str:
    """Reasons `layer: why`, each told once with all its layers."""
    by_reason: dict[str, list[str]] = {}
    for reason in reasons:
        name, _, why = reason.partition(": ") if ": " in reason else ("", "", reason)
        by_reason.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)}: {why}" if any(names) else why for why, names in by_reason.items())


def write(path: Path | str, graph: Any) -> None:
    """Write a graph whole or not at all.

    Raises:
        RunError: the place cannot be written, or the package is missing.
    """
    path = Path(path)
    nir, temporary = nir_package(), path.with_name(f".{path.name}.tmp")
    try:
        nir.write(str(temporary), graph)
        temporary.replace(path)
    except OSError as problem:
        temporary.unlink(missing_ok=True)
        raise RunError(
            str(path), expected="a place that can be written", got=str(problem).splitlines()[0], fix="choose another"
        ) from problem


def _means(reader: AbstractDialect) -> str:
    return "NIR" if reader.name == "nir" else f"NIR read by {reader.name}"


def _other(net: Net, dt: float) -> str:
    plain = not refused(net, Specification(), dt)
    return "leave out --for, which NIR itself can say" if plain else "change these in the recipe and train again"


def _point(neuron: LIF) -> Point:
    assert isinstance(neuron.reset, HardReset)
    return Point(neuron.leak, neuron.threshold, neuron.reset.value)


class _Writer:
    """Nodes in order, each with an edge from the one before."""

    def __init__(self, nir: Any, reader: AbstractDialect, dt: float) -> None:
        self.nir, self.reader, self.dt = nir, reader, dt
        self.nodes: dict[str, Any] = {}

    def graph(self, net: Net, steps: int | None, about: dict[str, Any]) -> Any:
        nir = self.nir
        self.nodes["input"] = nir.Input({"input": np.array(net.input_shape)})
        for place, layer in enumerate(net.all, start=1):
            self._layer(layer, place)
        self.nodes["output"] = nir.Output({"output": np.array(net.readout.output_shape)})
        notes = about | {
            "format": FORMAT,
            "for": self.reader.name,
            "dt": self.dt,
            "steps": steps,
            "layers": {layer.name: _exact(layer) for layer in net.all},
        }
        names = list(self.nodes)
        edges = list(itertools.pairwise(names))
        return nir.NIRGraph(self.nodes, edges, metadata={"aplysia": json.dumps(notes)})

    def _layer(self, layer: Layer, place: int) -> None:
        divisor = self._pools(layer, place)
        weight = _numpy(layer.weight if divisor == 1 else layer.weight / divisor)
        bias = None if layer.bias is None else _numpy(layer.bias)
        if isinstance(layer.geometry, Dense):
            if len(layer.drive_shape) == 1 and len(layer.input_shape) == 3:
                self.nodes[f"flatten{place}"] = self.nir.Flatten({"input": np.array(self._pooled)}, -3, -1)
            node = self.nir.Linear(weight) if bias is None else self.nir.Affine(weight, bias)
        else:
            assert isinstance(layer.geometry, Conv2d)
            g, shape = layer.geometry, tuple(int(n) for n in self._pooled[1:])
            zeros = np.zeros(len(weight), weight.dtype)
            stride, padding = (g.stride, g.stride), (g.padding, g.padding)
            node = self.nir.Conv2d(shape, weight, stride, padding, (1, 1), 1, zeros if bias is None else bias)
        self.nodes[layer.name] = node
        name, shape, neuron = f"{layer.name}_neuron", layer.output_shape, layer.neuron
        if isinstance(neuron, LIF):
            self.nodes[name] = self.reader.neuron(self.nir, _point(neuron), shape, self.dt, weight.dtype.type)
        elif isinstance(neuron, Integrator) and neuron.leak > 0.0:
            self.nodes[name] = self._integrator(neuron.leak, shape)

    def _pools(self, layer: Layer, place: int) -> int:
        """Write the pools; the factor that is left to divide the weights by."""
        nir, divisor, shape = self.nir, 1, layer.input_shape
        for number, pool in enumerate(layer.pools):
            name = f"pool{place}" + ("" if number == 0 else f"_{number}")
            size = shape[1:] if pool.size is None else (pool.size, pool.size)
            window = (np.array(size), np.array(size), np.array([0, 0]))
            shape = (shape[0], shape[1] // size[0], shape[2] // size[1])
            if isinstance(pool, MaxPool):
                self.nodes[name] = nir.SumPool2d(*window)
                self.nodes[f"{name}_any"] = self.reader.either(nir, shape, self.dt)
            elif self.reader.averages:
                self.nodes[name] = nir.AvgPool2d(*window)
            else:
                self.nodes[name] = nir.SumPool2d(*window)
                divisor *= size[0] * size[1]
        self._pooled = shape
        return divisor

    def _integrator(self, leak: float, shape: tuple[int, ...]) -> Any:
        if leak == 1.0:
            return self.nir.I(np.full(shape, 1.0 / self.dt))
        tau = time_constant(leak, self.dt)
        return self.nir.LI(np.full(shape, tau), np.full(shape, tau / self.dt), np.zeros(shape))


def _exact(layer: Layer) -> dict[str, Any]:
    """What one double or a zero bias would not bring back exactly."""
    said: dict[str, Any] = {"bias": layer.bias is not None}
    if isinstance(layer.neuron, LIF | Integrator):
        said["leak"] = layer.neuron.leak
    if isinstance(layer.neuron, LIF):
        said |= {"threshold": layer.neuron.threshold, "reset": _point(layer.neuron).reset}
    return said


def _numpy(x: Tensor) -> np.ndarray:
    return x.detach().cpu().contiguous().numpy().copy()


def agrees(leak: float, tau: float, dt: float) -> bool:
    """Whether a leak that is said exactly is the one that τ says, to what doubles can hold."""
    return math.isclose(leak, leak_of(tau, dt), rel_tol=0.0, abs_tol=1e-12)
