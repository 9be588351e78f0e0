"""examples/deploy_nir.py runs as it says, in the time it says."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("nir", reason="nir is not installed (extra 'nir')")

EXAMPLE = Path(__file__).parents[2] / "examples" / "deploy_nir.py"


def test_deploy(tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 60
    told = re.findall(r"(\w+)\.nir: dt ([\d.]+) s, T = 6, test accuracy ([\d.]+)%", done.stdout)
    assert [name for name, _, _ in told] == ["nir", "snntorch", "spikingjelly", "norse"]
    assert len({accuracy for _, _, accuracy in told}) == 1
    assert float(told[0][2]) > 85
    assert all(int(n.replace(",", "")) > 1000 for n in re.findall(r"dense\d ([\d,]+) spikes", done.stdout))
    assert {path.name for path in tmp_path.glob("*.nir")} == {f"{name}.nir" for name, _, _ in told}
