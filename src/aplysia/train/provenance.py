"""Where a number comes from: version, commit, source, machine."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import aplysia
from aplysia.version import __version__


def now() -> str:
    """This moment, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def source_hash() -> str:
    """BLAKE2b over the package's Python files, names and contents."""
    root = Path(aplysia.__file__).parent
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def commit() -> str | None:
    """The git commit of the package's checkout, `-dirty` behind it when files differ; None for an installed package."""
    root = Path(aplysia.__file__).parent
    if not (root.parent.parent / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", str(root)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were computed on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def provenance(device: torch.device) -> dict[str, Any]:
    """The content of `run.json` at the start of a run."""
    return {
        "aplysia": __version__,
        "commit": commit(),
        "source": source_hash(),
        "command": sys.argv,
        "started": now(),
        **machine(device),
    }


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory: allocated on the GPU, or resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
