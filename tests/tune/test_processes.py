"""A search in several processes: killed ones lose nothing, a signal stops it with everything saved."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aplysia.tune.bench import TRIES, Bench
from aplysia.tune.command import Request, planned, tune
from aplysia.tune.lock import Lock
from aplysia.tune.plan import load

TRIALS = 4  # all drawn at random, so that no value depends on which trial was through first
WORDS = ["digits-mlp", "--samples", "800", "--epochs", "6", "--trials", str(TRIALS), "--device", "cpu", "--no-prune"]


def start(out: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "aplysia", "tune", *WORDS, "--out", str(out), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ) | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )


def until(what: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def lines_of(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What one process finds that nobody disturbs."""
    out = tmp_path_factory.mktemp("alone")
    tune(Request(name="digits-mlp", trials=TRIALS, samples=800, epochs=6, pruning=False, out=out))
    assert len({row["held_out_accuracy"] for row in rows(out)}) > 1
    return rows(out)


@pytest.mark.slow
def test_killing_one_of_two_processes_loses_no_trial(tmp_path: Path, alone: list[dict[str, str]]) -> None:
    out = tmp_path / "shared"
    first = start(out)
    # Inside the second trial: one is finished, one is half done.
    until(lambda: lines_of(out / "symmetric" / "trial-001" / "metrics.jsonl") >= 2)
    second = start(out)
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    folder = out / "symmetric" / "trial-001"
    assert (out / "symmetric" / "trial-000" / "summary.json").exists()
    assert not (folder / "summary.json").exists()
    said, wrong = second.communicate(timeout=120)
    assert second.returncode == 0, wrong
    assert "symmetric 1:" in said  # taken up
    assert "symmetric 0:" not in said  # not trained again
    assert rows(out) == alone  # bit for bit
    plan = load(out)
    assert plan is not None
    bench = Bench(plan, out, None)
    tries = [trial.user_attrs["tries"] for trial in bench._studies["symmetric"].get_trials()]
    bench.close()
    assert tries == [1, 2, 1, 1]


@pytest.mark.slow
def test_two_processes_share_the_work_and_one_command_can_start_both(
    tmp_path: Path, alone: list[dict[str, str]]
) -> None:
    both = start(tmp_path / "jobs", "--jobs", "2")
    said, wrong = both.communicate(timeout=120)
    assert both.returncode == 0, wrong
    assert rows(tmp_path / "jobs") == alone
    assert said.count(": ") >= TRIALS
    assert said.count("trials a rule") == 1


def test_a_trial_that_kills_its_process_again_and_again_is_told(tmp_path: Path) -> None:
    request = Request(name="digits-mlp", trials=1, samples=100, epochs=1, out=tmp_path)
    plan = planned(request, request.recipe())
    for _ in range(TRIES):
        bench = Bench(plan, tmp_path, None)
        job = bench.take()
        assert job is not None
        assert job.number == 0
        job._lock.release()  # as the end of a process does
        bench.close()
    bench = Bench(plan, tmp_path, None)
    assert bench.take() is None
    (one,) = bench.outcomes()
    bench.close()
    assert (one.state, one.accuracy, one.why) == ("failed", None, f"its process was killed {TRIES} times")


def test_a_trial_in_hand_is_given_to_nobody_else(tmp_path: Path) -> None:
    request = Request(name="digits-mlp", trials=2, samples=100, epochs=1, out=tmp_path)
    plan = planned(request, request.recipe())
    benches = [Bench(plan, tmp_path, None) for _ in range(3)]
    jobs = [bench.take() for bench in benches]
    assert [job and job.number for job in jobs] == [0, 1, None]
    assert jobs[0] is not None
    jobs[0].leave()
    again = benches[2].take()
    assert again is not None
    assert again.number == 0
    assert again.values == jobs[0].values
    again.leave()
    for bench, job in zip(benches, jobs, strict=True):
        if job is not None:
            job.leave()
        bench.close()


def test_a_lock_is_one_processes_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / ".lock"
    lock = Lock.take(path)
    assert lock is not None
    assert Lock.take(path) is None
    lock.release()
    lock.release()
    again = Lock.take(path)
    assert again is not None
    again.release()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_signal_stops_the_search_and_the_same_command_goes_on(
    tmp_path: Path, alone: list[dict[str, str]], jobs: str
) -> None:
    out = tmp_path / "out"
    running = start(out, "--jobs", jobs)
    until(lambda: lines_of(out / "symmetric" / "trial-000" / "metrics.jsonl") >= 2)
    running.send_signal(signal.SIGINT)
    _, wrong = running.communicate(timeout=60)
    assert running.returncode == 130, wrong
    assert "go on with:  aplysia tune digits-mlp --trials 4" in wrong
    assert "Traceback" not in wrong
    stored = json.loads((out / "study.json").read_text())["rules"]["symmetric"]["trials"]
    assert stored["running"] >= 1
    tune(Request(name="digits-mlp", trials=TRIALS, samples=800, epochs=6, pruning=False, out=out))
    assert rows(out) == alone
