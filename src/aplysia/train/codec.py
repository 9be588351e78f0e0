"""Frozen dataclasses ↔ JSON ↔ `--set key=value`: the one place that knows how a recipe is written down.

A field declared with an abstract class (an axis: a rule, a neuron, a surrogate) is written `{"kind": name, **fields}`.
Which folder an axis is searched in is passed in, so that nothing here knows any axis. Reading is strict: an unknown
key, a wrong type or a number that is not finite is refused with the dotted key it stands under.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar

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

    A new kind (`rule=direct_feedback`) starts from the defaults of its class; the kind that is there already stays as
    it is. All changes to one object are made at once, so that its own checks see only the result.
    """
    top = _Node()
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals:
            raise RecipeError(
                f"--set {text}", expected="key=value", got="no '='", fix="write for example --set neuron.leak=0.9"
            )
        node = top
        first, *rest = key.strip().split(".")
        for part in (getattr(obj, "aliases", {}).get(first, first), *rest):
            node = node.subs.setdefault(part, _Node())
        if node.text is not None:
            raise RecipeError(
                key.strip(), expected="one value", got=f"'{node.text}' and '{value}'", fix="keep one of them"
            )
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
    """Where the classes of an axis live: as `axes` says, else in the file of the abstract class itself.

    An abstract class below an axis is that axis, narrowed.
    """
    if tp in axes:
        return axes[tp]
    if isinstance(tp, type) and (inspect.isabstract(tp) or tp.__name__.startswith("Abstract")):
        return next((package for base, package in axes.items() if issubclass(tp, base)), tp.__module__)
    return None


def _is(tp: Any, x: Any, key: str, axes: Axes, *, coded: bool) -> bool:
    """Whether x, an object or (`coded`) the JSON of one, has the outer shape of the type."""
    if tp is _NONE:
        return x is None
    if tp is float:
        return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) <= sys.float_info.max
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
            return isinstance(x, dict) if coded else type(x) is tp
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
    raise _wrong(tp, repr(x), key, axes)


def _items(tp: Any, count: int, key: str) -> list[Any]:
    """The types of a tuple's items."""
    args = typing.get_args(tp)
    if len(args) == 2 and args[1] is Ellipsis:
        return [args[0]] * count
    if count != len(args):
        raise RecipeError(
            key,
            expected=f"{len(args)} values",
            got=str(count),
            fix="give as many, separated by commas on the command line",
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
    if not isinstance(tp, type):
        return str(tp)
    if issubclass(tp, enum.Enum):
        return "one of " + ", ".join(tp.__members__)
    return "path" if issubclass(tp, PurePath) else tp.__name__


def _wrong(tp: Any, got: str, key: str, axes: Axes) -> RecipeError:
    finite = "finite " if float in _options(tp) else ""
    return RecipeError(key or "recipe", expected=finite + _spell(tp, axes), got=got, fix="give a value of that type")


def _unknown(cls: type, name: str, key: str, known: Mapping[str, Any], deeper: Iterable[str] = ()) -> RecipeError:
    elsewhere = [k for k in deeper if k.rpartition(".")[2] == name]
    return RecipeError(
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
        return [
            _encode(t, item, _join(key, str(i)), axes)
            for i, (t, item) in enumerate(zip(_items(tp, len(x), key), x, strict=True))
        ]
    if package := _package(tp, axes):
        fields = _encode_fields(x, key, axes)
        if "kind" in fields:
            raise RecipeError(key, expected="no field of the name 'kind'", got=type(x).__name__, fix="rename the field")
        return {"kind": name_of(type(x), package, tp), **fields}
    return _encode_fields(x, key, axes) if dataclasses.is_dataclass(x) else x


def _decode(tp: Any, data: Any, key: str, axes: Axes) -> Any:
    tp = _pick(tp, data, key, axes, coded=True)
    if tp is float:
        return float(data)
    if typing.get_origin(tp) is tuple:
        types_ = _items(tp, len(data), key)
        return tuple(
            _decode(t, item, _join(key, str(i)), axes) for i, (t, item) in enumerate(zip(types_, data, strict=True))
        )
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
            raise _unknown(tp, name, key, fields)
    return _construct(tp, {n: _decode(fields[n], v, _join(key, n), axes) for n, v in data.items()}, key)


def _construct(cls: type, values: dict[str, Any], key: str) -> Any:
    for f in dataclasses.fields(cls):
        if f.init and f.name not in values and _default(f) is _NOTHING:
            raise RecipeError(
                _join(key, f.name),
                expected=f"a value, for {cls.__name__} has no default",
                got="nothing",
                fix="set it too",
            )
    return cls(**values)


def _default(f: dataclasses.Field[Any]) -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    return _NOTHING if f.default_factory is dataclasses.MISSING else f.default_factory()


# ── text to values ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Node:
    """What is assigned to one key: a text to itself, and what stands below it."""

    text: str | None = None
    subs: dict[str, _Node] = field(default_factory=dict)


def _parse(tp: Any, text: str, axes: Axes) -> Any:
    """The JSON data a text means for one type (for a tuple, its items' texts); `_NOTHING` when it means none."""
    word = text.strip()
    if tp is _NONE:
        return None if word.lower() in ("none", "null") else _NOTHING
    if tp is bool:
        return _TRUTH.get(word.lower(), _NOTHING)
    if tp in (int, float):
        try:
            number = float(word)
        except ValueError:
            return _NOTHING
        if tp is float:
            return number
        exact = Decimal(word)
        whole = exact.is_finite() and exact.adjusted() < 40 and exact == exact.to_integral_value()
        return int(exact) if whole else _NOTHING
    if typing.get_origin(tp) is Literal:
        return next((choice for choice in typing.get_args(tp) if str(choice) == word), _NOTHING)
    if typing.get_origin(tp) is tuple:
        inner = word[1:-1] if (word[:1], word[-1:]) in (("(", ")"), ("[", "]")) else word
        return [] if inner.strip().lower() in ("", "none", "null") else inner.removesuffix(",").split(",")
    if isinstance(tp, type) and issubclass(tp, enum.Enum):
        return next((name for name in tp.__members__ if name.lower() == word.lower()), _NOTHING)
    if isinstance(tp, type) and issubclass(tp, PurePath):
        return str(Path(word).expanduser())
    if _package(tp, axes):
        return word
    return text if tp is str else _NOTHING


def _read(tp: Any, text: str, key: str, axes: Axes) -> tuple[Any, Any]:
    """The alternative of a type that a text means, and the data; what takes any text is asked last."""

    def rank(option: Any) -> int:
        if option is str or _package(option, axes) or (isinstance(option, type) and issubclass(option, PurePath)):
            return 2
        # 1e3 is a whole number where only that is asked for, and a float where both will do.
        return int(option is int and re.fullmatch(r"\s*[+-]?[\d_]+\s*", text) is None)

    for option in sorted(_options(tp), key=rank):
        data = _parse(option, text, axes)
        if data is not _NOTHING:
            return option, data
    raise _wrong(tp, f"'{text}'", key, axes)


def _apply(tp: Any, node: _Node, now: tuple[Any, ...], key: str, axes: Axes) -> Any:
    """The new value of a field; `now` is its value, then others that may be kept if they are of the kind asked for."""
    if node.text is None:
        return _below(tp, node, now[0], key, axes)
    option, data = _read(tp, node.text, key, axes)
    if typing.get_origin(option) is tuple:
        nodes = [_Node(text) for text in data]
        for i, sub in _indexed(node, len(nodes), key):
            if sub.text is not None:
                raise RecipeError(
                    _join(key, str(i)), expected="one value", got=f"one in {key} too", fix="keep one of them"
                )
            nodes[i].subs = sub.subs
        old = now[0] if isinstance(now[0], tuple) else ()
        kept = [(*old[i : i + 1], *old, _NOTHING) for i in range(len(nodes))]
        items = zip(_items(option, len(nodes), key), nodes, kept, strict=True)
        return tuple(_apply(t, n, k, _join(key, str(i)), axes) for i, (t, n, k) in enumerate(items))
    if package := _package(option, axes):
        cls = resolve(data, package, option, where=key)
        return _change(cls, next((value for value in now if type(value) is cls), None), node, key, axes)
    value = _decode(option, data, key, axes)
    return _below(tp, node, value, key, axes) if node.subs else value


def _below(tp: Any, node: _Node, value: Any, key: str, axes: Axes) -> Any:
    """The value with what is assigned below its key, the key itself being left as it is."""
    if isinstance(value, tuple):
        items, types_ = list(value), _items(_pick(tp, value, key, axes, coded=False), len(value), key)
        for i, sub in _indexed(node, len(items), key):
            items[i] = _apply(types_[i], sub, (items[i],), _join(key, str(i)), axes)
        return tuple(items)
    if dataclasses.is_dataclass(value):
        return _change(type(value), value, node, key, axes)
    for option in _options(tp):
        if (
            (value is None or value is _NOTHING)
            and node.text is None
            and dataclasses.is_dataclass(option)
            and not _package(option, axes)
        ):
            return _change(typing.cast(type, option), None, node, key, axes)
    raise RecipeError(
        _join(key, next(iter(node.subs))),
        expected=f"{key} to have fields",
        got="nothing set yet" if value is _NOTHING else f"{key}={_text(tp, value, axes)}",
        fix=f"set {key} too" if value is None or value is _NOTHING else f"end the key at {key}",
    )


def _indexed(node: _Node, count: int, key: str) -> list[tuple[int, _Node]]:
    for name in node.subs:
        if not (name.isdecimal() and int(name) < count):
            raise RecipeError(
                _join(key, name),
                expected=f"a position in {key}, which holds {count}",
                got=f"'{name}'",
                fix="count from 0",
            )
    return [(int(name), sub) for name, sub in node.subs.items()]


def _change(cls: type, now: Any, node: _Node, key: str, axes: Axes) -> Any:
    """`now`, or a new object of the class where there is none, with what is assigned below its key."""
    fields = _fields(cls, key)
    defaults = {f.name: f for f in dataclasses.fields(cls)}
    values = {}
    for name, sub in node.subs.items():
        if name not in fields:
            raise _unknown(cls, name, key, fields, [k for k, _, _ in _rows(now, key, axes)] if now is not None else ())
        present = _default(defaults[name]) if now is None else getattr(now, name)
        values[name] = _apply(fields[name], sub, (present,), _join(key, name), axes)
    if now is None:
        return _construct(cls, values, key)
    return dataclasses.replace(now, **values) if values else now


# ── values to text ───────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(obj: Any, key: str, axes: Axes) -> Iterable[tuple[str, str, str]]:
    for name, tp in _fields(type(obj), key).items():
        yield from _row(tp, getattr(obj, name), _join(key, name), axes)


def _row(tp: Any, x: Any, key: str, axes: Axes) -> Iterable[tuple[str, str, str]]:
    option = _pick(tp, x, key, axes, coded=False)
    if _package(option, axes) or not dataclasses.is_dataclass(x):
        yield key, _text(tp, x, axes), _spell(tp, axes)
    if dataclasses.is_dataclass(x):
        yield from _rows(x, key, axes)
    elif isinstance(x, tuple) and any(map(dataclasses.is_dataclass, x)):
        for i, (t, item) in enumerate(zip(_items(option, len(x), key), x, strict=True)):
            yield from _row(t, item, _join(key, str(i)), axes)


def _text(tp: Any, x: Any, axes: Axes) -> str:
    """A value as `--set` takes it."""
    option = _pick(tp, x, "", axes, coded=False)
    if isinstance(x, tuple):
        empty = "()" if _NONE in _options(tp) else "none"
        items = zip(_items(option, len(x), ""), x, strict=True)
        return ",".join(_text(t, item, axes) for t, item in items) or empty
    if package := _package(option, axes):
        return name_of(type(x), package, option)
    if isinstance(x, enum.Enum):
        return x.name
    return str(x).lower() if x is None or isinstance(x, bool) else str(x)
