"""The run folders of a report, read one after the other and thinned on the way: what is kept of a run is small.

A folder that is damaged, unfinished or from a newer version is named and left out.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from aplysia.errors import AplysiaError, RunError
from aplysia.report.page_costs import Costs, Energy, costs
from aplysia.train.codec import decode, encode
from aplysia.train.folder import MARKS, METRICS, RunFolder
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.run import ALIGNMENT

VERSION = 1
QUANTITIES = ("gradient_cosine", "drift")
_POINTS = 60  # a curve has up to twice as many; more cannot be told apart in a panel
_HELD_OUT, _TRAINING = "val_accuracy", "train_accuracy"
_DAMAGE = "restore the file, or delete that folder"


@dataclass
class Thin:
    """Points of a curve; when there are too many, every second one goes, the same ones for curves of the same length."""

    x: array[float] = field(default_factory=lambda: array("d"))
    y: array[float] = field(default_factory=lambda: array("d"))
    _stride: int = 1
    _seen: int = 0

    def add(self, x: float, y: float) -> None:
        """The next point."""
        if self._seen % self._stride == 0:
            self.x.append(x)
            self.y.append(y)
            if len(self.x) >= 2 * _POINTS:
                self.x, self.y, self._stride = self.x[::2], self.y[::2], 2 * self._stride
        self._seen += 1


@dataclass(frozen=True)
class OneRun:
    """What the report keeps of a finished run.

    Attributes:
        path: its folder.
        key: of its recipe, the same for runs that differ in nothing but the seed.
        recipe: as JSON.
        seed: of everything random.
        summary, facts: `summary.json` and `run.json`.
        accuracy: of the held-out part after each epoch (of the training set where nothing is held out), in percent.
        held_out: which of the two.
        alignment: (layer, quantity) → its curve over optimiser steps.
        costs: sums of its ledger; None where it has none.
    """

    path: Path
    key: str
    recipe: dict[str, Any]
    seed: int
    summary: dict[str, Any]
    facts: dict[str, Any]
    accuracy: Thin
    held_out: bool
    alignment: dict[tuple[str, str], Thin]
    costs: Costs | None


@dataclass(frozen=True)
class LeftOut:
    """A folder that the report does not show, and why."""

    path: Path
    reason: str


class Reader:
    """Reads runs; recipes that are the same text are understood once.

    Args:
        energy: see `page_costs.Energy`; None: no chip was chosen.
    """

    def __init__(self, energy: Energy | None = None) -> None:
        self._energy = energy
        self._keys: dict[str, tuple[str, dict[str, Any]]] = {}

    def read(self, path: Path) -> OneRun:
        """A finished run.

        Raises:
            RunError: it is damaged, unfinished or from a newer version.
        """
        folder = RunFolder(path)
        if not folder.finished:
            raise RunError(str(path), expected="a finished run", got="an unfinished one", fix="resume it")
        summary = _object(folder, "summary.json")
        _check_summary(summary, path / "summary.json")
        recipe = _object(folder, "recipe.json")
        seed = recipe.get("seed")
        if not isinstance(seed, int):
            raise RunError(str(path / "recipe.json"), expected="a seed", got=repr(seed), fix=_DAMAGE)
        key, recipe = self._key(recipe)
        ledger = path / "ledger.json"
        accuracy, held_out = _accuracy(path / METRICS)
        return OneRun(
            path=path,
            key=key,
            recipe=recipe,
            seed=seed,
            summary=summary,
            facts=_object(folder, "run.json") if (path / "run.json").exists() else {},
            accuracy=accuracy,
            held_out=held_out,
            alignment=_alignment(path / ALIGNMENT),
            costs=costs(folder.read_json("ledger.json"), str(ledger), self._energy) if ledger.exists() else None,
        )

    def _key(self, recipe: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        # The seed tells runs of a row apart; how the kernels run is no part of what is computed.
        rest = {name: value for name, value in recipe.items() if name not in ("seed", "compiled")}
        text = json.dumps(rest, sort_keys=True)
        if text not in self._keys:
            try:
                # Read and written again, so that a key that came later stands at its default.
                whole = encode(decode(Recipe, recipe, AXES), AXES)
            except AplysiaError:
                whole = dict(recipe)
            whole = {name: value for name, value in whole.items() if name not in ("seed", "compiled")}
            self._keys[text] = json.dumps(whole, sort_keys=True), whole
        return self._keys[text]


def run_folders(paths: Iterable[Path], left_out: list[LeftOut]) -> list[Path]:
    """Every run folder among and below `paths`, each once; a path that holds none is added to `left_out`."""
    found: dict[Path, Path] = {}
    for path in paths:
        below = list(_below(path))
        if not below:
            left_out.append(LeftOut(path, "it holds no run" if path.is_dir() else "there is no such folder"))
        for one in below:
            found.setdefault(one.resolve(), one)
    return list(found.values())


def _below(path: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(path):
        folders.sort()
        if not set(MARKS).isdisjoint(files):
            folders.clear()
            yield Path(place)


def _object(folder: RunFolder, name: str) -> dict[str, Any]:
    content = folder.read_json(name)
    if not isinstance(content, dict):
        raise RunError(str(folder.path / name), expected="an object", got=type(content).__name__, fix=_DAMAGE)
    return content


def _check_summary(summary: dict[str, Any], path: Path) -> None:
    version, status = summary.get("version", VERSION), summary.get("status", "finished")
    if not isinstance(version, int) or version > VERSION:
        fix = "update Aplysia, or leave this run out"
        raise RunError(str(path), expected=f"version {VERSION} or older", got=f"version {version}", fix=fix)
    if status != "finished":
        raise RunError(str(path), expected="a finished run", got=f"status '{status}'", fix="resume it")
    accuracy, moved, rates = summary.get("test_accuracy"), summary.get("transport", {}), summary.get("rates", {})
    if not _number(accuracy) or not 0.0 <= accuracy <= 1.0:
        raise RunError(str(path), expected="test_accuracy from 0 to 1", got=repr(accuracy), fix=_DAMAGE)
    for name, part in (("transport", moved), ("rates", rates)):
        if not isinstance(part, dict) or not all(value is None or _number(value) for value in part.values()):
            raise RunError(str(path), expected=f"{name} in numbers", got="others", fix=_DAMAGE)


def _accuracy(path: Path) -> tuple[Thin, bool]:
    """The learning curve in percent, and whether it is of held-out samples."""
    held_out, training = Thin(), Thin()
    for record in _records(path):
        epoch = record.get("epoch")
        if not _number(epoch):
            raise RunError(str(path), expected="epochs in numbers", got=repr(epoch), fix=_DAMAGE)
        for name, curve in ((_HELD_OUT, held_out), (_TRAINING, training)):
            if _number(accuracy := record.get(name)):
                curve.add(epoch, 100.0 * accuracy)
    whole = len(held_out.x) > 0 and len(held_out.x) == len(training.x)
    return (held_out, True) if whole or not training.x else (training, False)


def _alignment(path: Path) -> dict[tuple[str, str], Thin]:
    found: dict[tuple[str, str], Thin] = {}
    for record in _records(path):
        step, layers = record.get("step"), record.get("layers")
        if not _number(step) or not isinstance(layers, dict) or not all(isinstance(x, dict) for x in layers.values()):
            raise RunError(str(path), expected="a step and its layers", got="others", fix=_DAMAGE)
        for layer, row in layers.items():
            for quantity in QUANTITIES:
                if _number(row.get(quantity)):
                    found.setdefault((layer, quantity), Thin()).add(step, row[quantity])
    return found


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Lines of a file one by one, less a half last one; nothing where there is no file."""
    if not path.exists():
        return
    number = 0
    try:
        with open(path, "rb") as file:
            for line in file:
                number += 1
                if not line.endswith(b"\n"):
                    return
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError(line)
                yield record
    except OSError as error:
        raise RunError(str(path), expected="a file that can be read", got=str(error.strerror), fix=_DAMAGE) from error
    except ValueError as error:
        place = f"{path}, line {number}"
        raise RunError(place, expected="one JSON object", got="damage", fix="delete that line") from error


def _number(x: Any) -> TypeGuard[float]:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)
