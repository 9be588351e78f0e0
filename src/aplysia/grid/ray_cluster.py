"""The cells of a table on a Ray cluster: the training of `pool`, handed out to other machines.

A cell trains into its folder under `--out`, which every machine must see under the same path. When a machine or a process
dies, its cell is given out again and goes on from its last checkpoint, so at most one checkpoint interval is lost. Nothing is
reported to anyone, and no dashboard is started.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from aplysia.errors import RecipeError, RunError
from aplysia.grid.pool import LOOK, TRIES, stopping
from aplysia.grid.worker import Answer, Task, train
from aplysia.report.cells import Cell
from aplysia.train.codec import encode
from aplysia.train.recipe import AXES

# Seconds a stopped cell has to save itself.
_GRACE = 20.0


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """Where to, and what each run takes.

    Attributes:
        address: of the cluster; None: the one that runs on this machine, or a new one on this machine alone.
        cpus: cores of a run, and its threads; as in `pool`, one unless said.
        gpus: of a run; a fraction shares one.
        jobs: most runs at once; None: as many as the cluster has room for.
    """

    address: str | None = None
    cpus: int = 1
    gpus: float = 0.0
    jobs: int | None = None

    def __post_init__(self) -> None:
        if self.cpus < 1:
            raise RecipeError("--cpus-per-run", expected="at least 1", got=str(self.cpus), fix="leave it out")
        if self.gpus < 0.0:
            raise RecipeError("--gpus-per-run", expected="a number ≥ 0", got=str(self.gpus), fix="leave it out")

    def train_cells(
        self,
        cells: Sequence[Cell],
        *,
        device: str,
        data: Path | None,
        began: Callable[[Cell], None],
        ended: Callable[[Cell, Answer], None],
        tick: Callable[[], None],
    ) -> bool:
        """As `aplysia.grid.pool.train_cells`.

        Raises:
            RunError: Ray is not installed, or the cluster does not answer.
        """
        with self._connected() as ray, stopping() as stop:
            options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": 0}
            remote = ray.remote(**options)(_trained)
            waiting, tries = deque(cells), Counter[str]()
            running: dict[Any, Cell] = {}
            asked: float | None = None
            while waiting or running:
                if stop() and asked is None:
                    asked = time.monotonic()
                    waiting.clear()
                    for reference in running:
                        ray.cancel(reference, force=False)
                elif asked is not None and time.monotonic() - asked > _GRACE:
                    for reference in running:
                        ray.cancel(reference, force=True)
                while waiting and len(running) < self._room(ray):
                    cell = waiting.popleft()
                    task = Task(encode(cell.row.cell(cell.seed), AXES), str(cell.path.resolve()))
                    running[remote.remote(task, device, None if data is None else str(data.resolve()), self.cpus)] = (
                        cell
                    )
                    began(cell)
                ready, _ = ray.wait(list(running), num_returns=1, timeout=LOOK) if running else ([], [])
                for reference in ready:
                    cell = running.pop(reference)
                    answer = _answer(ray, reference)
                    if answer is None:
                        tries[cell.label] += 1
                        if asked is None and tries[cell.label] < TRIES:
                            waiting.appendleft(cell)
                            continue
                        why = f"its process or machine was lost {TRIES} times; look for memory that ran out."
                        answer = Answer("failed", text=why) if asked is None else Answer("stopped")
                    ended(cell, answer)
                tick()
            return asked is None

    def _room(self, ray: ModuleType) -> int:
        """Runs the cluster holds as it is now: machines may join and leave."""
        there = ray.cluster_resources()
        room = int(there.get("CPU", 0.0) // self.cpus)
        if self.gpus:
            room = min(room, int(there.get("GPU", 0.0) / self.gpus))
        return max(1, room if self.jobs is None else min(room, self.jobs))

    @contextmanager
    def _connected(self) -> Iterator[ModuleType]:
        # Read while Ray is imported.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ray = importlib.import_module("ray")
            except ImportError:
                fix = "install it by pip install 'aplysia[ray]', or leave --on out"
                raise RunError("--on ray", expected="the package ray", got="none", fix=fix) from None
            try:
                ray.init(
                    address=self.address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
                )
            except (ConnectionError, ValueError, RuntimeError) as problem:
                raise RunError(
                    f"--on ray{'' if self.address is None else f':{self.address}'}",
                    expected="a cluster that answers",
                    got=f"{type(problem).__name__}: {str(problem).strip().splitlines()[0]}",
                    fix="check the address, or start one with: ray start --head",
                ) from problem
            try:
                yield ray
            finally:
                ray.shutdown()


def _trained(task: tuple[dict[str, Any], str], device: str, data: str | None, threads: int) -> tuple[str, float, str]:
    """`train` in a process of Ray's."""
    torch.set_num_threads(threads)
    kind, accuracy, text = train(Task(*task), torch.device(device), None if data is None else Path(data))
    return kind, accuracy, text


def _answer(ray: ModuleType, reference: Any) -> Answer | None:
    """What a run says, None if whoever trained it is gone."""
    try:
        return Answer(*ray.get(reference))
    except ray.exceptions.TaskCancelledError:
        return Answer("stopped")
    except ray.exceptions.RayTaskError as problem:
        # A signal between two lines of ours; anything else is a bug of ours.
        stopped = isinstance(problem.cause, KeyboardInterrupt)
        return Answer("stopped") if stopped else Answer("bug", text=str(problem))
    except ray.exceptions.RayError:
        return None
