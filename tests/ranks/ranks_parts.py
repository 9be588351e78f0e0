"""What the tests of several processes share: small nets of every kind, a few steps of any rule, and the noise of all processes.

One process that learns from whole batches is the oracle for two that learn from halves. Numbers are float64, so that sums in
another order do not move a spike; and where noise is drawn, the one process gets what the two draw, put together.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import torch
from helpers import CASES, DENSE, RULES, SCHEMES
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal
from aplysia.credit.local import Readouts
from aplysia.credit.loss import StepwiseLoss, WinnerLoss
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.credit.temporal.spike_time import Push, SpikeTime
from aplysia.errors import PairError
from aplysia.nets.net import Input, Net
from aplysia.nets.noise import Drawn, NoiseSource
from aplysia.ops.stream import Expect
from aplysia.ranks import Ranks
from aplysia.train.learner import Learner
from aplysia.types import Held

for folder in ("first_spike", "streams"):  # their nets are ours too
    sys.path.append(str(Path(__file__).parents[1] / folder))

from first_spike_nets import WINDOWED  # noqa: E402
from stream_parts import rates, stream_net  # noqa: E402

# Odd ones, so that parts differ in size; one too small for all; and after it one more, to see what it left behind.
BATCHES = (5, 4, 1, 5)
PROCESSES = 2
State = dict[str, Tensor]


@dataclass(frozen=True)
class Cell:
    """One rule on one net, under one scheme."""

    rule: Callable[..., AbstractSpatial]
    net: Callable[[], Net]
    input: Callable[[int, int], tuple[Input, Tensor]]
    scheme: Callable[[], AbstractTemporal]
    loss: Callable[[], AbstractLoss]


def cells() -> dict[str, Cell]:
    """Every rule in the package on stepped nets, and each main one on the others."""
    made: dict[str, Cell] = {}

    def add(name: str, rule: Callable[..., AbstractSpatial], kind: str, scheme: str = "Trace-AfterSequence") -> None:
        nets = {
            "dense": Cell(rule, DENSE.net, lambda b, s: DENSE.input(6, b, s), SCHEMES[scheme], _loss),
            "conv": Cell(rule, CONV.net, lambda b, s: CONV.input(4, b, s), SCHEMES[scheme], _loss),
            "held": Cell(rule, HELD.net, lambda b, s: HELD.input(4, b, s), SCHEMES[scheme], _loss),
            "first spike": Cell(
                rule, SPIKES.net, SPIKES.input, lambda: SpikeTime(revive=Push(strength=0.1)), lambda: SPIKES.loss
            ),
            "streams": Cell(
                rule,
                lambda: stream_net("F16-F14-F4"),
                lambda b, s: _held(*rates(batch=b, seed=s)),
                lambda: Coincidence(engine=Expect()),
                WinnerLoss,
            ),
        }
        made[f"{name}, {kind}, {scheme}"] = nets[kind]

    for name, rule in RULES.items():
        add(name, rule, "dense")
        if "-" not in name or name.partition("-")[0] not in RULES:
            for kind in ("conv", "held", "first spike", "streams"):
                add(name, rule, kind)
            for scheme in ("Trace-EveryStep", "ThroughTime"):
                add(name, rule, "dense", scheme)
    for name in ("Symmetric", "PseudoZerothOrder"):
        add(f"{name} + readouts", lambda name=name, **more: RULES[name](local=Readouts(decay=0.01), **more), "dense")
    return made


CONV = CASES["conv, soft, attached, average and max pool, groups, stride"]
HELD = CASES["dense, no bias, hard, detached, held"]
SPIKES = WINDOWED["dense, bias, T 2.5, ϑ 0.7"]


def _loss() -> AbstractLoss:
    return StepwiseLoss(mse_share=0.3)


def _held(x: Tensor, target: Tensor) -> tuple[Input, Tensor]:
    return Held(x, 6), target


def train(cell: Cell, ranks: Ranks) -> State | None:
    """What is left after a few steps; None where the pair is refused."""
    net = cell.net()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    try:
        rule, scheme, loss = cell.rule(), cell.scheme(), cell.loss()
        learner = Learner(net, rule=rule, temporal=scheme, loss=loss, optimiser=optimiser, clip=1.0, seed=5)
    except PairError:
        return None
    for number, count in enumerate(BATCHES):
        x, target = cell.input(count, number)
        ranks.begin(count)
        start, end = ranks.bounds(count)
        part = slice(start, end) if start < end else slice(0, 1)
        own = Held(x.value[part], x.steps) if isinstance(x, Held) else x[:, part]
        learner.update(own, target[part])
    state = {f"net {name}": tensor.detach().clone() for name, tensor in net.state_dict().items()}
    state |= {f"rule {name}": tensor.detach().clone() for name, tensor in learner.rule.tensors.items()}
    state |= {f"memory {name}": tensor.clone() for name, tensor in learner.memory.items()}
    state["random numbers"] = torch.tensor(learner.cost.random_numbers)
    state["writes"] = torch.tensor(learner.cost.writes)
    return state


@contextmanager
def noise_of_all(processes: int = PROCESSES) -> Iterator[None]:
    """Inside, one process draws for its whole batch what so many draw for their parts."""
    alone = NoiseSource.drawn

    def drawn(self: NoiseSource, name: str, start: int, steps: int, like: Tensor) -> Drawn:
        parts = []
        for rank in range(processes):
            first, last = Ranks(rank, processes).bounds(len(like))
            if first < last:
                source = replace(self, purpose=f"{self.purpose}, rank {rank}")
                parts.append(alone(source, name, start, steps, like[first:last]))
        return replace(parts[0], draws=torch.cat([part.draws for part in parts], 1))

    with mock.patch.object(NoiseSource, "drawn", drawn):
        yield
