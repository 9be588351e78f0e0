"""`aplysia table --on ray`: the same numbers as the processes of one machine, whatever is killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_table import TABLES, epochs, same_weights, until, whole

from aplysia.errors import RecipeError, RunError
from aplysia.grid.command import INTERRUPTED, Request, make

# Long enough for a checkpoint, which short epochs write every ten seconds, and to be at work still when another has one.
LONGER = """
def longer() -> Table:
    return Table(title="longer?", rows=(Row("BP", replace(BASE, epochs=400, net="F64-F64-F10")),), baseline="BP")
"""
ROOM = {"OMP_NUM_THREADS": "1", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(TABLES + LONGER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    """The command, in a process group of its own."""
    pytest.importorskip("ray", reason="ray is not installed (extra 'ray')")
    return subprocess.Popen(
        [sys.executable, "-m", "aplysia", "table", *words, "--out", "out", "--on", "ray"],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | ROOM,
    )


def trainers(pid: int) -> list[int]:
    """The processes of Ray's, begun by this one, that are at a cell."""
    psutil = pytest.importorskip("psutil")
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if "_trained" in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_one_of_two_killed_workers_changes_no_number(place: Path) -> None:
    process = start(place, "mine.py:longer", "--seeds", "0,1", "--jobs", "2")
    folders = [place / "out" / f"bp-s{seed}" for seed in (0, 1)]
    saved = [folder / "checkpoint.safetensors" for folder in folders]
    until(lambda: process.poll() is not None or all(file.exists() for file in saved), 200.0)
    victims = trainers(process.pid)
    assert len(victims) == 2, process.communicate()
    os.kill(victims[0], signal.SIGKILL)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "(2 of 2)" in said
    resumed = [bool(json.loads((folder / "run.json").read_text())["resumed_at"]) for folder in folders]
    assert sorted(resumed) == [False, True]
    assert make(Request(name="mine.py:longer", seeds="0,1", out=Path("pool"), jobs=2)) == 0
    for folder in folders:
        assert same_weights(place / "pool" / folder.name, folder)


def test_ctrl_c_saves_and_says_how_to_go_on(place: Path) -> None:
    process = start(place, "mine.py:long", "--seeds", "0", "--jobs", "1")
    folder = place / "out" / "bp-s0"
    until(lambda: process.poll() is not None or epochs(folder) >= 2, 120.0)
    os.kill(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == INTERRUPTED, said + errors
    assert "Traceback" not in errors
    assert (folder / "checkpoint.safetensors").exists()
    (again,) = re.findall(r"go on with:  aplysia (.*)", errors)
    assert again == "table mine.py:long --seeds 0 --out out --jobs 1 --on ray"
    assert make(Request(name="mine.py:long", seeds="0", out=Path("out"), jobs=1)) == 0
    assert same_weights(whole("mine.py:long", place / "alone"), folder)


def test_a_failing_row_stops_no_other(place: Path) -> None:
    process = start(place, "mine.py:broken", "--seeds", "0")
    said, errors = process.communicate(timeout=240)
    assert process.returncode == 1, errors
    assert "bad net s0: failed:" in said
    assert (place / "out" / "bp-s0" / "summary.json").exists()


def test_wrong_use(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = {"name": "mine.py:tiny", "seeds": "0", "out": Path("out")}
    for changes, said in (
        ({"on": "slurm"}, r"--on: expected ray or ray:ADDRESS, got 'slurm'"),
        ({"cpus": 2}, "--cpus-per-run: expected a cluster"),
        ({"gpus": 1.0}, "--gpus-per-run: expected a cluster"),
        ({"on": "ray", "cpus": 0}, "--cpus-per-run: expected at least 1"),
        ({"on": "ray", "gpus": -1.0}, "--gpus-per-run: expected a number ≥ 0"),
    ):
        with pytest.raises(RecipeError, match=said):
            make(Request(**request, **changes))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match="--on ray: expected the package ray, got none; install it"):
        make(Request(**request, on="ray"))
