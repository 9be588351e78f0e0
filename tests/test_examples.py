"""Every example runs as its file says, in the time it says, from a folder that is not ours, and reaches what it is about."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *words: str, folder: Path, needs: tuple[str, ...] = (), strict: bool = True) -> str:
    """What the example prints."""
    for package in needs:
        if importlib.util.find_spec(package.partition(".")[0]) is None:
            pytest.skip(f"{package} is not installed")
    began = _worked()
    done = subprocess.run(
        [sys.executable, *(("-W", "error") if strict else ()), str(EXAMPLES / f"{name}.py"), *words],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        # Two processes of tests share two cores, and a pool of threads that waits for a core burns the other one.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    # Of the processor, not of the clock: other tests run beside this one.
    assert _worked() - began < 60
    return done.stdout


def _worked() -> float:
    """Seconds that the processes which this one began and that have ended have worked."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def accuracy(told: str) -> float:
    """The last one, in percent."""
    return float(re.findall(r"test accuracy ([\d.]+)", told)[-1])


def test_all_are_here() -> None:
    tested = set(re.findall(r'run\(\s*"(\w+)"', Path(__file__).read_text(encoding="utf-8")))
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested


def test_quickstart(tmp_path: Path) -> None:
    told = run("quickstart", folder=tmp_path)
    assert accuracy(told) > 92
    code = (EXAMPLES / "quickstart.py").read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 30
    assert told.count("epoch") == 8


def test_snntorch_by_frozen_backpropagation(tmp_path: Path) -> None:
    told = run("snntorch_frozen", folder=tmp_path, needs=("snntorch",))
    assert accuracy(told) > 92
    assert "8,192 words of feedback" in told
    share = float(re.findall(r"([\d.]+)% of the weight words", told)[0])
    assert 0.5 < share < 1.5


def test_spikingjelly_by_opzo(tmp_path: Path) -> None:
    # The library logs and warns while it is imported.
    told = run("spikingjelly_opzo", folder=tmp_path, needs=("spikingjelly",), strict=False)
    assert accuracy(told) > 88
    assert told.count("cut here, its error is planted") == 2


def test_own_rule(tmp_path: Path) -> None:
    told = run("own_rule", folder=tmp_path)
    found = {name: float(mean) for name, mean in re.findall(r"(\w+): test accuracy ([\d.]+) ±", told)}
    assert list(found) == ["symmetric", "feedback_alignment", "own_rule", "readout_only"]
    assert found["symmetric"] > found["own_rule"] > found["readout_only"] + 4


def test_own_chip(tmp_path: Path) -> None:
    told = run("own_chip", folder=tmp_path)
    found = re.findall(r"(\S+): ([\d.]+) µJ a sample, ([\d,]+) weight words", told)
    energies = {name: float(value) for name, value, _ in found}
    assert len(energies) == 5
    assert energies["symmetric"] > energies["frozen:interval=100"]
    assert "at least" not in told


def test_accelerate(tmp_path: Path) -> None:
    told = run("accelerate_loop", folder=tmp_path, needs=("accelerate",), strict=False)
    assert accuracy(told) > 92
    # 46 batches an epoch, two for each update; the last of an epoch ends its update in any case.
    assert "after 230 updates" in told


def test_lightning(tmp_path: Path) -> None:
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("lightning is not installed")
    tried = subprocess.run([sys.executable, "-c", "import lightning.pytorch"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"lightning cannot be imported: {tried.stderr.strip().splitlines()[-1]}")
    told = run("lightning_loop", folder=tmp_path, strict=False)
    assert accuracy(told) > 92
    assert "after 368 updates" in told


def test_deploy(tmp_path: Path) -> None:
    told = run("deploy_nir", str(tmp_path), folder=tmp_path, needs=("nir",))
    nets = re.findall(r"(\w+)\.nir: dt ([\d.]+) s, T = 6, test accuracy ([\d.]+)%", told)
    assert [name for name, _, _ in nets] == ["nir", "snntorch", "spikingjelly", "norse"]
    assert len({share for _, _, share in nets}) == 1
    assert float(nets[0][2]) > 85
    assert all(int(n.replace(",", "")) > 1000 for n in re.findall(r"dense\d ([\d,]+) spikes", told))
    assert {path.name for path in tmp_path.glob("*.nir")} == {f"{name}.nir" for name, _, _ in nets}
