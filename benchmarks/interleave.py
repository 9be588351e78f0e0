"""What the benchmarks share: contestants timed round by round in one process, and the memory of a process."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Step = Callable[[], Any]


def race(everyone: dict[str, Step], rounds: int, *, warm_up: int = 3) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; the order rotates, so that a noisy machine is noisy to all of them."""
    for step in everyone.values():
        for _ in range(warm_up):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in everyone}
    names = list(everyone)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            everyone[name]()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times longer `slow` takes than `fast`: median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def fastest(seconds: dict[str, list[float]], names: Iterable[str]) -> str:
    """The contestant with the smallest median."""
    return min(names, key=lambda name: statistics.median(seconds[name]))


def peak_of(step: Step, times: int = 2) -> int:
    """Bytes of resident memory that a step adds at its peak, in this process (Linux)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    for _ in range(times):
        step()
    return max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    """Bytes of an entry of this process's status."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) * 1024
