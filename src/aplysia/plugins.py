"""Discovery, once for every axis: one new rule, neuron or data set is one new file and no edit elsewhere.

A package folder is walked, every module in it is imported (an import error is reported, never skipped), and the final
classes found there become the names a user can write. A user's own files count as well, named by path or put into a
folder listed in the environment variable APLYSIA_PLUGINS.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from aplysia.errors import RecipeError, near

FOLDERS = "APLYSIA_PLUGINS"

# Module name of each user file that was loaded -> the file. A file is loaded once per process: an edit in the middle
# of a run must not swap classes under it.
_files: dict[str, Path] = {}


def noun(base: type) -> str:
    """What a user calls an axis: `surrogate` for AbstractSurrogate."""
    return _snake(base.__name__.removeprefix("Abstract"))


def walk(package: ModuleType | str, base: type) -> dict[str, type]:
    """The final subclasses of `base` that a package holds, by name.

    A class that is alone in its file is called as the file; else, and in a plain module, it is called by its own name
    in snake case, less the name of the axis (`SoftReset` of `AbstractReset` is `soft`).
    """
    top = importlib.import_module(package) if isinstance(package, str) else package
    if not hasattr(top, "__path__"):
        return _by_class(_finals(top, base), base)
    found: dict[str, type] = {}
    for info in pkgutil.iter_modules(top.__path__):
        module = importlib.import_module(f"{top.__name__}.{info.name}")
        for name, cls in _named(module, info.name, base).items():
            _add(found, name, cls, base)
    return found


def load_file(path: Path, base: type) -> dict[str, type]:
    """The final subclasses of `base` in one user file, named as `walk` names them."""
    file = Path(path).expanduser().resolve()
    found = _named(_module(file), file.stem, base)
    if not found:
        raise RecipeError(
            str(path),
            expected=f"a class derived from {base.__name__} that leaves no method abstract",
            got="none in this file",
            fix=f"define one, or choose a file that holds a {noun(base)}",
        )
    return found


def import_file(path: Path) -> ModuleType:
    """A user's file as a module, loaded once per process; what it defines can be named by its path from then on."""
    return _module(Path(path).expanduser().resolve())


def source_of(cls: type) -> Path | None:
    """The user file a class was loaded from; None for a class that is imported in the ordinary way."""
    return _files.get(cls.__module__)


def extra_folders() -> list[Path]:
    """The folders named in APLYSIA_PLUGINS."""
    folders = [Path(text).expanduser().resolve() for text in os.environ.get(FOLDERS, "").split(os.pathsep) if text]
    for folder in folders:
        if not folder.is_dir():
            raise RecipeError(
                FOLDERS,
                expected="folders that exist",
                got=f"'{folder}'",
                fix="create it, or take it out of the variable",
            )
    return folders


def catalogue(package: ModuleType | str, base: type) -> dict[str, type]:
    """Every name of an axis: what ships, then what the user's plugin folders add. No name may stand for two classes."""
    found = walk(package, base)
    for folder in extra_folders():
        for file in sorted(folder.glob("*.py")):
            for name, cls in _named(_module(file), file.stem, base).items():
                _add(found, name, cls, base)
    return dict(sorted(found.items()))


def resolve(text: str, package: ModuleType | str, base: type, *, where: str | None = None) -> type:
    """The class a user means by a name, by `path/to/file.py`, or by `path/to/file.py:ClassName`.

    Args:
        text: what the user wrote.
        package: where the shipped classes of this axis live.
        base: the abstract class of this axis.
        where: the recipe key it was written for, for the error sentence.
    """
    where = where or noun(base)
    if match := re.fullmatch(r"(.+\.py)(?::(\w+))?", text):
        return _from_file(Path(match[1]), match[2], base)
    known = catalogue(package, base)
    if text in known:
        return known[text]
    # The full name of a class is as good as the short one: soft_reset for soft.
    for cls in known.values():
        if _snake(cls.__name__) == text:
            return cls
    raise RecipeError(
        where, expected=f"the name of a {noun(base)}, or a path ending in .py", got=f"'{text}'", fix=near(text, known)
    )


def name_of(cls: type, package: ModuleType | str, base: type) -> str:
    """What to write to get this class again: its short name, or `/path/file.py:ClassName` for a user's own file."""
    file = source_of(cls)
    if file is not None and file.parent not in extra_folders():
        return f"{file}:{cls.__name__}"
    known = walk(package, base) if file is None else load_file(file, base)
    for name, other in known.items():
        if other is cls:
            return name
    raise RecipeError(
        noun(base),
        expected=f"a class from {package if isinstance(package, str) else package.__name__} or from a plugin file",
        got=f"{cls.__module__}.{cls.__qualname__}",
        fix=f"put it into a file of its own and name that file, or the folder of it in {FOLDERS}",
    )


def _from_file(path: Path, choice: str | None, base: type) -> type:
    classes = {cls.__name__: cls for cls in load_file(path, base).values()}
    if choice is not None:
        if choice in classes:
            return classes[choice]
        raise RecipeError(
            str(path), expected=f"a class derived from {base.__name__}", got=f"'{choice}'", fix=near(choice, classes)
        )
    if len(classes) > 1:
        raise RecipeError(
            str(path),
            expected=f"one class derived from {base.__name__}",
            got=f"{len(classes)}: {', '.join(sorted(classes))}",
            fix=f"choose one by '{path}:{min(classes)}'",
        )
    return next(iter(classes.values()))


def _module(file: Path) -> ModuleType:
    """Import a file by its path, under a name made of that path, known to `sys.modules` so that its classes pickle."""
    digest = hashlib.blake2b(str(file).encode(), digest_size=6).hexdigest()
    name = f"aplysia_file_{file.stem}_{digest}".replace(".", "_")
    if name in _files:
        return sys.modules[name]
    if not file.is_file():
        raise RecipeError(str(file), expected="a Python file", got="no such file", fix="check the path")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise RecipeError(
            f"{file}, line {_line(error, file)}",
            expected="a file that can be imported",
            got=f"{type(error).__name__}: {error}",
            fix="mend the file",
        ) from error
    except BaseException:
        del sys.modules[name]
        raise
    _files[name] = file
    return module


def _line(error: Exception, file: Path) -> int | str:
    """The line of `file` in which an import of it went wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return error.lineno or "?"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    return (lines[-1] if lines else None) or "?"


def _finals(module: ModuleType, base: type) -> list[type]:
    """Classes defined in this very module that derive from `base` and can be instantiated."""
    members = {id(member): member for member in vars(module).values() if isinstance(member, type)}
    return [
        cls
        for cls in members.values()
        if issubclass(cls, base) and cls is not base and cls.__module__ == module.__name__
        if not inspect.isabstract(cls) and not cls.__name__.startswith(("Abstract", "_"))
    ]


def _named(module: ModuleType, stem: str, base: type) -> dict[str, type]:
    finals = _finals(module, base)
    if len(finals) == 1 and stem != "base" and not stem.startswith("_"):
        return {stem: finals[0]}
    return _by_class(finals, base)


def _by_class(classes: list[type], base: type) -> dict[str, type]:
    found: dict[str, type] = {}
    suffix = base.__name__.removeprefix("Abstract")
    for cls in classes:
        _add(found, _snake(cls.__name__.removesuffix(suffix) or cls.__name__), cls, base)
    return found


def _add(found: dict[str, type], name: str, cls: type, base: type) -> None:
    if found.setdefault(name, cls) is cls:
        return
    places = [source_of(c) or c.__module__ for c in (found[name], cls)]
    raise RecipeError(
        f"{noun(base)} '{name}'",
        expected="one class of this name",
        got=f"two, from {places[0]} and {places[1]}",
        fix="rename one of them",
    )


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
