"""The one thing a ledger measures: how many signals meet each synapse, of a batch. All else is closed form.

Event counts are kept per entry of the drive, since at the edge of an image an input reaches fewer units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aplysia.nets.layer import Layer
from aplysia.nets.net import Input, Net, chunks, noise_amplitude, steps_of
from aplysia.nets.noise import NoiseSource
from aplysia.nets.pool import AveragePool
from aplysia.nets.route import Route
from aplysia.ops.geometry import Dense
from aplysia.types import Held


@dataclass(frozen=True)
class Drive:
    """What meets one synapse in one batch.

    Attributes:
        events: signals that are not 0, int64 in the shape of one sample's drive: summed over samples and steps.
        traced: eligibility traces that are not 0, counted likewise: as a rule an entry's from its first signal on.
        real: whether signals are real numbers; else spikes.
        held: whether one value serves all steps, so that it goes through the synapse once a window.
        learnt: spikes that updates are paired with in place of noisy signals, counted as events are; None: the signals.
    """

    events: Tensor
    traced: Tensor
    real: bool
    held: bool = False
    learnt: Tensor | None = None


@dataclass(frozen=True)
class Activity:
    """Counts of one batch of B samples over T steps.

    Attributes:
        batch: B.
        steps: T.
        drives: by the name of the synapse.
        spikes: fired by each layer.
        errors: gradient spikes that reach each layer's synapse, int64 in the shape of one sample's currents, where errors are
            spikes; empty where they are real numbers.
        coincidences: of forward and gradient spikes, by synapse, likewise.
        input_drawn: whether the input's bits are drawn for rates.
    """

    batch: int
    steps: int
    drives: dict[str, Drive]
    spikes: dict[str, int]
    errors: dict[str, Tensor] = field(default_factory=dict)
    coincidences: dict[str, int] = field(default_factory=dict)
    input_drawn: bool = False


def counted(layer: Layer, signal: Tensor, *, real: bool) -> Tensor:
    """Signals that are not 0 in front of a layer's weights, summed over samples, int64 in the shape of its drive.

    Spikes pass an average pool one by one, as they would through a synapse of fixed weight; through a maximum pool the first
    does. A real number is pooled first.

    Args:
        layer: whose pools they pass.
        signal: `[R, …]`.
        real: whether it is real numbers.
    """
    if real:
        return (layer.prepare(signal) != 0).sum(0)
    return _summed(layer, (signal != 0).to(torch.float64)).sum(0).round().to(torch.int64)


def _summed(layer: Layer, fired: Tensor) -> Tensor:
    """Numbers of spikes `[R, …]` behind a layer's pools."""
    for pool in layer.pools:
        before = fired.shape
        fired = pool(fired)
        if isinstance(pool, AveragePool):
            fired = fired * (pool.size**2 if pool.size is not None else before[-1] * before[-2])
    return fired.flatten(1) if isinstance(layer.geometry, Dense) else fired


class _Counter:
    """Adds up what meets one synapse, chunk by chunk."""

    def __init__(self, layer: Layer, *, real: bool, held: bool) -> None:
        self._layer, self._real, self._held = layer, real, held
        self._events = torch.zeros(layer.drive_shape, dtype=torch.int64)
        self._traced = torch.zeros(layer.drive_shape, dtype=torch.int64)
        self._decay = float(getattr(layer.neuron, "decay", 0.0))
        self._trace: Tensor | None = None
        self._learnt: Tensor | None = None

    def add(self, signal: Tensor, clean: Tensor | None = None) -> None:
        """A chunk `[K, B, …]`; `clean` is what updates and their traces hear in place of it."""
        if self._held and self._trace is not None:
            return
        self._events += counted(self._layer, signal.flatten(0, 1), real=self._real).cpu()
        if clean is not None:
            learnt = counted(self._layer, clean.flatten(0, 1), real=False).cpu()
            self._learnt = learnt if self._learnt is None else self._learnt + learnt
        for step in signal if clean is None else clean:
            met = self._layer.prepare(step)
            self._trace = met if self._trace is None else torch.add(met, self._trace, alpha=self._decay)
            self._traced += (self._trace != 0).sum(0).cpu()

    @property
    def drive(self) -> Drive:
        return Drive(self._events, self._traced, real=self._real, held=self._held, learnt=self._learnt)


@torch.no_grad()
def measure(net: Net, x: Input, *, input_real: bool, noise: NoiseSource | None = None, chunk: int = 8) -> Activity:
    """Run a batch without learning and count.

    Args:
        net: of stepped or first-spike neurons.
        x: `[T, B, …]`, `Held([B, …], T)`, or earliness `[1, B, …]`.
        input_real: whether the input is real numbers, which the encoder says.
        noise: that disturbs the layers; what they send on is then real numbers where it is added to their output.
        chunk: steps run at once.
    """
    batch, steps = (len(x.value) if isinstance(x, Held) else x.shape[1]), steps_of(x)
    noisy = noise is not None and noise.noise.site.at_output
    sources = senders(net)
    counters = {
        synapse.name: _Counter(
            synapse,
            real=input_real if sources[synapse.name] is None else noisy,
            held=isinstance(x, Held) and sources[synapse.name] is None,
        )
        for synapse in net.synapses
    }
    spikes = torch.zeros(len(net.all), dtype=torch.float64)
    states: Any = None
    start = 0
    for part in chunks(x, chunk):
        done = net(part, states, Route(noise=noise, start=start))
        states, start = done.states, start + steps_of(part)
        spikes += done.spikes.cpu()
        for name, place in sources.items():
            if place is None:
                counters[name].add(part.value[None] if isinstance(part, Held) else part)
            elif noise is not None and noisy:
                sent = done.noise[place].onto(done.outs[place], noise_amplitude(net.all[place], noise))
                counters[name].add(sent, None if noise.noise.traced else done.outs[place])
            else:
                counters[name].add(done.outs[place])
    fired = {layer.name: round(float(n)) for layer, n in zip(net.all, spikes, strict=True) if layer.neuron.spiking}
    return Activity(batch, steps, {name: counter.drive for name, counter in counters.items()}, fired)


def senders(net: Net) -> dict[str, int | None]:
    """For each synapse, the place of the layer whose output it gets; None: the input of the net."""
    places = {layer.name: place for place, layer in enumerate(net.all)}
    found: dict[str, int | None] = {}
    for place, layer in enumerate(net.all):
        found[layer.name] = None if place == 0 else place - 1
        if layer.shortcut is not None and layer.shortcut.projection is not None:
            found[layer.shortcut.projection.name] = places[layer.shortcut.source]
    return found


def assume(net: Net, *, batch: int, steps: int, rate: float, input_real: bool, held: bool) -> Activity:
    """An activity nobody measured: every unit fires at the same rate, every input is there. For `aplysia cost`.

    Args:
        net: of stepped or first-spike neurons.
        batch: B.
        steps: T.
        rate: spikes per unit and step, in [0, 1].
        input_real: whether the input is real numbers.
        held: whether one value serves all steps.
    """
    drives: dict[str, Drive] = {}
    for place, synapse in enumerate(net.synapses):
        slots = torch.ones(1, *synapse.input_shape)
        entries = counted(synapse, slots, real=True)
        if place == 0:
            each = counted(synapse, slots, real=input_real) * (batch if held else batch * steps)
            drives[synapse.name] = Drive(each, entries * batch * steps, real=input_real, held=held)
        else:
            per_entry = counted(synapse, slots, real=False)
            each = (per_entry.to(torch.float64) * (rate * batch * steps)).round().to(torch.int64)
            # An entry that stands for k units is silent up to step t with probability (1 − rate)^(k·t).
            silent = sum((1.0 - rate) ** (per_entry.to(torch.float64) * t) for t in range(1, steps + 1))
            traced = (entries * batch * (steps - silent)).round().to(torch.int64)
            drives[synapse.name] = Drive(each, traced, real=False)
    spikes = {layer.name: round(rate * batch * steps * layer.units) for layer in net.all if layer.neuron.spiking}
    return Activity(batch, steps, drives, spikes)


@torch.no_grad()
def watch_streams(net: Net, x: Input, learn: Callable[[], object]) -> Activity:
    """Count the spikes of both directions while a batch of stochastic streams is learnt, and where they coincide.

    Args:
        net: of stream neurons.
        x: rates held for N steps, or bits `[N, B, …]`.
        learn: learns that batch, bit by bit; gradients it leaves are its own business.
    """
    batch = len(x.value) if isinstance(x, Held) else x.shape[1]
    events = {layer.name: torch.zeros(layer.drive_shape, dtype=torch.int64) for layer in net.all}
    errors = {layer.name: torch.zeros(layer.current_shape, dtype=torch.int64) for layer in net.all}
    coincidences = dict.fromkeys(events, 0)
    spikes = dict.fromkeys(events, 0)
    heard: dict[str, list[Tensor]] = {name: [] for name in events}

    def before(layer: Layer, given: tuple[Any, ...]) -> None:
        bits = given[0].detach().flatten(0, 1)
        events[layer.name] += counted(layer, bits, real=False).cpu()
        heard[layer.name].append((bits != 0).to(torch.float64))

    def after(layer: Layer, given: tuple[Any, ...], out: tuple[Tensor, ...]) -> None:
        spikes[layer.name] += int((out[0].detach() != 0).sum())
        if out[0].requires_grad:
            out[0].grad_fn.next_functions[0][0].register_prehook(lambda grads: meet(layer, grads[0]))  # type: ignore[union-attr]

    def meet(layer: Layer, delta: Tensor) -> None:
        fired = (delta != 0).to(torch.float64).flatten(0, 1)
        errors[layer.name] += fired.sum(0).round().to(torch.int64).cpu()
        drive = _summed(layer, heard[layer.name].pop())
        ones = torch.ones(layer.weight.shape, dtype=torch.float64, device=layer.weight.device)
        coincidences[layer.name] += round(float((layer.geometry.forward(drive, ones) * fired).sum()))

    handles = [layer.register_forward_pre_hook(before) for layer in net.all]
    handles += [layer.register_forward_hook(after) for layer in net.all]
    try:
        with torch.enable_grad():
            learn()
    finally:
        for handle in handles:
            handle.remove()
    drives = {name: Drive(found, torch.zeros_like(found), real=False) for name, found in events.items()}
    return Activity(batch, steps_of(x), drives, spikes, errors, coincidences, isinstance(x, Held))
