"""Chips: what one operation costs, a published number with its source at a time, from small TOML files.

name = "my-chip"                    one file, one chip; those that ship lie in `chips/` beside this module
summary = "…"                       one line
weight_bits = 8                     width of a weight or an error that is stored or sent; that of the net unless said
hops = 1                            links that a message crosses

[operation.ac]                      any of `OPERATIONS`; what is not there is not known, and no total hides that
value = 24.0                        within low … high
low = 24.0
high = 36.0
unit = "pJ"                         fJ, pJ or nJ
kind = "calibrated"                 any of `KINDS`
certainty = "A-"                    A: primary source or two that agree, B: second-hand, C: conflicting or projected
source = "…"
includes = ["read"]                 other operations that the number pays for already

[static]                            power that flows whatever is done, in nW, µW or mW; never part of a total
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from aplysia.errors import RecipeError, near

OPERATIONS: Mapping[str, str] = {
    "mac": "product of a weight and a real number",
    "ac": "addition of a weight, for a spike that meets it",
    "update": "a unit brought up to date: a membrane, a trace, a surrogate derivative",
    "learn": "learning update of a synapse",
    "spike": "spike sent, but for hops",
    "word": "real number sent, an error or a weight, but for hops",
    "hop": "link crossed by a spike or a word",
    "bit": "bit moved, where messages have no price",
    "forward_read": "read of a forward weight",
    "forward_write": "write of a forward weight",
    "feedback_read": "read of a feedback weight; as forward_read unless said",
    "feedback_write": "write of a feedback weight; as forward_write unless said",
    "random": "random number drawn",
}
KINDS = ("measured", "circuit estimate", "projected", "calibrated", "derived")
CERTAINTIES = ("A", "A-", "B+", "B", "B-", "C")
_PICOJOULES = {"fJ": 1e-3, "pJ": 1.0, "nJ": 1e3}
_MICROWATTS = {"nW": 1e-3, "µW": 1.0, "mW": 1e3}
_INCLUDED = ("read", "write", "mac", "ac")
REFUSED: Mapping[str, str] = {
    "loihi2": "nobody has published what one operation of Loihi 2 costs: the figures that are passed around name no source",
}


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A published number.

    Attributes:
        value, low, high: energy in pJ; of static power in µW.
        unit: that it was published in.
        kind: how it was come by.
        certainty: how sure it is.
        source: where it is from.
        includes: operations that it pays for already.
    """

    value: float
    low: float
    high: float
    unit: str
    kind: str
    certainty: str
    source: str
    includes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A profile.

    Attributes:
        name, summary: for lists.
        operations: by their names; what is missing is not known.
        weight_bits: width of a stored or sent number; None: that of the net.
        hops: links that a message crosses.
        static: power that flows whatever is done.
    """

    name: str
    summary: str
    operations: Mapping[str, Constant] = field(default_factory=dict)
    weight_bits: int | None = None
    hops: float = 1.0
    static: Constant | None = None

    def price(self, operation: str) -> Constant | None:
        """What an operation costs; None: not known."""
        if operation.startswith("feedback_"):
            return self.operations.get(operation) or self.operations.get(operation.replace("feedback", "forward"))
        return self.operations.get(operation)


def chips() -> dict[str, Chip]:
    """Every profile that ships, by name."""
    folder = resources.files("aplysia.ledger") / "chips"
    found = [
        read_chip(item.read_text(encoding="utf-8"), item.name)
        for item in folder.iterdir()
        if item.name.endswith(".toml")
    ]
    return {chip.name: chip for chip in sorted(found, key=lambda chip: (chip.name != "counts-only", chip.name))}


def find_chip(name: str) -> Chip:
    """A profile that ships, or one in a TOML file of the user's.

    Raises:
        RecipeError: no such profile, one that is refused, or a mistake in the file.
    """
    if name in REFUSED:
        raise RecipeError("--chip", expected="a chip with published numbers", got=f"'{name}'", fix=REFUSED[name])
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise RecipeError(
                "--chip", expected="a TOML file", got=f"'{name}', which is not there", fix="check the path"
            )
        try:
            return read_chip(path.read_text(encoding="utf-8"), name)
        except UnicodeDecodeError as problem:
            fix = "save the file as UTF-8"
            raise RecipeError(name, expected="text in UTF-8", got=f"a byte at {problem.start}", fix=fix) from problem
    known = chips()
    if name not in known:
        fix = f"{near(name, known)}; a profile of your own is named by its path, my.toml"
        raise RecipeError("--chip", expected="a chip that ships", got=f"'{name}'", fix=fix)
    return known[name]


def read_chip(text: str, where: str) -> Chip:
    """The profile a TOML text holds.

    Args:
        text: TOML.
        where: how errors call it.

    Raises:
        RecipeError: not TOML, an unknown key or operation, a number without a source, a range that does not hold its value.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise RecipeError(where, expected="TOML", got=str(problem), fix="mend that line") from problem
    _known(where, data, ("name", "summary", "weight_bits", "hops", "operation", "static"), required=("name", "summary"))
    for key in ("name", "summary"):
        if not (isinstance(data[key], str) and data[key].strip()):
            raise RecipeError(f"{where}: {key}", expected="a text", got=repr(data[key]), fix="write one")
    bits, hops = data.get("weight_bits"), data.get("hops", 1.0)
    if bits is not None and (not isinstance(bits, int) or isinstance(bits, bool) or bits < 1):
        raise RecipeError(
            f"{where}: weight_bits", expected="a whole number ≥ 1", got=repr(bits), fix="write 8, or leave it out"
        )
    if not _number(hops):
        raise RecipeError(f"{where}: hops", expected="a number ≥ 0", got=repr(hops), fix="write 1, or leave it out")
    operations = data.get("operation", {})
    if not isinstance(operations, dict):
        raise RecipeError(f"{where}: operation", expected="tables", got=repr(operations), fix="write [operation.mac]")
    for name in operations:
        if name not in OPERATIONS:
            raise RecipeError(
                f"{where}: operation.{name}", expected="an operation", got=f"'{name}'", fix=near(name, OPERATIONS)
            )
    static = data.get("static")
    return Chip(
        name=data["name"],
        summary=data["summary"],
        weight_bits=bits,
        hops=float(hops),
        operations={
            name: _constant(f"{where}: operation.{name}", given, _PICOJOULES) for name, given in operations.items()
        },
        static=None if static is None else _constant(f"{where}: static", static, _MICROWATTS),
    )


_FIELDS = ("value", "low", "high", "unit", "kind", "certainty", "source")


def _constant(where: str, given: Any, units: Mapping[str, float]) -> Constant:
    if not isinstance(given, dict):
        raise RecipeError(
            where, expected=f"a table of {', '.join(_FIELDS)}", got=repr(given), fix="write one key a line"
        )
    _known(where, given, (*_FIELDS, "includes"), required=_FIELDS)
    for key in ("value", "low", "high"):
        if not _number(given[key]):
            raise RecipeError(
                f"{where}.{key}", expected="a number ≥ 0", got=repr(given[key]), fix="write it without its unit"
            )
    low, value, high = given["low"], given["value"], given["high"]
    if not low <= value <= high:
        raise RecipeError(where, expected="low ≤ value ≤ high", got=f"{low}, {value}, {high}", fix="put them in order")
    for key, allowed in (("unit", units), ("kind", KINDS), ("certainty", CERTAINTIES)):
        if given[key] not in allowed:
            raise RecipeError(
                f"{where}.{key}", expected=" or ".join(allowed), got=repr(given[key]), fix="write one of these"
            )
    if not (isinstance(given["source"], str) and given["source"].strip()):
        fix = "say where the number is from; one without a source is no number"
        raise RecipeError(f"{where}.source", expected="a text", got=repr(given["source"]), fix=fix)
    includes = given.get("includes", [])
    if not isinstance(includes, list) or any(one not in _INCLUDED for one in includes):
        raise RecipeError(
            f"{where}.includes", expected=f"a list of {', '.join(_INCLUDED)}", got=repr(includes), fix="mend it"
        )
    scale = units[given["unit"]]
    return Constant(
        value=value * scale,
        low=low * scale,
        high=high * scale,
        includes=tuple(includes),
        **{key: given[key] for key in ("unit", "kind", "certainty", "source")},
    )


def _known(where: str, given: Mapping[str, Any], allowed: tuple[str, ...], *, required: tuple[str, ...]) -> None:
    for key in given:
        if key not in allowed:
            raise RecipeError(f"{where}: {key}", expected="a known key", got=f"'{key}'", fix=near(key, allowed))
    for key in required:
        if key not in given:
            raise RecipeError(where, expected=f"the key {key}", got="none", fix=f"add {key} = …")


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
