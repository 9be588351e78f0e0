"""One process of a search: takes trials and trains them until nothing is left."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from aplysia.errors import AplysiaError, RunError, TrainingError
from aplysia.grid.worker import follow_parent
from aplysia.train.codec import encode
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress, duration
from aplysia.train.recipe import AXES
from aplysia.train.run import Interrupted, Run
from aplysia.tune.bench import Bench, Job
from aplysia.tune.plan import load

Say = Callable[[str], None]


def search(bench: Bench, *, device: torch.device, data: Path | None, say: Say) -> bool:
    """Train trial after trial; True when nothing is left, False when a signal came.

    Raises:
        AplysiaError: anything a user can mend; the trial in hand is left for the next call.
    """
    total = bench.plan.budget.trials * len(bench.plan.contenders)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as every process of a search, so that its numbers do not depend on how many there are
    try:
        while (job := bench.take()) is not None:
            began = time.monotonic()
            told = attempt(job, device, data)
            if told is None:
                return False
            through = sum(one.state != "running" for one in bench.outcomes())
            spent = duration(time.monotonic() - began)
            say(f"{job.label}: {told}  {' '.join(_short(job))}  in {spent}  ({through} of {total})")
        return True
    finally:
        torch.set_num_threads(threads)


def attempt(job: Job, device: torch.device, data: Path | None) -> str | None:
    """Train one trial from where it stands; what became of it, None where a signal came."""
    try:
        folder = _folder(job)
        if folder.finished:  # and its process ended before it could say so
            summary = folder.read_json("summary.json")
        else:
            quiet = Progress(job.recipe.epochs, shown=False)
            summary = Run(job.recipe, folder, device, data, progress=quiet, watch=job.watch).execute()
        job.done(accuracy := float(summary["val_accuracy"]))
        return f"{100 * accuracy:.2f} %"
    except Interrupted:
        if not job.cut:
            job.leave()
            return None
        job.pruned()
        return "pruned"
    except TrainingError as error:
        job.ran_away(str(error))
        return f"ran away: {error}"
    except BaseException:
        job.leave()
        raise


def serve(connection: Connection, out: Path, storage: str | None, device: str, data: Path | None) -> None:
    """`search` as a process of its own; a sentence for the user goes back over the connection."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to every process of a terminal: `Run` listens, and the parent
    threading.Thread(target=follow_parent, daemon=True).start()
    plan = load(out)
    assert plan is not None, "written before any process is started"
    try:
        bench = Bench(plan, out, storage)
        try:
            search(bench, device=torch.device(device), data=data, say=lambda text: print(text, flush=True))
        finally:
            bench.close()
    except AplysiaError as error:
        connection.send((error.where, error.expected, error.got, error.fix))


def _folder(job: Job) -> RunFolder:
    """The trial's run folder, which holds this trial or nothing."""
    folder = RunFolder.create(job.path, resume=True)
    if (job.path / "recipe.json").exists() and folder.read_json("recipe.json") != encode(job.recipe, AXES):
        raise RunError(
            str(job.path),
            expected=f"trial {job.number} of {job.contender.name} as the data base has it",
            got="a run of another recipe",
            fix="choose another --out, or delete that folder",
        )
    return folder


def _short(job: Job) -> list[str]:
    return [f"{key}={value:.3g}" for key, value in job.values.items()]
