"""The cells of a table on disk: one run folder per row and seed, `<row>-s<seed>`, each an ordinary run.

A cell counts as its row's only while the recipe it was trained with is the row's: one folder never mixes two tables.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aplysia.errors import AplysiaError, RunError
from aplysia.tables.base import Row, Table
from aplysia.train.codec import decode, encode
from aplysia.train.folder import RunFolder
from aplysia.train.recipe import AXES, Recipe

# How the kernels run is no part of what is computed, see docs/design.md.
_NO_MEANING = "compiled"
_NUMBERS = ("words", "bits", "address_bits", "words_bp")


@dataclass(frozen=True)
class Cell:
    """One row with one seed.

    Attributes:
        row: of the table.
        seed: of everything random.
        path: its run folder.
    """

    row: Row
    seed: int
    path: Path

    @property
    def label(self) -> str:
        """How the cell is called in messages."""
        return f"{self.row.name} s{self.seed}"


@dataclass(frozen=True)
class Found:
    """What is on disk of a table.

    Attributes:
        summaries: `summary.json` of the finished cells, by row name and seed.
        damaged: what is wrong with a cell that cannot be read, by row name and seed.
        caveats: what the finished cells' `run.json` say of their data.
    """

    summaries: dict[tuple[str, int], dict[str, Any]]
    damaged: dict[tuple[str, int], str]
    caveats: tuple[str, ...]


def cell(table_out: Path, row: Row, seed: int) -> Cell:
    """The cell of a row and seed."""
    return Cell(row, seed, table_out / f"{row.slug}-s{seed}")


def cells_there(table: Table, out: Path) -> list[Cell]:
    """Every cell of the table that has a folder, whatever is in it; row by row, seeds in order."""
    names = [path.name for path in out.iterdir() if path.is_dir()] if out.is_dir() else []
    there = []
    for row in table.rows:
        matches = (re.fullmatch(re.escape(row.slug) + r"-s(\d+)", name) for name in names)
        there += [cell(out, row, seed) for seed in sorted(int(match[1]) for match in matches if match)]
    return there


def read(table: Table, out: Path) -> Found:
    """Everything finished under `out`.

    Raises:
        RunError: a cell there was trained with another recipe than its row's.
    """
    summaries: dict[tuple[str, int], dict[str, Any]] = {}
    damaged: dict[tuple[str, int], str] = {}
    caveats: dict[str, None] = {}
    for one in cells_there(table, out):
        folder = RunFolder(one.path)
        try:
            _check_recipe(one, folder)
            if folder.finished:
                summaries[one.row.name, one.seed] = _summary(folder)
                if (one.path / "run.json").exists():
                    caveats |= dict.fromkeys(filter(None, [folder.read_json("run.json").get("caveat")]))
        except _OtherRecipe as other:
            raise other.error from None
        except AplysiaError as error:
            damaged[one.row.name, one.seed] = str(error)
    return Found(summaries, damaged, tuple(caveats))


class _OtherRecipe(Exception):
    """A cell of another recipe; not an AplysiaError, which would pass for damage."""

    def __init__(self, error: RunError) -> None:
        self.error = error
        super().__init__(str(error))


def _check_recipe(one: Cell, folder: RunFolder) -> None:
    path = one.path / "recipe.json"
    if not path.exists():
        if folder.finished:
            raise RunError(
                str(path), expected="the recipe of a finished cell", got="no such file", fix="delete that folder"
            )
        return
    stored = folder.read_json("recipe.json")
    wanted = encode(one.row.cell(one.seed), AXES)
    try:
        # Read and written again, so that a key that came later stands at its default.
        stored = encode(decode(Recipe, stored, AXES), AXES)
    except AplysiaError:
        stored = stored if isinstance(stored, dict) else {}
    was, now = flat(stored), flat(wanted)
    for key in [*now, *was]:
        if key != _NO_MEANING and was.get(key) != now.get(key):
            raise _OtherRecipe(
                RunError(
                    str(one.path),
                    expected=f"a cell with {key}={_value(now, key)}, as row '{one.row.name}' has it",
                    got=f"one with {key}={_value(was, key)}",
                    fix="choose another --out, repeat the --set it was trained with, or delete that folder to train it anew",
                )
            )


def _value(recipe: dict[str, Any], key: str) -> Any:
    return recipe.get(key, "(nothing)")


def flat(data: Any, key: str = "") -> dict[str, Any]:
    """Dotted key → value, the leaves only."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else None
    if items is None:
        return {key: data}
    leaves: dict[str, Any] = {} if data or not key else {key: data}
    for name, value in items:
        # The kind of a part is what its key is set to: rule=symmetric, not rule.kind=symmetric.
        leaves |= flat(value, key if name == "kind" else f"{key}.{name}" if key else str(name))
    return leaves


def _summary(folder: RunFolder) -> dict[str, Any]:
    """A summary with all numbers a table needs."""
    summary, path = folder.read_json("summary.json"), folder.path / "summary.json"
    fix = "delete that file, and the cell is finished again from its checkpoint"
    try:
        numbers = [summary["test_accuracy"], *(summary["transport"][key] for key in _NUMBERS)]
        whole = all(isinstance(x, int | float) and math.isfinite(x) for x in numbers) and 0.0 <= numbers[0] <= 1.0
    except (KeyError, TypeError):
        whole = False
    if not whole:
        raise RunError(str(path), expected="test_accuracy and transport in numbers", got="others or none", fix=fix)
    return summary
