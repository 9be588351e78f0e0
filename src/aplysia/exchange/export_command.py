"""What `aplysia export` does: write the file, read it again, and say what became of the net on samples of the test set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aplysia.data.root import data_root
from aplysia.errors import DataError, RunError
from aplysia.exchange import first_spike
from aplysia.exchange.conventions import AbstractDialect, dialect
from aplysia.exchange.first_spike_steps import compare
from aplysia.exchange.fold import fold
from aplysia.exchange.nir_read import from_nir
from aplysia.exchange.nir_write import to_nir, write
from aplysia.nets.net import Input, Net
from aplysia.neurons.base import AbstractFirstSpike
from aplysia.rng import generator
from aplysia.train.load import Loaded, load

# Samples that the file is tried out on.
_SAMPLES = 256


@dataclass(frozen=True)
class Request:
    """What was asked on the command line.

    Attributes:
        run: folder, or a `model.safetensors`.
        nir: file to write.
        reader: whose conventions to write for.
        dt: seconds per step; None: the reader's usual one.
        per_window: steps of a window of a first-spike net.
        data: root of the data sets.
    """

    run: Path
    nir: Path
    reader: str = "nir"
    dt: float | None = None
    per_window: int = 64
    data: Path | None = None


@dataclass(frozen=True)
class _Samples:
    """What the file is tried out on.

    Attributes:
        x: as the net gets it.
        labels: None where the data are not there.
        said: what they are, in words.
    """

    x: Input
    labels: Tensor | None
    said: str

    def accuracy(self, logits: Tensor) -> str:
        if self.labels is None:
            return "unknown"
        return f"{float((logits.argmax(1) == self.labels).double().mean()):.2%}"


def export(request: Request) -> None:
    """Write a run's net as NIR and print what was measured.

    Raises:
        RunError: no finished run, a net that NIR cannot say, or a place that cannot be written.
    """
    reader, loaded = dialect(request.reader), load(request.run)
    if loaded.net.kind == AbstractFirstSpike.kind:
        _first_spike(request, reader, loaded)
    else:
        _stepped(request, reader, loaded)


@torch.no_grad()
def _stepped(request: Request, reader: AbstractDialect, loaded: Loaded) -> None:
    net, recipe = loaded.net, loaded.recipe
    scaling = {"scale": loaded.scale, "mean": loaded.mean, "std": loaded.std} if loaded.known else {}
    about = {"name": recipe.name, "encoder": type(recipe.encoder).__name__, **scaling}
    graph = to_nir(net, dt=request.dt, steps=recipe.steps, reader=reader, about=about)
    write(request.nir, graph)
    got, plain, samples = from_nir(request.nir), fold(net), _samples(loaded, request.data)
    print(f"{request.nir}: {recipe.net} for {reader.name}, dt {got.dt:g} s, T = {recipe.steps}")
    print(_folded(net))
    print(f"read back: {_weights(plain, got.net)}")
    before, after = net(samples.x), got.net(samples.x)
    for layer, a, b in zip(net.hidden, before.outs, after.outs, strict=False):
        differ = int(((a > 0) != (b > 0)).sum())
        print(
            f"  {layer.name}: {int((b > 0).sum()):,} spikes, {differ:,} of {b.numel():,} steps differ from the run's net"
        )
    accuracies = [samples.accuracy(done.outs[-1].mean(0)) for done in (before, after)]
    print(f"on {samples.said}: accuracy {accuracies[0]} in the run's net, {accuracies[1]} from the file")


def _weights(written: Net, read: Net) -> str:
    pairs = list(zip(written.state_dict().values(), read.state_dict().values(), strict=True))
    if all(torch.equal(a, b) for a, b in pairs):
        return "weights equal bit for bit"
    apart = max(float(((a - b).abs() / a.abs().clamp(min=1e-30)).max()) for a, b in pairs)
    # A sum in place of an average divides the weights, which is exact for powers of two alone.
    assert apart < 4 * torch.finfo(pairs[0][0].dtype).eps
    return f"weights equal but for rounding, {apart:.1g} of their value, since averages are written as sums"


def _folded(net: Net) -> str:
    into = [
        *(["standardised weights"] if any(layer.weight_gain is not None for layer in net.all) else []),
        *(["centred weights"] if any(layer.centre for layer in net.all) else []),
        *([f"gain {net.all[0].gain:g}"] if net.all[0].gain != 1.0 else []),
    ]
    out = ["dropout"] if any(layer.dropout > 0.0 for layer in net.all) else []
    said = f"folded into the weights: {', '.join(into) or 'nothing'}"
    return said + (f"; left out: {', '.join(out)}" if out else "")


def _first_spike(request: Request, reader: AbstractDialect, loaded: Loaded) -> None:
    if reader.name != "nir" or request.dt is not None:
        asked = f"--for {reader.name}" if reader.name != "nir" else f"--dt {request.dt:g}"
        raise RunError(
            str(request.run),
            expected="NIR's own equations and a step of a window's length by --steps-per-window, for a first-spike net",
            got=asked,
            fix="leave it out",
        )
    net, recipe = loaded.net, loaded.recipe
    graph, grid = first_spike.to_nir(net, request.per_window)
    write(request.nir, graph)
    samples = _samples(loaded, request.data)
    assert isinstance(samples.x, Tensor)
    rows, exact, stepped = compare(net, graph, grid, samples.x[0])
    steps = f"{grid.per_window} steps of {grid.dt:g} in a window of {grid.window:g}"
    print(f"{request.nir}: stepwise equivalent of {recipe.net}, {steps}")
    print(f"a sample takes {grid.steps} steps; what is lost is time: a spike is known to its step")
    for row, layer in zip(rows, net.all, strict=True):
        what = "earliness" if layer.neuron.spiking else "potential"
        changed = f", {row.changed:.2%} of units fire in one alone" if layer.neuron.spiking else ""
        print(f"  {row.layer}: {what} off by {row.mean:.2g} in the mean, {row.largest:.2g} at most{changed}")
    print(f"on {samples.said}: accuracy {samples.accuracy(exact)} in closed form, {samples.accuracy(stepped)} in steps")


def _samples(loaded: Loaded, data: Path | None) -> _Samples:
    recipe = loaded.recipe
    try:
        test = recipe.data.load(data_root(data), steps=recipe.steps, download=False).test
    except DataError:
        shape = loaded.net.input_shape
        drawn = torch.rand(_SAMPLES, *shape, generator=generator("cpu", "export"))
        x = recipe.encoder(drawn, recipe.steps, generator("cpu", "export"))
        return _Samples(x, None, f"{_SAMPLES} samples drawn at random, since the data are not here")
    inputs, labels = test.inputs[:_SAMPLES], test.labels[:_SAMPLES]
    return _Samples(loaded.input(inputs), labels, f"{len(labels)} samples of the test set")
