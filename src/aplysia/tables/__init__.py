"""Tables that ship: one file each, found by walking this folder.

A table is a function without arguments, annotated `-> Table`; its name on the command line is the function's, with
hyphens. Your own needs no registration: `aplysia table path/to/file.py:function`, or a file in a folder of APLYSIA_PLUGINS.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from aplysia.errors import RecipeError, near
from aplysia.plugins import extra_folders, import_file
from aplysia.tables.base import Table
from aplysia.train.log import table as print_table

TableFunction = Callable[[], Table]


def tables() -> dict[str, TableFunction]:
    """Every table by its name on the command line: what ships, then what the user's plugin folders add."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    modules += [import_file(file) for folder in extra_folders() for file in sorted(folder.glob("*.py"))]
    found: dict[str, TableFunction] = {}
    for module in modules:
        for name, function in _functions(module).items():
            if found.setdefault(name, function) is not function:
                raise RecipeError(
                    f"table '{name}'",
                    expected="one function of this name",
                    got=f"two, from {found[name].__module__} and {module.__name__}",
                    fix="rename one of them",
                )
    return found


def find(text: str) -> Table:
    """The table called `text`: a name that ships or stands in a plugin folder, or `path/to/file.py:function`.

    Raises:
        RecipeError: nothing by that name, or a file that holds no such table.
    """
    if match := re.fullmatch(r"(.+\.py)(?::(\w+))?", text):
        file, known = Path(match[1]), _functions(import_file(Path(match[1])))
        name = (match[2] or (next(iter(known)) if len(known) == 1 else "")).replace("_", "-")
        if name not in known:
            raise RecipeError(
                f"table file {file}",
                expected="file.py:function with a function '-> Table' defined there",
                got=f"'{match[2]}'" if match[2] else "no function name",
                fix=near(name, known) if known else "define a function annotated -> Table",
            )
    else:
        name, known = text, tables()
        if name not in known:
            raise RecipeError(
                "table",
                expected="a name that ships or path/to/file.py:function",
                got=f"'{text}'",
                fix=near(text, known),
            )
    made = known[name]()
    if not isinstance(made, Table):
        raise RecipeError(
            f"table {text}", expected="a function that returns a Table", got=type(made).__name__, fix="return a Table"
        )
    return replace(made, name=name)


def show_tables() -> None:
    """Print every table: what it asks, and how many rows that takes."""
    made = {name: function() for name, function in sorted(tables().items())}
    rows = [[name, table.title, len(table.rows), table.baseline] for name, table in made.items()]
    print_table(rows, ["table", "what it asks", "rows", "baseline"])


def _functions(module: ModuleType) -> dict[str, TableFunction]:
    """The public functions of a module that say they return a Table."""
    return {
        name.replace("_", "-"): function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
        if str(function.__annotations__.get("return", "")).rpartition(".")[2].removesuffix("'>") == "Table"
    }
