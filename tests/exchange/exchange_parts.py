"""Nets that spike in every layer, the three libraries as readers of a file, and a run trained for a moment."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from helpers import assert_rate
from torch import Tensor, nn

import aplysia
from aplysia.exchange.fold import fold
from aplysia.nets.net import Net
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.scan import HardReset
from aplysia.recipes import find
from aplysia.train.folder import RunFolder
from aplysia.train.load import Loaded, load
from aplysia.train.run import Run

TEXTS = ("F40-F30-F10", "8C3-A2-12C3p0-A2-F10", "8C3-P2-F20-F10", "8C3s2-AG-F10", "8C5p1s1-P2-A2-F12-F10")
LIBRARIES = ("snntorch", "spikingjelly", "norse")


def lif_net(text: str, *, leak: float = 0.5, threshold: float = 0.3, seed: int = 0, **options: Any) -> Net:
    neuron = LIF(leak=leak, threshold=threshold, reset=HardReset())
    return aplysia.build(text, (1, 8, 8), neuron=neuron, seed=seed, **options).eval().requires_grad_(False)


def tied(net: Net) -> Net:
    """Weights of few binary digits: membranes meet the threshold exactly, again and again."""
    with torch.no_grad():
        for layer in net.all:
            layer.weight.copy_((layer.weight * 8).round() / 8)
    return net


def bits(net: Net, steps: int = 8, batch: int = 48) -> Tensor:
    return (torch.rand(steps, batch, *net.input_shape) < 0.4).to(net.readout.weight.dtype)


def alive(net: Net, outs: list[Tensor]) -> None:
    for layer, out in zip(net.all, outs, strict=True):
        if layer.neuron.spiking:
            assert_rate(out, 0.01, 0.9)


def trained(path: Path, **changes: Any) -> tuple[Loaded, dict[str, Any]]:
    """A run on the digits, a second or two, with a hard reset."""
    recipe = replace(find("digits-mlp"), neuron=LIF(reset=HardReset()), net="F64-F48-F10", epochs=4)
    recipe = replace(recipe, **changes)
    summary = Run(recipe, RunFolder.create(path, resume=False), torch.device("cpu")).execute()
    return load(path), summary


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Three libraries that print, log and warn of torch's own plans."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def read_by(library: str, file: Path, x: Tensor, watch: list[str], *, dt: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Run a file in another library: outputs `[T, B, …]`, and those of the watched nodes."""
    import nir

    seen: dict[str, list[Tensor]] = {name: [] for name in watch}
    with quiet(), torch.no_grad():
        graph = nir.read(str(file))
        if library == "snntorch":
            from snntorch.import_nir import import_from_nir

            module = import_from_nir(graph)
        elif library == "spikingjelly":
            from spikingjelly.activation_based.nir_exchange import import_from_nir as read_nir

            module = read_nir(graph, dt=dt)
        else:
            import norse.torch

            module = norse.torch.from_nir(graph, dt=dt)
        parts = dict(module.named_modules())
        for name in watch:
            parts[name].register_forward_hook(lambda _, __, out, name=name: seen[name].append(_first(out).clone()))
        outs, state = [], None
        for step in x:
            out = module(step) if library == "snntorch" else module(step, state)
            outs.append(_first(out))
            state = out[1] if isinstance(out, tuple) else None
    return torch.stack(outs), {name: torch.stack(steps) for name, steps in seen.items()}


def _first(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def differing(net: Net, outs: list[Tensor], seen: dict[str, Tensor]) -> int:
    """How many steps of units differ in their spike."""
    return sum(
        int((seen[f"{layer.name}_neuron"] != out).sum())
        for layer, out in zip(net.all, outs, strict=True)
        if layer.neuron.spiking
    )


def check_explained(net: Net, x: Tensor, outs: list[Tensor], seen: dict[str, Tensor], *, near: float = 1e-5) -> None:
    """Where spikes differ in a sample first, the unit's membrane, in double precision, has come as near as that to θ.

    What lies behind, in the same sample, may differ by more: it has another input.
    """
    same = torch.ones(x.shape[1], dtype=torch.bool)
    signal = x.double()
    for layer, out in zip(net.all, outs, strict=True):
        if not isinstance(layer.neuron, LIF):
            break
        theirs = seen[f"{layer.name}_neuron"]
        lone = fold(Net([_copy(layer)])).double()
        with torch.no_grad():
            for target, source in ((lone.all[0].weight, layer.weight), (lone.all[0].bias, layer.bias)):
                if target is not None and source is not None:
                    target.copy_(source)
            currents = lone(signal).outs[0]
        u, v = torch.empty_like(currents), torch.zeros_like(currents[0])
        for t, current in enumerate(currents):
            u[t] = layer.neuron.leak * v + current
            v = u[t] * (1.0 - out[t])
        distance = (u - layer.neuron.threshold).abs().cummin(0).values
        wrong = (theirs != out) & same.view(1, -1, *[1] * (out.ndim - 2))
        assert not bool((wrong & (distance > near)).any()), f"{layer.name} differs far from its threshold"
        same &= ~(theirs != out).flatten(2).any(2).any(0)
        signal = out.double()
    assert float(same.double().mean()) > 0.98


def _copy(layer: Any) -> Any:
    shape = tuple(layer.weight.shape)
    return aplysia.Layer(
        layer.name,
        layer.geometry,
        layer.input_shape,
        shape,
        Integrator(),
        pools=layer.pools,
        bias=layer.bias is not None,
    )


def sequence(module: nn.Module, x: Tensor) -> Tensor:
    """A module that keeps its own state, step by step."""
    with torch.no_grad():
        return torch.stack([module(step) for step in x])
