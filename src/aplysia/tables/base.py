"""What a table is: rows that are recipes, one of them the baseline, and the published value beside each where there is one."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Literal

from aplysia.errors import RecipeError, near
from aplysia.train.codec import override
from aplysia.train.recipe import AXES, Recipe

Certainty = Literal["confirmed", "inferred", "unknown"]
Unit = Literal["%", "pp"]


@dataclass(frozen=True)
class Published:
    """What a paper says about a row.

    Attributes:
        value: test accuracy in percent, or the difference to the paper's own baseline in percentage points.
        source: where it stands: authors, year, table or figure.
        certainty: confirmed (read there), inferred (worked out or read off a figure), unknown (said second-hand).
        unit: `%` for an accuracy, `pp` for a difference.
    """

    value: float
    source: str
    certainty: Certainty = "confirmed"
    unit: Unit = "%"

    def __post_init__(self) -> None:
        low = 0.0 if self.unit == "%" else -100.0
        for key, right, allowed in (
            ("certainty", self.certainty in ("confirmed", "inferred", "unknown"), "confirmed, inferred or unknown"),
            ("unit", self.unit in ("%", "pp"), "% or pp"),
            ("value", math.isfinite(self.value) and low <= self.value <= 100.0, f"a number in [{low:g}, 100]"),
            ("source", bool(self.source.strip()), "a text that says where the value stands"),
        ):
            if not right:
                raise RecipeError(
                    f"published {key}", expected=allowed, got=repr(getattr(self, key)), fix="mend the table's file"
                )


@dataclass(frozen=True, kw_only=True)
class Search:
    """Where a row's settings came from: a search that is to be the same for all rows (`aplysia tune`).

    Attributes:
        trials: tried for this row.
        space: what was searched, `KEY=LOW:HIGH[:log]` for each key.
        samples: training samples of a trial, held-out ones included; None: all.
        epochs: of a trial.
        seed: of the search and its trials.
        record: file or folder that holds every trial, as seen from the repository.
    """

    trials: int
    space: tuple[str, ...]
    samples: int | None
    epochs: int
    seed: int
    record: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", tuple(self.space))
        for key, right, allowed in (
            ("trials", self.trials >= 1, "a whole number ≥ 1"),
            ("space", bool(self.space), "at least one key"),
            ("samples", self.samples is None or self.samples >= 1, "a whole number ≥ 1, or none"),
            ("epochs", self.epochs >= 1, "a whole number ≥ 1"),
            ("record", bool(self.record.strip()), "the place of its record"),
        ):
            if not right:
                raise RecipeError(
                    f"search {key}", expected=allowed, got=repr(getattr(self, key)), fix="mend the table's file"
                )

    @property
    def budget(self) -> tuple[int, int | None, int]:
        """What has to be equal between rows: trials, samples, epochs."""
        return self.trials, self.samples, self.epochs


@dataclass(frozen=True)
class Row:
    """One line of a table: a recipe, trained once per seed.

    Attributes:
        name: how the row is called, unique in its table.
        recipe: what is trained; its seed is replaced by the cell's.
        published: the value a paper gives, if any.
        group: what it belongs to; rows of a group share colour and marker in the picture.
        level: drawn as a level across the picture, where rows are drawn over the length of a sequence.
        search: that the row's settings came from, if any.
    """

    name: str
    recipe: Recipe
    published: Published | None = None
    group: str = ""
    level: bool = False
    search: Search | None = None

    @property
    def slug(self) -> str:
        """The name as part of a folder's name: plain lower-case letters, digits, dots and hyphens."""
        return slug(self.name)

    def cell(self, seed: int) -> Recipe:
        """What is trained for one seed."""
        return replace(self.recipe, seed=seed)


@dataclass(frozen=True)
class Column:
    """One more number of each run that a table shows beside the test accuracy.

    Attributes:
        key: in the run's `summary.json`.
        title: over the column, with its unit.
        factor: what the number is multiplied by: 100 for shares in percent.
        drawn: whether it stands in the picture too, as a dashed line; for accuracies, over the length of a sequence.
    """

    key: str
    title: str
    factor: float = 1.0
    drawn: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table or figure: its rows are trained over the same seeds and compared with one of them.

    Attributes:
        title: the question it answers, or the paper's table it stands beside.
        rows: in the order they are shown.
        baseline: name of the row the others are compared with.
        note: what a reader has to know: deviations from the paper, what was not said there.
        axis: what the picture is drawn over: the weight words that a row moves, or its steps T.
        extra: more columns; a row whose runs lack the number shows n/a.
        name: on the command line; discovery sets it to the function's, with hyphens.
        settings: what `changed` applied.
    """

    title: str
    rows: tuple[Row, ...]
    baseline: str
    note: str = ""
    axis: Literal["words", "steps"] = "words"
    extra: tuple[Column, ...] = ()
    name: str = ""
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"table '{self.name or self.title}'"
        object.__setattr__(self, "rows", tuple(self.rows))
        if not self.rows:
            raise RecipeError(where, expected="at least one row", got="none", fix="add a Row")
        names = [row.name for row in self.rows]
        slugs: dict[str, str] = {}
        for row in self.rows:
            if not row.slug:
                raise RecipeError(
                    where, expected="row names with a letter or digit", got=f"'{row.name}'", fix="rename that row"
                )
            other = slugs.setdefault(row.slug, row.name)
            if other != row.name or names.count(row.name) > 1:
                raise RecipeError(
                    where,
                    expected="rows whose names differ in letters or digits",
                    got=f"'{other}' and '{row.name}', which would share the folder {row.slug}",
                    fix="rename one of them",
                )
        if self.baseline not in names:
            raise RecipeError(
                where, expected="a baseline that is a row", got=f"'{self.baseline}'", fix=near(self.baseline, names)
            )

    def row(self, name: str) -> Row:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)

    def changed(self, settings: list[str]) -> Table:
        """The table with `--set` applied to every row's recipe."""
        if not settings:
            return self
        if any(text.partition("=")[0].strip() == "seed" for text in settings):
            raise RecipeError("--set seed", expected="a key all seeds share", got="seed", fix="use --seeds")
        rows = []
        for row in self.rows:
            try:
                rows.append(replace(row, recipe=override(row.recipe, settings, AXES)))
            except RecipeError as error:
                raise RecipeError(
                    f"row '{row.name}', {error.where}", expected=error.expected, got=error.got, fix=error.fix
                ) from error
        return replace(self, rows=tuple(rows), settings=(*self.settings, *settings))


def slug(name: str) -> str:
    """`fBP Φ=1000` → `fbp-phi-1000`."""
    letters = []
    for letter in unicodedata.normalize("NFKD", name):
        if not letter.isascii() and letter.isalpha():
            # The last word of a letter's own name: GREEK CAPITAL LETTER PHI.
            letter = " " + unicodedata.name(letter, "").rpartition(" ")[2]
        letters.append(letter)
    text = "".join(letters).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9.]+", "-", text).strip("-.")
