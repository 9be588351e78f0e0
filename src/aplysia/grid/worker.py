"""One process that trains the cells it is given, one after another, with one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import torch

from aplysia.errors import AplysiaError
from aplysia.train.codec import decode
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.run import Interrupted, Run


class Task(NamedTuple):
    """A cell as it crosses to a worker: plain data, so that a class from a user's file is found there by its path."""

    recipe: dict[str, Any]
    path: str


class Answer(NamedTuple):
    """What became of it: `done` with the accuracy, `stopped` by a signal, `failed` with a sentence, or a `bug`."""

    kind: str
    accuracy: float = float("nan")
    text: str = ""


def serve(connection: Connection, device: str, data: Path | None) -> None:
    """Train until the connection ends. A signal while training saves the cell; between two it just ends the process."""
    # Ctrl-C goes to every process of a terminal. Only while training it means something here, and there `Run` listens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=follow_parent, daemon=True).start()
    while True:
        try:
            task = connection.recv()
            connection.send(train(task, torch.device(device), data))
        except (EOFError, OSError):  # whoever gave the tasks is gone
            return


def train(task: Task, device: torch.device, data: Path | None) -> Answer:
    """Train one cell from where it stands; never raises."""
    try:
        recipe = decode(Recipe, task.recipe, AXES)
        folder = RunFolder.create(Path(task.path), resume=True)
        quiet = Progress(recipe.epochs, shown=False)
        summary = Run(recipe, folder, device, data, progress=quiet).execute()
        return Answer("done", accuracy=summary["test_accuracy"])
    except Interrupted:
        return Answer("stopped")
    except AplysiaError as error:
        return Answer("failed", text=str(error))
    except Exception:
        return Answer("bug", text=traceback.format_exc())


def follow_parent() -> None:
    """End with the process that gave the tasks, however that ended; the cell in hand is saved."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
