"""Frozen dataclasses ↔ JSON ↔ `--set key=value`: the one place that knows how a recipe is written down.

A field declared with an abstract class (an axis: a rule, a neuron, a surrogate) is written as `{"kind": name, **fields}`.
Which folder an axis is searched in is passed in, so that nothing here knows any axis. Reading is strict: an unknown key,
a wrong type or a number that is not finite is refused with the dotted key it stands under.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path, PurePath
from typing import Any, Literal, NoReturn, TypeVar

from aplysia.errors import RecipeError, near
from aplysia.plugins import catalogue, name_of, noun, resolve

# Abstract base class of an axis -> the package or module that holds its classes.
Axes = Mapping[type, str]
T = TypeVar("T")

_NONE = type(None)
_NOTHING = object()
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def encode(obj: Any, axes: Axes) -> dict[str, Any]:
    """The settable fields of a dataclass as JSON-able data; `decode` gives an equal object back."""
    return _encode_fields(obj, "", axes)


def decode(cls: type[T], data: Any, axes: Axes) -> T:
    """The object that `encode` wrote. A field that is left out takes its default."""
    return _decode(cls, data, "", axes)


def override(obj: T, assignments: Iterable[str], axes: Axes) -> T:
    """A copy of `obj` with `key.sub=value` applied to it, in whatever order they are given.

    A new kind (`rule=direct_feedback`) starts from the defaults of its class; the kind that is there already stays as it
    is. All changes to one object are made at once, so that its own checks see only the result.
    """
    top = _Node()
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(
                f"--set {text}", expected="key=value", got="no '='", fix="write for example --set neuron.leak=0.9"
            )
        node = top
        for part in key.strip().split("."):
            node = node.subs.setdefault(part, _Node())
        if node.text is not None:
            raise RecipeError(key.strip(), expected="one value", got=f"'{node.text}' and '{value}'", fix="keep one of them")
        node.text = value
    return _change(type(obj), obj, top, "", axes)


def describe(obj: Any, axes: Axes) -> list[tuple[str, str, str]]:
    """Every key that can be set: (dotted key, value as `--set` would take it, type in words)."""
    return list(_rows(obj, "", axes))


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _fields(cls: type, key: str) -> dict[str, Any]:
    """Name → resolved type of the fields that can be set."""
    if not dataclasses.is_dataclass(cls):
        raise RecipeError(
            key or cls.__name__, expected="a dataclass", got=cls.__name__, fix="put @dataclass(frozen=True) above it"
        )
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init and not f.name.startswith("_")}


def _options(tp: Any) -> tuple[Any, ...]:
    return typing.get_args(tp) if typing.get_origin(tp) in (typing.Union, types.UnionType) else (tp,)


def _package(tp: Any, axes: Axes) -> str | None:
    """Where the classes of an axis live; an abstract class below an axis is that axis, narrowed."""
    if tp in axes:
        return axes[tp]
    if isinstance(tp, type) and (inspect.isabstract(tp) or tp.__name__.startswith("Abstract")):
        return next((package for base, package in axes.items() if issubclass(tp, base)), None)
    return None


def _is(tp: Any, x: Any, key: str, axes: Axes, *, coded: bool) -> bool:
    """Whether x, an object or (`coded`) the JSON of one, has the outer shape of the type."""
    if tp is _NONE:
        return x is None
    if tp is float:
        return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)
    if tp in (int, bool, str):
        return isinstance(x, tp) and (tp is not int or not isinstance(x, bool))
    if typing.get_origin(tp) is Literal:
        return any(x == choice and type(x) is type(choice) for choice in typing.get_args(tp))
    if typing.get_origin(tp) is tuple:
        return isinstance(x, list if coded else tuple)
    if isinstance(tp, type):
        if issubclass(tp, PurePath):
            return isinstance(x, str if coded else tp)
        if issubclass(tp, enum.Enum):
            return isinstance(x, str) and x in tp.__members__ if coded else isinstance(x, tp)
        if _package(tp, axes):
            return isinstance(x, dict) and isinstance(x.get("kind"), str) if coded else isinstance(x, tp)
        if dataclasses.is_dataclass(tp):
            return isinstance(x, dict) and "kind" not in x if coded else type(x) is tp
    raise RecipeError(
        key,
        expected="a field type that can be written down (numbers, text, tuples, dataclasses, axes, or none)",
        got=str(tp),
        fix="declare the field in another way",
    )


def _pick(tp: Any, x: Any, key: str, axes: Axes, *, coded: bool) -> Any:
    """The alternative of a union that x belongs to; for `int | float` the exact type goes first."""
    options = sorted(_options(tp), key=lambda option: option is not type(x))
    for option in options:
        if _is(option, x, key, axes, coded=coded):
            return option
    _wrong(tp, repr(x), key, axes)


def _items(tp: Any, count: int, key: str) -> list[Any]:
    """The types of a tuple's items."""
    args = typing.get_args(tp)
    if len(args) == 2 and args[1] is Ellipsis:
        return [args[0]] * count
    if count != len(args):
        raise RecipeError(
            key, expected=f"{len(args)} values", got=str(count), fix="give as many, separated by commas on the command line"
        )
    return list(args)


def _spell(tp: Any, axes: Axes) -> str:
    """A type in the user's words."""
    if len(options := _options(tp)) > 1:
        return " or ".join(_spell(option, axes) for option in options)
    if tp is _NONE:
        return "none"
    if typing.get_origin(tp) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(tp)))
    if typing.get_origin(tp) is tuple:
        args = typing.get_args(tp)
        many = len(args) == 2 and args[1] is Ellipsis
        return f"any number of ({_spell(args[0], axes)})" if many else f"({', '.join(_spell(a, axes) for a in args)})"
    if package := _package(tp, axes):
        return f"{noun(tp)} (one of {', '.join(catalogue(package, tp))})"
    if issubclass(tp, enum.Enum):
        return "one of " + ", ".join(tp.__members__)
    return "path" if issubclass(tp, PurePath) else tp.__name__


def _wrong(tp: Any, got: str, key: str, axes: Axes) -> NoReturn:
    finite = "finite " if float in _options(tp) else ""
    raise RecipeError(key or "recipe", expected=finite + _spell(tp, axes), got=got, fix="give a value of that type")


def _unknown(cls: type, name: str, key: str, known: Mapping[str, Any], deeper: Iterable[str] = ()) -> NoReturn:
    elsewhere = [k for k in deeper if k.rpartition(".")[2] == name]
    raise RecipeError(
        _join(key, name),
        expected=f"a field of {cls.__name__}" + (f" ({', '.join(known)})" if known else ", which has none"),
        got=f"'{name}'",
        fix=near(name, elsewhere or known) if elsewhere or known else "leave it out",
    )


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


# ── objects to JSON and back ─────────────────────────────────────────────────────────────────────────────────────────


def _encode_fields(obj: Any, key: str, axes: Axes) -> dict[str, Any]:
    fields = _fields(type(obj), key)
    return {name: _encode(tp, getattr(obj, name), _join(key, name), axes) for name, tp in fields.items()}


def _encode(tp: Any, x: Any, key: str, axes: Axes) -> Any:
    tp = _pick(tp, x, key, axes, coded=False)
    if tp is float:
        return float(x)
    if isinstance(x, PurePath):
        return str(x)
    if isinstance(x, enum.Enum):
        return x.name
    if isinstance(x, tuple):
        return [_encode(t, item, _join(key, str(i)), axes) for i, (t, item) in enumerate(zip(_items(tp, len(x), key), x))]
    if package := _package(tp, axes):
        return {"kind": name_of(type(x), package, tp), **_encode_fields(x, key, axes)}
    return _encode_fields(x, key, axes) if dataclasses.is_dataclass(x) else x


def _decode(tp: Any, data: Any, key: str, axes: Axes) -> Any:
    tp = _pick(tp, data, key, axes, coded=True)
    if tp is float:
        return float(data)
    if typing.get_origin(tp) is tuple:
        types_ = _items(tp, len(data), key)
        return tuple(_decode(t, item, _join(key, str(i)), axes) for i, (t, item) in enumerate(zip(types_, data)))
    if not isinstance(tp, type) or tp in (_NONE, int, bool, str):
        return data
    if issubclass(tp, PurePath):
        return tp(data)
    if issubclass(tp, enum.Enum):
        return tp[data]
    if package := _package(tp, axes):
        tp = resolve(data["kind"], package, tp, where=key)
        data = {name: value for name, value in data.items() if name != "kind"}
    fields = _fields(tp, key)
    for name in data:
        if name not in fields:
            _unknown(tp, name, key, fields)
    return _construct(tp, {n: _decode(fields[n], v, _join(key, n), axes) for n, v in data.items()}, key)


def _construct(cls: type, values: dict[str, Any], key: str) -> Any:
    for f in dataclasses.fields(cls):
        if f.init and f.name not in values and _default(f) is _NOTHING:
            raise RecipeError(
                _join(key, f.name), expected=f"a value, for {cls.__name__} has no default", got="nothing", fix="set it too"
            )
    return cls(**values)


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    return _NOTHING if f.default_factory is dataclasses.MISSING else f.default_factory()
