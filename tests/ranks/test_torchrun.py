"""`torchrun ... -m aplysia run`: one run of several processes, that goes on when one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from aplysia.train.folder import RunFolder

RECIPE = f"{Path(__file__).parent / 'often.py'}:recipe"
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]


def command(out: Path | None, *more: str) -> list[str]:
    return [*LAUNCHER, "-m", "aplysia", "run", RECIPE, *([] if out is None else ["--out", str(out)]), *more]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | more


def launch(out: Path | None, *more: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(out, *more),
        env=environment(**environ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def result(out: Path) -> dict[str, Any]:
    """What must not depend on how often a run was stopped."""
    summary = json.loads((out / "summary.json").read_text())
    timed = ("seconds", "samples_per_second", "peak_memory_bytes")
    epochs = [{k: v for k, v in record.items() if k not in timed} for record in RunFolder(out).metrics()]
    return {k: v for k, v in summary.items() if k not in timed} | {"by epoch": epochs}


def weights(out: Path) -> dict[str, torch.Tensor]:
    tensors, _ = RunFolder(out).load_checkpoint()
    return tensors


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    ended = launch(out)
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert ended.stdout.count("test accuracy") == 1, "said once, by the first process"
    assert ended.stdout.count("epoch 5/5") == 1
    assert json.loads((out / "run.json").read_text())["processes"] == 2
    assert len(list(out.glob("events.*"))) == 1
    return out


def test_it_learns(whole: Path) -> None:
    found = result(whole)
    assert found["test_accuracy"] > 0.8
    assert len(found["by epoch"]) == 5


def test_a_killed_process_costs_nothing_but_time(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ended = launch(out, DIE_ONCE_SAVED_IN=str(out))
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert "resumed at epoch" in ended.stdout, "it went on from a checkpoint, not from the start"
    assert result(out) == result(whole)
    again = weights(out)
    for name, tensor in weights(whole).items():
        assert torch.equal(again[name].nan_to_num(), tensor.nan_to_num()), name


def test_a_stopped_run_is_saved_and_goes_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with subprocess.Popen(
        command(out), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        for _ in range(1200):
            if (out / "checkpoint-previous.safetensors").exists() or started.poll() is not None:
                break
            time.sleep(0.1)
        started.send_signal(signal.SIGTERM)
        _, said = started.communicate(timeout=120)
    assert not (out / "summary.json").exists(), "the run was over before it could be stopped"
    assert said.count("stopped and saved; go on with:") == 1
    ended = launch(out, "--resume")
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert result(out) == result(whole)


def test_a_folder_must_be_named() -> None:
    ended = launch(None)
    assert ended.returncode != 0
    assert "expected --out, a folder that all processes see" in ended.stderr


def test_a_mistake_is_said_once(whole: Path) -> None:
    ended = launch(whole)
    assert ended.returncode != 0
    # By the first process, at the first start and at the one restart allowed: a restart is no reason to take the folder.
    assert ended.stderr.count("expected a folder without a run") == 2
