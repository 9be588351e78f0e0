"""The core imports torch and little else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import aplysia.ops.scan

SOURCE = Path(aplysia.ops.scan.__file__).parents[2]

HEAVY = [
    "torchvision",
    "torchaudio",
    "matplotlib",
    "pandas",
    "tonic",
    "tensorboard",
    "sklearn",
    "PIL",
    "scipy",
    "pooch",
    "typer",
    "rich",
]

PROGRAM = """
import importlib, json, pkgutil, sys
for name in ("ops", "neurons", "nets", "credit"):
    package = importlib.import_module(f"aplysia.{name}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import torch
known = set(sys.modules)
print(json.dumps([sorted({m.split(".")[0] for m in known}), sorted(m for m in known if m.startswith("aplysia"))]))
"""


def test_the_core_pulls_in_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    top, ours = json.loads(done.stdout)
    bare = subprocess.run(
        [
            sys.executable,
            "-c",
            "import torch, sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    already = set(json.loads(bare.stdout))  # what torch itself brings is not ours to forbid
    assert set(HEAVY) & set(top) <= already
    assert not any(m.split(".")[1] in ("data", "train", "cli", "recipes") for m in ours if "." in m)
