"""Chunks, seeds and looks change no number they must not; a stopped run goes on bit for bit, ceilings included."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stream_parts import CONV, CONV_SHAPE, assert_streams_alive, learnt, rates, stream_net
from torch import Tensor

from aplysia.credit.loss import WinnerLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence, Tracked
from aplysia.errors import PairError
from aplysia.neurons.bitstream import Sigmoid
from aplysia.neurons.stream_memory import AbstractMemory, BlockMean, LeakyMean, Memoryless, RunningMean
from aplysia.ops.stream import Bits
from aplysia.ops.winner import AbstractCircuit, Clocked, ClockedTies, Race
from aplysia.recipes import find
from aplysia.train.alignment import measure
from aplysia.train.folder import RunFolder
from aplysia.train.learner import Learner
from aplysia.train.log import Progress
from aplysia.train.recipe import Recipe
from aplysia.train.run import Interrupted, Run
from aplysia.types import Held

STEPS = 48
MEMORIES = [RunningMean(), Memoryless(), LeakyMean(leak=0.8), LeakyMean(leak=0.0)]


def everything(
    text: str, shape: tuple[int, ...], chunk: int | None, x: Tensor, target: Tensor, **parts: Any
) -> list[Any]:
    """Gradients, logits, loss, spikes, ceilings and answers of a fresh net."""
    engine = parts.pop("engine", Bits())
    net, scheme = stream_net(text, shape, **parts), Coincidence(engine=engine, chunk=chunk)
    gradients, record = learnt(net, Held(x, STEPS), target, scheme=scheme)
    answers = scheme.predict(net, Held(x, STEPS), seed=3, batch=2)
    kept = [scheme.memory[name] for name in sorted(scheme.memory)]
    return [*gradients.values(), record.logits, record.loss, record.spikes, *kept, *answers]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("text", [("F9-F7-F4", (5,)), (CONV, CONV_SHAPE)], ids=["dense", "conv"])
@pytest.mark.parametrize("memory", MEMORIES, ids=["running", "memoryless", "leaky", "leaky 0"])
def test_no_number_depends_on_the_chunk(memory: AbstractMemory, text: tuple[str, tuple[int, ...]]) -> None:
    x, target = rates(text[1], batch=3)
    assert_streams_alive(stream_net(*text, memory=memory), Held(x, STEPS))
    whole = everything(*text, STEPS, x, target, memory=memory)
    for chunk in (1, 3, 16, None, 1000):
        assert same(everything(*text, chunk, x, target, memory=memory), whole), chunk


@pytest.mark.parametrize("bits", [8, 16, 24])
@pytest.mark.parametrize("circuit", [Race(), Clocked(), ClockedTies()], ids=lambda c: type(c).__name__)
def test_nor_for_any_circuit_and_comparator(circuit: AbstractCircuit, bits: int) -> None:
    """3 samples of 5, 9 and 7 units, which no random word divides."""
    x, target = rates((5,), batch=3)
    parts = {"circuit": circuit, "transfer": Sigmoid(), "engine": Bits(random_bits=bits)}
    whole = everything("F9-F7-F4", (5,), STEPS, x, target, **parts)
    for chunk in (1, 7):
        assert same(everything("F9-F7-F4", (5,), chunk, x, target, **parts), whole), chunk


def test_a_block_mean_takes_the_whole_stream_or_is_refused() -> None:
    net, (x, target) = stream_net(memory=BlockMean()), rates()
    whole, _ = learnt(net, Held(x, STEPS), target, chunk=STEPS)
    unsaid, _ = learnt(net, Held(x, STEPS), target)
    assert all(torch.equal(whole[name], unsaid[name]) for name in whole)
    for chunk in (1, 16, 47):
        with pytest.raises(PairError, match=r"BlockMean.*chunk=none"):
            learnt(net, Held(x, STEPS), target, chunk=chunk)


def test_bits_that_come_step_by_step_are_cut_likewise() -> None:
    """Frames in place of a held image."""
    source = torch.Generator().manual_seed(4)
    x, (_, target) = torch.randint(0, 2, (STEPS, 5, 12), generator=source).double(), rates()
    net = stream_net()
    whole, record = learnt(net, x, target, chunk=STEPS)
    for chunk in (1, 5):
        again, other = learnt(net, x, target, chunk=chunk)
        assert all(torch.equal(whole[name], again[name]) for name in whole)
        assert torch.equal(record.logits, other.logits)


def test_answers_are_a_function_of_seed_and_batch_alone() -> None:
    """Whatever torch's own generator, the rule and the passes before."""
    net, (x, target) = stream_net(), rates()
    scheme = Coincidence()
    first = scheme.predict(net, Held(x, STEPS), seed=1, batch=4)[0]
    torch.manual_seed(9)
    learnt(net, Held(x, STEPS), target, scheme=scheme, step=3)
    assert torch.equal(scheme.predict(net, Held(x, STEPS), seed=1, batch=4)[0], first)
    for seed, batch in ((2, 4), (1, 5)):
        assert not torch.equal(scheme.predict(net, Held(x, STEPS), seed=seed, batch=batch)[0], first)


# --- runs ------------------------------------------------------------------------------------------------------------


def small(**changes: Any) -> Recipe:
    """Two hidden layers, so that a ceiling is tracked; it moves in the first updates."""
    base = replace(
        find("ssnn-digits"),
        net="F24-F16-F10",
        epochs=2,
        steps=8,
        batch_size=128,
        train_samples=640,
        temporal=Coincidence(ceiling=Tracked(clipped=0.2)),
    )
    return replace(base, **changes)


def execute(recipe: Recipe, path: Path, *, resume: bool = False, progress: Progress | None = None) -> None:
    folder = RunFolder.create(path, resume=resume)
    Run(recipe, folder, torch.device("cpu"), progress=progress or Progress(recipe.epochs, shown=False)).execute()


def written(path: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    clock = ("seconds", "samples_per_second")
    return load_file(path / "model.safetensors"), [{k: v for k, v in line.items() if k not in clock} for line in lines]


def agree(one: Path, other: Path) -> bool:
    (a, metrics), (b, others) = written(one), written(other)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) and metrics == others


def test_two_runs_of_one_seed_are_identical_and_another_seed_is_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        execute(small(seed=seed), tmp_path / name)
    assert agree(tmp_path / "a", tmp_path / "b")
    assert not agree(tmp_path / "a", tmp_path / "c")


class _StopAfter(Progress):
    """Stops the run after so many batches."""

    def __init__(self, batches: int) -> None:
        super().__init__(2, shown=False)
        self.batches = batches

    def step(self, samples: int, loss: float | None = None, accuracy: float | None = None) -> None:
        super().step(samples, loss, accuracy)
        self.batches -= 1
        if self.batches == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("batches", [2, 7])
def test_a_stopped_run_goes_on_bit_for_bit_with_its_ceilings(tmp_path: Path, batches: int) -> None:
    execute(small(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        execute(small(), tmp_path / "cut", progress=_StopAfter(batches))
    kept = load_file(tmp_path / "cut" / "checkpoint.safetensors")
    ceilings = {name: float(value) for name, value in kept.items() if name.startswith("temporal/")}
    assert ceilings.keys() == {"temporal/dense1"}
    execute(small(), tmp_path / "cut", resume=True)
    assert agree(tmp_path / "whole", tmp_path / "cut")


def test_a_look_at_the_alignment_disturbs_nothing(tmp_path: Path) -> None:
    execute(small(), tmp_path / "plain")
    execute(small(probe=2, probe_samples=32), tmp_path / "probed")
    assert agree(tmp_path / "plain", tmp_path / "probed")
    rows = [json.loads(line) for line in (tmp_path / "probed" / "alignment.jsonl").read_text().splitlines()]
    assert len(rows) > 2


def test_a_look_leaves_gradients_ceilings_and_steps_as_they_were() -> None:
    net, (x, target) = stream_net("F16-F14-F4"), rates(batch=8)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    learner = Learner(net, rule=Symmetric(), temporal=Coincidence(), optimiser=optimiser, loss=WinnerLoss())
    for _ in range(3):
        learner.update(Held(x, 16), target)
    learner.learn(Held(x, 16), target)
    before = [p.grad.clone() for p in net.parameters() if p.grad is not None], dict(learner.temporal.memory)
    found = measure(learner, Held(x, 16), target)
    assert [found[name]["gradient_cosine"] for name in ("dense1", "dense2")] == pytest.approx([1.0, 1.0])
    assert same(before[0], [p.grad for p in net.parameters() if p.grad is not None])
    assert before[1].keys() == learner.temporal.memory.keys() == {"dense1"}
    assert all(torch.equal(before[1][k], learner.temporal.memory[k]) for k in before[1])
