"""Every rule on every kind of neurons: training samples per second, relative to backpropagation of the same neurons.

    python benchmarks/rules_table.py [--quick] [--json FILE] [--device cuda] [--rounds N]

784-256-256-10, batch 128: LIF by traces, first-spike neurons by their spike times, and streams of bits by coincidence, bit by
bit and as counts. The rules are those of the catalogue, a user's own ones in $APLYSIA_PLUGINS among them, each with its
defaults; a rule that refuses a kind of neurons is a dash, with its reason in the file. The rules of one kind are interleaved
round by round, and a round is several steps of training, upkeep counted in; what a rule does less often than that is not in
the median.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import command
import interleave
import torch
from interleave import Step
from torch import Tensor

import aplysia
from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.errors import PairError
from aplysia.nets.initial import MidRange
from aplysia.nets.net import Net
from aplysia.neurons.bitstream import Bitstream
from aplysia.neurons.potential import Potential
from aplysia.neurons.stream_memory import BlockMean
from aplysia.neurons.windowed import Windowed
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.backend import kernels
from aplysia.ops.stream import Bits, Counts
from aplysia.plugins import catalogue
from aplysia.train.log import table
from aplysia.train.recipe import AXES

BASE = "symmetric"


@dataclass(frozen=True)
class Size:
    """Units of all layers, batch, and updates in a round."""

    sizes: tuple[int, ...]
    batch: int
    updates: int


FULL, QUICK = Size((784, 256, 256, 10), 128, 5), Size((20, 16, 16, 10), 8, 1)


@dataclass(frozen=True)
class Kind:
    """Neurons, and what goes with them.

    Attributes:
        steps: T, or the length of the streams.
        net: makes the net from its text and number of inputs.
        temporal, loss: make the scheme and the loss.
        windowed: whether the input is earliness in one window and not a current held for T steps.
    """

    steps: int
    net: Callable[[str, int], Net]
    temporal: Callable[[], AbstractTemporal]
    loss: Callable[[], AbstractLoss] = lambda: aplysia.StepwiseLoss(mse_share=0.0)
    windowed: bool = False


def _lif(text: str, inputs: int) -> Net:
    return aplysia.build(text, (inputs,))


def _windowed(text: str, inputs: int) -> Net:
    return aplysia.build(text, (inputs,), neuron=Windowed(), readout=Potential(), bias=False)


def _streams(text: str, inputs: int) -> Net:
    memory = BlockMean()
    neuron, readout = Bitstream(memory=memory), WinnerTakeAll(memory=memory)
    return aplysia.build(text, (inputs,), neuron=neuron, readout=readout, init=MidRange())


KINDS = {
    "LIF, traces": Kind(6, _lif, aplysia.temporal.Trace),
    "first spike, windowed": Kind(1, _windowed, SpikeTime, windowed=True),
    "streams, bits": Kind(32, _streams, lambda: Coincidence(engine=Bits()), aplysia.WinnerLoss),
    "streams, counts": Kind(32, _streams, lambda: Coincidence(engine=Counts()), aplysia.WinnerLoss),
}


def inputs(size: Size, device: torch.device) -> tuple[Tensor, Tensor]:
    """Sparse grey images, and labels."""
    source = torch.Generator().manual_seed(0)
    shape = (size.batch, size.sizes[0])
    x = torch.rand(shape, generator=source) * (torch.rand(shape, generator=source) < 0.5)
    y = torch.randint(0, size.sizes[-1], (size.batch,), generator=source)
    return x.to(device), y.to(device)


def training(kind: Kind, rule: AbstractSpatial, size: Size, device: torch.device) -> Step:
    """Steps of training, as many as a round has.

    Raises:
        PairError: the rule makes no sense with these neurons.
    """
    net = kind.net("-".join(f"F{n}" for n in size.sizes[1:]), size.sizes[0]).to(device)
    learner = aplysia.Learner(
        net,
        rule=rule,
        temporal=kind.temporal(),
        optimiser=torch.optim.SGD(net.parameters(), lr=interleave.STILL, momentum=0.9),
        loss=kind.loss(),
    )
    x, y = inputs(size, device)
    given = x.unsqueeze(0) if kind.windowed else aplysia.Held(x, kind.steps)
    rates = learner.update(given, y).spikes[: len(net.hidden)]
    assert rates.min() > 0, "a silent layer is no measure of a rule"

    def run() -> None:
        for _ in range(size.updates):
            learner.update(given, y)

    return run


def measure(kind: Kind, size: Size, rounds: int, device: torch.device) -> dict[str, Any]:
    """All rules on one kind of neurons."""
    everyone: dict[str, Step] = {}
    refused = {}
    for name, rule in catalogue(AXES[AbstractSpatial], AbstractSpatial).items():
        try:
            everyone[name] = training(kind, rule(), size, device)
        except PairError as problem:
            refused[name] = str(problem)
    seconds = interleave.race(everyone, rounds, warm_up=1, device=device)
    samples = size.batch * size.updates
    return {
        "steps": kind.steps,
        "milliseconds": {
            name: {key: ms / size.updates for key, ms in interleave.spread(s).items()} for name, s in seconds.items()
        },
        "samples_per_second": {name: samples / statistics.median(s) for name, s in seconds.items()},
        "relative_to_bp": {name: interleave.ratio(seconds, BASE, name) for name in seconds},
        "refused": refused,
    }


def main() -> None:
    arguments = command.parser(__doc__, "a tiny net, one round, eager kernels: shows that it runs").parse_args()
    device = command.begin(arguments)
    size, rounds = (QUICK, 1) if arguments.quick else (FULL, 11)
    rounds = arguments.rounds or rounds
    with kernels(compiled=not arguments.quick) as compiled:
        kinds = {name: measure(kind, size, rounds, device) for name, kind in KINDS.items()}
    rules = list(catalogue(AXES[AbstractSpatial], AbstractSpatial))
    results = {
        **command.conditions(arguments),
        "compiled_kernels": compiled,
        "net": "-".join(map(str, size.sizes)),
        "batch": size.batch,
        "updates_in_a_round": size.updates,
        "rounds": rounds,
        "base": BASE,
        "rules": rules,
        "kinds": kinds,
    }
    rows = [
        [rule, *(f"{k['relative_to_bp'][rule]:.2f}" if rule in k["relative_to_bp"] else "–" for k in kinds.values())]
        for rule in rules
    ]
    table(rows, ["rule", *kinds], "samples/s relative to backpropagation of the same neurons")
    for name, kind in kinds.items():
        print(f"  {name}: {BASE} {kind['samples_per_second'][BASE]:,.0f} samples/s")
    command.leave(results, arguments)


if __name__ == "__main__":
    main()
