"""What a call of `aplysia table` asks for: which rows, which seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from aplysia.errors import RecipeError, near
from aplysia.tables.base import Row, Table


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0,1,2` or `0-4,7`, each once, in the order given.

    Raises:
        RecipeError: anything else.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high < low + 10_000:
            raise RecipeError("--seeds", expected="whole numbers ≥ 0", got=f"'{text}'", fix="write 0,1,2 or 0-4")
        seeds += range(low, high + 1)
    if len(set(seeds)) < len(seeds):
        raise RecipeError("--seeds", expected="each seed once", got=f"'{text}'", fix="leave out the second one")
    return tuple(seeds)


def pick(table: Table, patterns: Sequence[str]) -> tuple[Row, ...]:
    """The rows whose name, folder name or group fits one of the patterns (`*` and `?`), in the table's order; all if none.

    Raises:
        RecipeError: a pattern that fits no row.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        fits = {row.name for row in table.rows if any(_fits(text, pattern) for text in _names(row))}
        if not fits:
            known = [row.name for row in table.rows]
            raise RecipeError("--rows", expected=f"rows of {table.name}", got=f"'{pattern}'", fix=near(pattern, known))
        chosen |= fits
    return tuple(row for row in table.rows if row.name in chosen or not patterns)


def _names(row: Row) -> tuple[str, ...]:
    return tuple(filter(None, (row.name, row.slug, row.group)))


def _fits(text: str, pattern: str) -> bool:
    # As it stands first: a name may hold brackets, which are a pattern's too.
    return text.lower() == pattern.lower() or fnmatchcase(text.lower(), pattern.lower())
