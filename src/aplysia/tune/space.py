"""Where settings are searched: an interval for each key, the same for every rule, or what each rule names itself."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aplysia.errors import RecipeError, near
from aplysia.train.codec import describe, override
from aplysia.train.recipe import AXES, Recipe

# In a file of spaces, the part that holds for every rule.
ALL = "all"
_RATE = "optimiser.lr"
_FORM = "LOW:HIGH or LOW:HIGH:log"


@dataclass(frozen=True)
class Range:
    """An interval that a number is searched in, both ends included.

    Attributes:
        low, high: its ends.
        log: whether all orders of magnitude are equally likely at first, in place of all values.
        whole: whether only whole numbers are tried.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    @property
    def text(self) -> str:
        """As `--search` takes it."""
        return f"{self.low:g}:{self.high:g}" + (":log" if self.log else "")

    def holds(self, value: float) -> bool:
        """Whether the value lies in it."""
        return self.low <= value <= self.high

    def near_end(self, value: float, share: float = 0.05) -> bool:
        """Whether the value lies in the outermost `share` of the interval, on either side."""
        low, high, x = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return min(x - low, high - x) < share * (high - low)


Space = Mapping[str, Range]


def parse_range(key: str, text: object) -> Range:
    """`LOW:HIGH` or `LOW:HIGH:log`.

    Raises:
        RecipeError: anything else, or an interval that is empty.
    """
    where, parts = f"range of {key}", str(text).split(":")
    log = len(parts) == 3 and parts[2].strip().lower() == "log"
    try:
        if len(parts) != 2 and not log:
            raise ValueError
        low, high = (float(part) for part in parts[:2])
    except ValueError:
        raise RecipeError(where, expected=_FORM, got=f"'{text}'", fix="write for example 0.01:1:log") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise RecipeError(where, expected="finite numbers LOW < HIGH", got=f"'{text}'", fix="give the lower one first")
    if log and low <= 0.0:
        raise RecipeError(where, expected="LOW > 0 on a log scale", got=f"'{text}'", fix="leave out :log, or raise LOW")
    return Range(low, high, log)


def parse_search(assignments: Sequence[str]) -> dict[str, Range]:
    """The intervals of `--search KEY=LOW:HIGH[:log]`."""
    space: dict[str, Range] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise RecipeError(
                f"--search {text}",
                expected=f"KEY={_FORM}",
                got=f"'{text}'",
                fix="write for example optimiser.lr=0.01:1:log",
            )
        if key in space:
            raise RecipeError(f"--search {key}", expected="each key once", got="it twice", fix="keep one of them")
        space[key] = parse_range(key, value)
    return space


def read_spaces(path: Path, rules: Mapping[str, Any]) -> dict[str, dict[str, Range]]:
    """The intervals in a TOML file: a part `[all]`, and a part for each rule that has more, each `key = "LOW:HIGH:log"`.

    Args:
        path: of the file.
        rules: every rule there is, by name; the file may hold parts for rules that are not searched now.

    Raises:
        RecipeError: a file that cannot be read, an unknown rule, a wrong interval.
    """
    where = f"--space {path}"
    try:
        parts = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(
            where, expected="a file that can be read", got=str(error.strerror), fix="check the path"
        ) from None
    except ValueError as error:  # of TOML and of UTF-8
        raise RecipeError(where, expected="a TOML file", got=str(error), fix="mend the file") from None
    spaces: dict[str, dict[str, Range]] = {}
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise RecipeError(
                where, expected=f"a part [{ALL}] around each key", got=f"'{name}' outside one", fix="add it"
            )
        if name != ALL and name not in rules:
            raise RecipeError(
                where, expected="[all] or the name of a rule", got=f"[{name}]", fix=near(name, [ALL, *rules])
            )
        spaces[name] = {key: parse_range(key, text) for key, text in _flat(part).items()}
    return spaces


def default_space(recipe: Recipe) -> dict[str, Range]:
    """The learning rate, a tenth to ten times the recipe's, and what the rule names as worth searching."""
    values = {key: value for key, value, _ in describe(recipe, AXES)}
    space = {}
    if _RATE in values:
        lr = float(values[_RATE])
        space[_RATE] = Range(float(f"{lr / 10:.6g}"), float(f"{lr * 10:.6g}"), log=True)
    return space | {f"rule.{key}": Range(*ends) for key, ends in recipe.rule.tunable.items()}


def fitted(space: Space, recipe: Recipe) -> dict[str, Range]:
    """The space with whole numbers where the recipe's keys take nothing else.

    Raises:
        RecipeError: no key at all, an unknown key, one that is no number, or an end the recipe does not take.
    """
    if not space:
        raise RecipeError(
            f"search of {recipe.name}", expected="at least one key", got="none", fix="give one by --search KEY=LOW:HIGH"
        )
    known, fits = {key: words for key, _, words in describe(recipe, AXES)}, {}
    for written, interval in space.items():
        first, dot, rest = written.partition(".")
        key = recipe.aliases.get(first, first) + dot + rest
        if key not in known:
            raise RecipeError(
                f"search of {key}", expected="a key of the recipe", got=f"'{written}'", fix=near(key, known)
            )
        words = known[key].split(" or ")
        if not {"float", "int"} & set(words):
            raise RecipeError(
                f"search of {key}",
                expected="a key that takes a number",
                got=f"one that takes {known[key]}",
                fix="leave it out",
            )
        whole = "float" not in words
        if whole and not (interval.low.is_integer() and interval.high.is_integer()):
            raise RecipeError(
                f"range of {key}", expected="whole numbers", got=f"'{interval.text}'", fix="give whole ends"
            )
        fits[key] = replace(interval, whole=whole)
        for end in (interval.low, interval.high):
            override(recipe, [assignment(key, end, fits[key])], AXES)
    return fits


def assignment(key: str, value: float, interval: Range) -> str:
    """`key=value` as `--set` takes it, exact."""
    return f"{key}={int(value) if interval.whole else value!r}"


def _flat(part: Mapping[str, Any], above: str = "") -> dict[str, object]:
    """Bare dotted keys are tables to TOML; here they are keys again."""
    flat: dict[str, object] = {}
    for name, value in part.items():
        key = f"{above}.{name}" if above else name
        flat |= _flat(value, key) if isinstance(value, dict) else {key: value}
    return flat
