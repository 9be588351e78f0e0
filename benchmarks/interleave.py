"""What the benchmarks share: contestants timed round by round in one process, and the memory of a process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from aplysia.ops.memory import kept_memory

Step = Callable[[], Any]
CPU = torch.device("cpu")
# A rate at which float32 weights stay as they are. What fires decides what a step costs where zeros are left out, so nets that
# learnt the one batch they are timed on, hundreds of steps long, would be other nets round by round.
STILL = 1e-12


def settle(device: torch.device) -> None:
    """Wait until everything asked of a device is done: a GPU is still at work when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def race(
    everyone: dict[str, Step], rounds: int, *, warm_up: int = 3, device: torch.device = CPU, lead: bool = True
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round; the order rotates, so that a noisy machine is noisy to all of them.

    Every turn is two steps, of which the second is timed: caches then hold what the same contestant's step before has left, as
    they do in training, and not what another one has (`lead=False`: one step a turn). The process keeps freed memory meanwhile,
    as a run of ours does by itself; peers gain by that too.
    """
    seconds: dict[str, list[float]] = {name: [] for name in everyone}
    names = list(everyone)
    with kept_memory():
        for step in everyone.values():
            for _ in range(warm_up):
                step()
        settle(device)
        for number in range(rounds):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                if lead:
                    everyone[name]()
                    settle(device)
                began = time.perf_counter()
                everyone[name]()
                settle(device)
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """How many times longer `slow` takes than `fast`: median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def fastest(seconds: dict[str, list[float]], names: Iterable[str]) -> str:
    """The contestant with the smallest median."""
    return min(names, key=lambda name: statistics.median(seconds[name]))


def spread(seconds: list[float]) -> dict[str, float]:
    """Median and quartiles, in milliseconds."""
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    return {"low": 1e3 * low, "median": 1e3 * middle, "high": 1e3 * high}


def in_a_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives in a process in which nothing has run: memory once taken is not given back.

    The process is forked from one that has torch imported and has done nothing else.
    """
    context = get_context("forkserver")
    # torch imports its compiler at the first optimiser step, compiling or not.
    context.set_forkserver_preload(["torch", "torch._dynamo", "torch.utils.flop_counter", "aplysia.train.learner"])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def peak_of(step: Step, times: int = 2, device: torch.device = CPU) -> int:
    """Bytes that a step adds at its peak: of the GPU's memory, or of resident memory of this process (Linux)."""
    gc.collect()
    if device.type == "cuda":
        settle(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        for _ in range(times):
            step()
        settle(device)
        return torch.cuda.max_memory_allocated(device) - before
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    for _ in range(times):
        step()
    return max(0, _status("VmHWM") - before)


def give_back() -> None:
    """Return memory that is free to the system, so that a step that takes it again is seen to."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status(key: str) -> int:
    """Bytes of an entry of this process's status."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) * 1024
