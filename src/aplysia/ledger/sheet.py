"""What a rule or a scheme is handed to state its own costs: shapes, spike counts, and the commonest entries.

A part of a recipe that costs something beside the forward pass says so in its own file, by `charges(sheet)`; nothing here
knows a rule by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from aplysia.ledger.activity import Activity, Drive
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.ledger.reach import address_bits, connections, fan_in, fan_out
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.noise import Noise


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What a temporal scheme does with one sequence of T steps.

    Attributes:
        windows: pieces that are run one after the other; a held input goes through the first synapse once for each.
        traced: whether updates pair errors with eligibility traces where the neurons behind have a memory.
        applies: optimiser steps per sequence.
        kept: steps whose signals are kept for a backward pass at a time.
        pulses: whether signals both ways are spikes, which move a weight wherever they meet.
        chunk: of those, steps run at once; None: all.
    """

    windows: int
    traced: bool
    applies: int = 1
    kept: int = 1
    pulses: bool = False
    chunk: int | None = None


@dataclass(frozen=True)
class Sheet:
    """One batch, as a cost is computed from it.

    Attributes:
        net: the layers.
        activity: what was counted, or assumed.
        habits: of the scheme.
        step: number of the optimiser step.
        learning: names of the synapses that get a gradient.
    """

    net: Net
    activity: Activity
    habits: Habits
    step: int = 0
    learning: frozenset[str] = frozenset()

    @property
    def slots(self) -> int:
        """T·B."""
        return self.activity.steps * self.activity.batch

    @property
    def classes(self) -> int:
        """m."""
        return self.net.classes

    def drive(self, layer: Layer) -> Drive:
        """What meets a layer's weights."""
        return self.activity.drives[layer.name]

    def width(self, layer: Layer) -> int:
        """Bits of a word of this layer."""
        return torch.finfo(layer.weight.dtype).bits

    def passes(self, layer: Layer) -> int:
        """How often one sample's drive goes through a layer's weights: T, or once a window where it is held."""
        return self.habits.windows if self.drive(layer).held else self.activity.steps

    def draws(self, noise: Noise) -> int:
        """Draws of noise of all samples, one for both steps of an antithetic pair; two where a chunk cuts them apart."""
        steps, kept = self.activity.steps, self.habits.kept
        ends: list[tuple[int, int]] = []
        for window in range(0, steps, kept):
            end = min(window + kept, steps)
            chunk = self.habits.chunk or kept
            ends += [(start, min(start + chunk, end)) for start in range(window, end, chunk)]
        size = 2 if noise.antithetic else 1
        return self.activity.batch * sum((end - 1) // size - start // size + 1 for start, end in ends)

    def drives_per_unit(self, layer: Layer) -> tuple[bool, ...]:
        """For each product with the layer's weights that its neurons need: whether the signal is a real number."""
        declared = getattr(layer.neuron, "real_drives", None)
        return (self.drive(layer).real,) if declared is None else declared

    def forward(self, layer: Layer) -> Charge:
        """A layer's drive through its weights, and its neurons."""
        drive = self.drive(layer)
        times = self.passes(layer) if drive.held else 1
        met = int((drive.events * fan_out(layer)).sum()) * times
        macs = sum(met for real in self.drives_per_unit(layer) if real)
        acs = sum(met for real in self.drives_per_unit(layer) if not real)
        dense = self.passes(layer) * self.activity.batch * connections(layer) * len(self.drives_per_unit(layer))
        spikes = self.activity.spikes.get(layer.name, 0)
        return Charge(
            layer.name,
            Phase.FORWARD,
            Amount(
                dense=dense,
                macs=macs,
                acs=acs,
                updates=self.slots * layer.units if layer in self.net.all else 0,
                spikes=spikes,
                address_bits=spikes * address_bits(layer.units),
                forward_reads=macs + acs,
            ),
        )

    def error_below(self, layer: Layer) -> Charge:
        """The error of a layer through the weights in its error slot, down to the layer below.

        These are an array of their own on a chip, whatever stands in it: that of backpropagation is written anew every step.
        """
        dense = self.passes(layer) * self.activity.batch * connections(layer)
        gradient = self.activity.errors.get(layer.name)
        if gradient is None:
            macs, acs, words, spikes = dense, 0, self.passes(layer) * self.activity.batch * _size(layer), 0
        else:
            macs, acs, words = 0, int((gradient * fan_in(layer)).sum()), 0
            spikes = int(gradient.sum())
        return Charge(
            layer.name,
            Phase.ERROR,
            Amount(
                dense=dense,
                macs=macs,
                acs=acs,
                words=words,
                bits=words * self.width(layer),
                spikes=spikes,
                address_bits=spikes * address_bits(_size(layer)),
                feedback_reads=macs + acs,
            ),
        )

    def slopes(self, layer: Layer) -> Charge:
        """ψ of a layer's neurons, times the error."""
        return Charge(layer.name, Phase.ERROR, Amount(updates=self.slots * layer.units))

    def update(self, layer: Layer) -> Charge:
        """A layer's own update: its error paired with what met its weights, and the weights written."""
        drive, habits = self.drive(layer), self.habits
        stored = sum(p.numel() for p in layer.parameters(recurse=False))
        writes, traces, macs, acs = habits.applies * stored, 0, 0, 0
        reads = writes
        dense = self.passes(layer) * self.activity.batch * connections(layer) * len(self.drives_per_unit(layer))
        traced = habits.traced and getattr(layer.neuron, "decay", 0.0) != 0.0
        if habits.pulses:
            writes = self.activity.coincidences.get(layer.name)
            reads = 0
        elif traced and not drive.held:
            macs, traces = int((drive.traced * fan_out(layer)).sum()), self.slots * math.prod(layer.drive_shape)
        else:
            kinds = self.drives_per_unit(layer) if drive.learnt is None else (False,)
            events = drive.events if drive.learnt is None else drive.learnt
            met = int((events * fan_out(layer)).sum()) * (self.passes(layer) if drive.held else 1)
            macs, acs = (sum(met for real in kinds if real is kind) for kind in (True, False))
        return Charge(
            layer.name,
            Phase.UPDATE,
            Amount(dense=dense, macs=macs, acs=acs, updates=traces, forward_reads=reads, forward_writes=writes),
        )

    def drawn(self, layer: Layer, draws: int) -> Charge:
        """Random numbers for every unit of a layer and sample, so many times a sequence."""
        return Charge(layer.name, Phase.NOISE, Amount(random_numbers=draws * self.activity.batch * layer.units))

    def real_signals(self, noise: Noise) -> bool:
        """Whether what hidden layers send on is real numbers: for the noise on it, or since it is spike times."""
        return self.net.kind == "first-spike" or (noise.alpha > 0.0 and noise.site.at_output)

    def local_readout(
        self, layer: Layer, *, inputs: int, spikes: bool, learns: bool = True, back: bool = True
    ) -> list[Charge]:
        """A classifier beside a hidden layer: its answer, its error sent back, and its update.

        Args:
            layer: that it hears.
            inputs: numbers it hears of one sample and step.
            spikes: whether these are the layer's own spikes; else real numbers, of a pool or with noise on them.
            learns: whether it has an update.
            back: whether its error is sent back.
        """
        stored = inputs * self.classes
        dense = self.slots * stored
        met = self.activity.spikes[layer.name] * self.classes if spikes else dense
        kind = "acs" if spikes else "macs"
        answer = Amount(dense=dense, feedback_reads=met, **{kind: met})
        made = [Charge(layer.name, Phase.ERROR, answer)]
        if back:
            made.append(self.projected(layer.name, inputs=self.classes, outputs=inputs))
        if learns:
            writes = self.habits.applies * stored
            amount = Amount(dense=dense, feedback_reads=writes, feedback_writes=writes, **{kind: met})
            made.append(Charge(layer.name, Phase.UPDATE, amount))
        return made

    def projected(self, name: str | None, *, inputs: int, outputs: int, times: int | None = None) -> Charge:
        """Real numbers through an array that only errors meet, `inputs` × `outputs`, for a layer; T·B times unless said."""
        times = self.slots if times is None else times
        products = times * inputs * outputs
        words = times * inputs
        bits = words * self.width(self.net.readout)
        amount = Amount(dense=products, macs=products, words=words, bits=bits, feedback_reads=products)
        return Charge(name, Phase.ERROR, amount)


def _size(layer: Layer) -> int:
    return math.prod(layer.current_shape)
