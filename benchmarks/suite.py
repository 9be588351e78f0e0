"""All benchmarks of speed and memory, one process after the other; one JSON each, with the machine and the commit in it.

    python benchmarks/suite.py [--quick] [--only NAME] [--out results/] [--device cuda]

It goes on when one fails, says so at the end, and then exits non-zero. `page_speed.py` makes the page from what it leaves.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from aplysia.train.provenance import commit, machine, now
from aplysia.version import __version__

HERE = Path(__file__).parent
# Name -> whether it knows --device.
BENCHMARKS = {
    "start": True,
    "train_step": False,
    "conv_step": True,
    "events": True,
    "products": True,
    "winograd": True,
    "first_spike": False,
    "streams": False,
    "rules_table": True,
    "scaling": True,
}
PACKAGES = ("numpy", "snntorch", "spikingjelly", "norse")


def provenance(device: str, threads: int | None) -> dict[str, Any]:
    """Machine, versions, commit and date; no path and no name of a host."""
    told = machine(torch.device(device))
    # The process that measured says itself how many threads it had.
    told["threads"] = told["threads"] if threads is None else threads
    return {
        "machine": told | {"caches": caches()},
        "versions": {"aplysia": __version__, **{name: version(name) for name in PACKAGES}},
        "commit": commit(),
        "date": now(),
    }


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def caches() -> dict[str, str]:
    """Caches of the first core as the system names them (Linux): L1d, L2 …"""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (read(folder / name) for name in ("level", "type", "size"))
        found[f"L{level}" + {"Data": "d", "Instruction": "i"}.get(kind, "")] = size
    return found


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else "unknown"


def run(name: str, arguments: argparse.Namespace) -> str | None:
    """One benchmark; what went wrong, or None."""
    file = arguments.out / f"{name}.json"
    partial = file.with_suffix(".json.part")
    words = [sys.executable, str(HERE / f"{name}.py"), "--json", str(partial)]
    words += ["--quick"] if arguments.quick else []
    words += ["--device", arguments.device] if BENCHMARKS[name] else []
    done = subprocess.run(words, check=False)
    if done.returncode or not partial.exists():
        partial.unlink(missing_ok=True)
        return f"exit status {done.returncode}" if done.returncode else "left no file"
    found = json.loads(partial.read_text())
    # A file that is there is whole, and an older one stays until then.
    found["provenance"] = provenance(arguments.device if BENCHMARKS[name] else "cpu", found.get("threads"))
    partial.write_text(json.dumps(found, indent=1) + "\n")
    partial.replace(file)
    return None


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the quick mode of each")
    parser.add_argument("--only", action="append", choices=list(BENCHMARKS), metavar="NAME", help="may be repeated")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for those that can")
    arguments = parser.parse_args(words)
    arguments.out.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in BENCHMARKS if not arguments.only or name in arguments.only]
    failed = {}
    for number, name in enumerate(chosen, start=1):
        print(f"[{number}/{len(chosen)}] {name}", flush=True)
        began = time.perf_counter()
        problem = run(name, arguments)
        print(f"[{number}/{len(chosen)}] {name}: {problem or 'done'}, {time.perf_counter() - began:.0f} s", flush=True)
        if problem:
            failed[name] = problem
    for name, problem in failed.items():
        print(f"failed: {name} ({problem})", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
