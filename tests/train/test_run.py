"""A run survives anything: same seed, same numbers; killed and resumed, same weights bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aplysia.credit.learned_feedback import EveryStep as AllSteps
from aplysia.credit.learned_feedback import MomentumFeedback, WarmUp
from aplysia.credit.local import Learnt, Readouts
from aplysia.credit.spatial.direct_kolen_pollack import DirectKolenPollack
from aplysia.credit.spatial.forward_gradient import ForwardGradient
from aplysia.credit.spatial.kolen_pollack import KolenPollack
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.credit.spatial.sign_symmetric import RedrawnMagnitude, SignSymmetric
from aplysia.credit.spatial.weight_mirror import WeightMirror
from aplysia.credit.spatial.zeroth_order import RunningBaseline, ZerothOrder
from aplysia.credit.temporal.online import EveryStep
from aplysia.credit.temporal.trace import Trace
from aplysia.data.augment import RandomCrop
from aplysia.data.encode import Poisson
from aplysia.errors import RunError, TrainingError
from aplysia.nets.noise import Comparator, Fading, Membrane, Noise, Rademacher
from aplysia.neurons.lif import LIF
from aplysia.recipes import find
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.optimise import SGD, Adam
from aplysia.train.recipe import Recipe
from aplysia.train.run import Interrupted, Run

CPU = torch.device("cpu")
STEPWISE = MomentumFeedback(momentum=0.999, update=AllSteps())


def small(**changes: object) -> Recipe:
    """Everything random at once: augmentation, encoder noise, dropout, a rule with noise of its own."""
    base = replace(
        find("digits-mlp"),
        net="F32-F32-F10",
        epochs=3,
        steps=4,
        rule=WeightMirror(samples=4),
        encoder=Poisson(),
        augment=(RandomCrop(padding=1),),
        dropout=0.1,
        optimiser=Adam(),
    )
    return replace(base, **changes)


def everything() -> PseudoZerothOrder:
    """A rule with all there is to remember: feedback, what waits to enter it, a classifier, readouts and their feedback."""
    return PseudoZerothOrder(
        noise=Noise(alpha=0.3, law=Rademacher(), site=Comparator(), amount=Fading(half_life=5)),
        intermediate=("dense1",),
        local=Readouts(weight=0.3, back=Learnt(), decay=1e-3),
    )


def execute(recipe: Recipe, path: Path, *, resume: bool = False) -> dict:
    return Run(
        recipe, RunFolder.create(path, resume=resume), CPU, progress=Progress(recipe.epochs, shown=False)
    ).execute()


def numbers(path: Path) -> list[dict]:
    """The metrics of a run without what a clock put there."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("s")} for line in lines]


def same_weights(a: Path, b: Path) -> bool:
    first, second = load_file(a / "model.safetensors"), load_file(b / "model.safetensors")
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_two_runs_with_one_seed_give_identical_metrics_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        execute(small(seed=seed), tmp_path / name)
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert numbers(tmp_path / "a") != numbers(tmp_path / "c")


def test_the_summary_has_what_scripts_rely_on(tmp_path: Path) -> None:
    summary = execute(small(rule=SignSymmetric()), tmp_path / "run")
    wanted = {
        *("status", "recipe", "rule", "neuron", "temporal", "data", "seed", "epochs", "parameters", "test_accuracy"),
        *("test_loss", "train_accuracy", "seconds", "samples_per_second", "peak_memory_bytes", "transport"),
    }
    assert wanted <= summary.keys()
    assert {"events", "words", "bits", "address_bits", "words_bp", "reduction"} <= summary["transport"].keys()
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    batches = -(-1298 // 64) * 3
    weights = 32 * 32 + 32 * 10
    assert summary["transport"]["words_bp"] == weights * batches
    assert summary["transport"]["bits"] == weights * batches  # one sign a weight
    assert summary["parameters"] == 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert {"aplysia", "commit", "source", "torch", "started", "finished", "threads"} <= facts.keys()


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


@pytest.mark.parametrize("batches", [1, 21, 30, 42])
def test_ctrl_c_saves_in_mid_epoch_and_a_resumed_run_ends_bit_for_bit_the_same(tmp_path: Path, batches: int) -> None:
    recipe = small()
    execute(recipe, tmp_path / "whole")
    folder = RunFolder.create(tmp_path / "cut", resume=False)
    with pytest.raises(Interrupted):
        Run(recipe, folder, CPU, progress=_StopAfter(recipe.epochs, batches)).execute()
    execute(recipe, tmp_path / "cut", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "cut")


@pytest.mark.parametrize(
    "changes",
    [
        {"rule": KolenPollack(), "optimiser": SGD(lr=0.1)},
        {
            "rule": SignSymmetric(magnitude=RedrawnMagnitude()),
            "optimiser": SGD(lr=0.1),
            "temporal": Trace(update=EveryStep()),
        },
        {
            "rule": everything(),
        },
        {
            "rule": PseudoZerothOrder(feedback=STEPWISE),
            "temporal": Trace(update=EveryStep()),
            "optimiser": SGD(lr=0.01),
        },
        {"rule": ZerothOrder(baseline=RunningBaseline(), noise=Noise(site=Membrane())), "steps": 3},
        {"rule": ForwardGradient(feedback=MomentumFeedback(start=WarmUp(batches=5), freeze_after=30))},
        {"rule": DirectKolenPollack(noise=Noise(traced=False)), "optimiser": SGD(lr=0.05, momentum=0.9)},
    ],
    ids=[
        "kolen_pollack",
        "redrawn signs, every step",
        "opzo, classifier, readouts, adam",
        "opzo, every step",
        "zo, running baseline, odd steps",
        "forward gradient, warm-up, freezing",
        "dkp, noise, momentum",
    ],
)
def test_rules_with_a_memory_resume_bit_for_bit(tmp_path: Path, changes: dict) -> None:
    recipe = small(epochs=2, **changes)
    execute(recipe, tmp_path / "whole")
    with pytest.raises(Interrupted):
        Run(recipe, RunFolder.create(tmp_path / "cut", resume=False), CPU, progress=_StopAfter(2, 25)).execute()
    execute(recipe, tmp_path / "cut", resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "cut")
    # What the rule and the optimiser remember is in the last checkpoint, and the same too.
    whole, cut = (load_file(tmp_path / name / "checkpoint.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, tensor in whole.items():
        if not name.startswith("tally/"):
            torch.testing.assert_close(cut[name], tensor, rtol=0, atol=0, equal_nan=True)
    rates = numbers(tmp_path / "whole")[-1]["rates"]
    assert all(0.005 < rate < 0.95 for rate in rates.values())


def test_a_run_killed_by_sigkill_again_and_again_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    """Checkpoints are forced after every batch, so that most kills fall near or into a write."""
    script = tmp_path / "go.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "torch.set_num_threads(1)\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import test_run\n"
        "from aplysia.train import run\n"
        "run._INSIDE = run._BETWEEN = 0.0\n"
        "test_run.execute(test_run.small(epochs=2, rule=test_run.everything()), Path(sys.argv[2]), resume=True)\n"
    )
    execute(small(epochs=2, rule=everything()), tmp_path / "whole")
    command = [sys.executable, str(script), str(Path(__file__).parent), str(tmp_path / "cut")]
    draw, kills = random.Random(0), 0
    checkpoint = tmp_path / "cut" / "checkpoint.safetensors"
    while not (tmp_path / "cut" / "summary.json").exists():
        process = subprocess.Popen(command)
        if kills < 4:
            seen, deadline = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0, time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if checkpoint.exists() and checkpoint.stat().st_mtime_ns != seen:
                    break
                time.sleep(0.001)
            time.sleep(draw.uniform(0.0, 0.15))
            process.kill()
            kills += 1
        process.wait(timeout=120)
    assert kills >= 1
    assert same_weights(tmp_path / "whole", tmp_path / "cut")
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "cut")


def test_a_checkpoint_of_another_net_is_refused_in_one_sentence(tmp_path: Path) -> None:
    execute(small(epochs=1), tmp_path / "run")
    with pytest.raises(RunError, match="expected a checkpoint of this recipe"):
        execute(small(epochs=2, net="F32-F10"), tmp_path / "run", resume=True)


def test_nan_is_reported_by_layer_with_advice_and_no_bad_checkpoint_is_left(tmp_path: Path) -> None:
    recipe = small(optimiser=SGD(lr=1e30), epochs=2)
    with pytest.raises(TrainingError, match=r"layer \w+.*finite values.*optimiser\.lr"):
        execute(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_a_silent_layer_is_named_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = small(neuron=LIF(threshold=1000.0), epochs=1, dropout=0.0)
    Run(recipe, RunFolder.create(tmp_path / "run", resume=False), CPU).execute()
    said = capsys.readouterr().err
    assert "layer dense1 is silent" in said
    assert "neuron.threshold" in said


def test_a_living_net_is_not_called_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Run(small(epochs=1), RunFolder.create(tmp_path / "run", resume=False), CPU).execute()
    assert "silent" not in capsys.readouterr().err


def test_missing_compiler_is_announced_and_the_run_goes_on_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(small(epochs=1), tmp_path / "eager")
    monkeypatch.setenv("CXX", "no-such-compiler")
    recipe = small(epochs=1, compiled=True)
    Run(recipe, RunFolder.create(tmp_path / "wanted", resume=False), CPU).execute()
    assert "no C++ compiler found" in capsys.readouterr().err
    assert same_weights(tmp_path / "eager", tmp_path / "wanted")
