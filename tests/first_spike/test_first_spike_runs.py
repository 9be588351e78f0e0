"""The recipe of first-spike nets as a run: it learns, repeats itself, and survives being stopped and killed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from first_spike_nets import CASES, assert_fires
from safetensors.torch import load_file

from aplysia.credit.spatial.sign_symmetric import RedrawnMagnitude, SignSymmetric
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.spike_time import Push, SpikeTime
from aplysia.nets.initial import PositiveMean
from aplysia.recipes import find
from aplysia.train.folder import RunFolder
from aplysia.train.learner import Learner
from aplysia.train.log import Progress
from aplysia.train.recipe import Recipe
from aplysia.train.run import Interrupted, Run

CPU = torch.device("cpu")


def small(**changes: object) -> Recipe:
    """A trainable threshold, a push, a rule with random numbers of its own, and saturated counts to carry over."""
    base = replace(
        find("digits-ttfs"),
        net="F32-F32-F10",
        epochs=2,
        rule=SignSymmetric(magnitude=RedrawnMagnitude()),
        temporal=SpikeTime(revive=Push()),
        init=PositiveMean(),
        bias=True,
    )
    return replace(base, **changes)


def execute(recipe: Recipe, path: Path, *, resume: bool = False) -> dict:
    folder = RunFolder.create(path, resume=resume)
    return Run(recipe, folder, CPU, progress=Progress(recipe.epochs, shown=False)).execute()


def metrics(path: Path) -> list[dict]:
    """All a run wrote per epoch, but what a clock put there."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "samples_per_second")} for line in lines]


def same(a: Path, b: Path) -> bool:
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_the_recipe_runs_from_the_command_line_and_learns(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aplysia", "run", "digits-ttfs", "--epochs", "2", "--out", "r"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^epoch 2/2  loss \d\.\d+", done.stdout + done.stderr, re.M)
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert (summary["neuron"], summary["temporal"]) == ("windowed", "spike_time")
    assert summary["test_accuracy"] > 0.75
    for epoch in metrics(tmp_path / "r"):
        assert list(epoch["rates"]) == list(epoch["saturated"]) == ["dense1", "dense2"]
        assert all(0.0 <= epoch["saturated"][n] <= epoch["rates"][n] <= 1.0 for n in epoch["rates"])


def test_two_runs_of_one_seed_are_identical_and_another_seed_is_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        execute(small(seed=seed), tmp_path / name)
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert same(tmp_path / "a", tmp_path / "b")
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


class _StopAfter(Progress):
    """Raises the interrupt a user's Ctrl-C raises, after so many batches."""

    def __init__(self, epochs: int, batches: int) -> None:
        super().__init__(epochs, shown=False)
        self.batches = batches

    def step(self, samples: int, loss: float | None = None, accuracy: float | None = None) -> None:
        super().step(samples, loss, accuracy)
        self.batches -= 1
        if self.batches == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("batches", [7, 21, 33])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, batches: int) -> None:
    recipe = small()
    execute(recipe, tmp_path / "whole")
    folder = RunFolder.create(tmp_path / "cut", resume=False)
    with pytest.raises(Interrupted):
        Run(recipe, folder, CPU, progress=_StopAfter(recipe.epochs, batches)).execute()
    execute(recipe, tmp_path / "cut", resume=True)
    assert same(tmp_path / "whole", tmp_path / "cut")
    whole = metrics(tmp_path / "whole")
    assert whole == metrics(tmp_path / "cut")
    assert all(sum(epoch["saturated"].values()) > 0 for epoch in whole)


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Checkpoints are forced after every batch, so that the kills fall near or into a write."""
    script = tmp_path / "go.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "torch.set_num_threads(1)\n"
        "sys.path[:0] = sys.argv[1:3]\n"
        "import test_first_spike_runs as t\n"
        "from aplysia.train import run\n"
        "run._INSIDE = run._BETWEEN = 0.0\n"
        "t.execute(t.small(epochs=3, batch_size=400), Path(sys.argv[3]), resume=True)\n"
    )
    execute(small(epochs=3, batch_size=400), tmp_path / "whole")
    cut = tmp_path / "cut"
    here = Path(__file__).parent
    command = [sys.executable, str(script), str(here), str(here.parent), str(cut)]
    checkpoint, draw = cut / "checkpoint.safetensors", random.Random(1)
    for kill in (True, False):
        process = subprocess.Popen(command)
        if kill:
            seen, deadline = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0, time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if checkpoint.exists() and checkpoint.stat().st_mtime_ns != seen:
                    break
                time.sleep(0.001)
            time.sleep(draw.uniform(0.0, 0.05))
            assert process.poll() is None, "the run was over before it could be killed"
            process.kill()
        process.wait(timeout=120)
    assert same(tmp_path / "whole", cut)
    assert metrics(tmp_path / "whole") == metrics(cut)


def test_a_readout_that_spikes_learns_too() -> None:
    case = CASES["dense, spiking readout"]
    net, (x, target) = case.net(), case.input(batch=16)
    assert_fires(net, x)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.03)
    learner = Learner(net, rule=Symmetric(), temporal=SpikeTime(), loss=case.loss, optimiser=optimiser)
    losses = [float(learner.update(x, target).loss) for _ in range(60)]
    assert losses[-1] < 0.7 * losses[0]
    assert_fires(net, x)


def test_a_silent_layer_is_named_with_advice_for_first_spike_neurons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small(epochs=1, init=PositiveMean(mean=-50.0), temporal=SpikeTime(), bias=False)
    Run(recipe, RunFolder.create(tmp_path / "run", resume=False), CPU).execute()
    said = capsys.readouterr().err
    assert "layer dense1 is silent" in said
    assert "temporal.revive=push" in said
