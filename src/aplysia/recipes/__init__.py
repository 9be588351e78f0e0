"""Recipes that ship: one function each, found by walking this folder.

A recipe is a function without arguments that returns a `Recipe`; its name on the command line is the function's, with
hyphens. Your own needs no registration: `aplysia run path/to/file.py:function`. A recipe that was written down, such as the
`recipe.json` of a run, is taken by its path too.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

from aplysia.errors import RecipeError, near
from aplysia.train.codec import decode
from aplysia.train.recipe import AXES, Recipe

RecipeFunction = Callable[[], Recipe]


def recipes() -> dict[str, RecipeFunction]:
    """Every recipe that ships, by its name on the command line."""
    found: dict[str, RecipeFunction] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = importlib.import_module(f"{__name__}.{module.name}")
        for name, function in inspect.getmembers(loaded, inspect.isfunction):
            if function.__module__ == loaded.__name__ and not name.startswith("_"):
                found[name.replace("_", "-")] = function
    return found


def find(text: str) -> Recipe:
    """The recipe called `text`: a name that ships, `path/to/file.py:function`, or `path/to/recipe.json`.

    Raises:
        RecipeError: nothing by that name, or a file that holds no such recipe.
    """
    if text.endswith(".json"):
        return _written(Path(text).expanduser())
    if ".py" in text:
        return _from_file(text)
    known = recipes()
    if text not in known:
        raise RecipeError(
            "recipe",
            expected="a name that ships, path/to/file.py:function or path/to/recipe.json",
            got=f"'{text}'",
            fix=near(text, known),
        )
    return known[text]()


def _written(path: Path) -> Recipe:
    if not path.is_file():
        raise RecipeError("recipe file", expected="an existing file", got=f"'{path}'", fix="check the path")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, OSError) as problem:
        raise RecipeError(
            f"recipe file {path}",
            expected="JSON",
            got=str(problem),
            fix="name the recipe.json of a run, or a best.json",
        ) from problem
    if not isinstance(data, dict):
        raise RecipeError(
            f"recipe file {path}",
            expected="one JSON object",
            got=type(data).__name__,
            fix="name the recipe.json of a run, or a best.json",
        )
    try:
        return decode(Recipe, data, AXES)
    except RecipeError as error:
        raise RecipeError(
            f"recipe file {path}, {error.where}", expected=error.expected, got=error.got, fix=error.fix
        ) from error


def _from_file(text: str) -> Recipe:
    path_text, _, function_name = text.partition(".py")
    path, function_name = Path(path_text + ".py"), function_name.removeprefix(":")
    if not path.is_file():
        raise RecipeError("recipe file", expected="an existing file", got=f"'{path}'", fix="check the path")
    spec = importlib.util.spec_from_file_location(f"aplysia_recipe_{path.stem}", path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as problem:
        raise RecipeError(
            f"recipe file {path}",
            expected="a file that imports",
            got=f"{type(problem).__name__}: {problem}",
            fix="mend the file",
        ) from problem
    own = {
        n: f
        for n, f in inspect.getmembers(module, inspect.isfunction)
        if f.__module__ == spec.name and not n.startswith("_")
    }
    if not function_name and len(own) == 1:
        function_name = next(iter(own))
    if function_name not in own:
        raise RecipeError(
            f"recipe file {path}",
            expected="file.py:function with a function defined there",
            got=f"'{function_name}'" if function_name else "no function name",
            fix=near(function_name, own) if own else "define a function that returns a Recipe",
        )
    recipe = own[function_name]()
    if not isinstance(recipe, Recipe):
        raise RecipeError(
            f"recipe {text}",
            expected="a function that returns a Recipe",
            got=type(recipe).__name__,
            fix="return aplysia.Recipe(...)",
        )
    return recipe
