"""How long it takes to start: importing, asking for help, and the first epoch, each as a whole process.

    python benchmarks/start.py [--quick] [--json FILE] [--device cuda] [--rounds N]

A round runs every command once, one after the other; medians and quartiles over the rounds, and ratios within a round. The
first epoch is `aplysia run digits-mlp --epochs 1` with its test and everything it writes: with eager kernels, with kernels
compiled for the first time ever (an empty cache each round), and with the cache that this left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import command
import interleave
from interleave import Step

from aplysia.ops.backend import compiler_problem

PYTHON = [sys.executable]
COMMANDS = {
    "python": [*PYTHON, "-c", "pass"],
    "import torch": [*PYTHON, "-c", "import torch"],
    "import aplysia": [*PYTHON, "-c", "import aplysia"],
    # Names are imported on first use, so the line above may do next to nothing.
    "import aplysia, all a loop needs": [
        *PYTHON,
        "-c",
        "from aplysia import Held, Learner, build, rules, temporal; rules.Symmetric, temporal.Trace",
    ],
    "aplysia --help": [*PYTHON, "-m", "aplysia", "--help"],
}
EAGER, COLD, WARM = "first epoch", "first epoch, compiled, cold", "first epoch, compiled, warm"
# Ratio -> what takes longer, and beside what.
RATIOS = {
    "import aplysia / import torch": ("import aplysia", "import torch"),
    "all a loop needs / import torch": ("import aplysia, all a loop needs", "import torch"),
    "cold / warm": (COLD, WARM),
}


def process(words: list[str], environment: dict[str, str] | None = None) -> Step:
    """Run a command to its end, and insist that it ended well."""

    def run() -> None:
        subprocess.run(words, check=True, capture_output=True, env=os.environ | (environment or {}))

    return run


def epoch(folder: Path, cache: str | None, *, empty: bool, device: str) -> Step:
    """The first epoch; its caches in a folder of its own, a new one each time where it is to be empty."""
    taken = iter(range(10**6))

    def run() -> None:
        number = next(taken)
        words = [*PYTHON, "-m", "aplysia", "run", "digits-mlp", "--epochs", "1", "--device", device]
        words += ["--set", f"compiled={'true' if cache else 'false'}"]
        words += ["--out", str(Path(tempfile.mkdtemp(dir=folder)) / "run")]
        place = folder / f"{cache}-{number if empty else 'kept'}"
        names = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "XDG_CACHE_HOME")
        process(words, {name: str(place / name.lower()) for name in names} if cache else None)()

    return run


def main() -> None:
    arguments = command.parser(__doc__, "one round, no compiler").parse_args()
    command.begin(arguments)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        everyone = {name: process(words) for name, words in COMMANDS.items()}
        everyone[EAGER] = epoch(folder, None, empty=False, device=arguments.device)
        problem = "not in a quick run" if arguments.quick else compiler_problem()
        missing = {name: problem for name in (COLD, WARM) if problem}
        if not problem:
            everyone[COLD] = epoch(folder, "cold", empty=True, device=arguments.device)
            everyone[WARM] = epoch(folder, "warm", empty=False, device=arguments.device)
        rounds = arguments.rounds or (1 if arguments.quick else 7)
        # Once before: what is on disk is to be in the system's memory, and the kept cache full.
        seconds = interleave.race(everyone, rounds, warm_up=0 if arguments.quick else 1, lead=False)
    results: dict[str, Any] = {
        **command.conditions(arguments),
        "rounds": rounds,
        "milliseconds": {name: interleave.spread(s) for name, s in seconds.items()},
        "ratios": {
            name: interleave.ratio(seconds, *pair) for name, pair in RATIOS.items() if set(pair) <= seconds.keys()
        },
        "missing": missing,
    }
    for name, ms in results["milliseconds"].items():
        print(f"  {name:<36}{ms['median'] / 1e3:>8.2f} s   ({ms['low'] / 1e3:.2f} to {ms['high'] / 1e3:.2f})")
    for name, ratio in results["ratios"].items():
        print(f"  {name}: {ratio:.2f}")
    for name, why in missing.items():
        print(f"  {name:<36}  missing: {why}")
    command.leave(results, arguments)


if __name__ == "__main__":
    main()
