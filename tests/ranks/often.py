"""A recipe that learns from noise, saves itself often, and whose second process can be told to die."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import aplysia.train.run
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.recipes import find
from aplysia.train.recipe import Recipe

# Seconds between two checkpoints: a test cannot wait for a minute.
aplysia.train.run._INSIDE = aplysia.train.run._BETWEEN = 0.3


def recipe() -> Recipe:
    """The digits by feedback that is learnt from noise, in batches that two processes cannot halve."""
    folder = os.environ.get("DIE_ONCE_SAVED_IN")
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    if folder and first and os.environ.get("RANK") == "1":
        threading.Thread(target=_die, args=(Path(folder) / "checkpoint-previous.safetensors",), daemon=True).start()
    return replace(find("digits-mlp"), name="often", rule=PseudoZerothOrder(), epochs=5, batch_size=33)


def _die(mark: Path) -> None:
    while not mark.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
