"""What rows and a report are called where no table names them: by what their recipes differ in.

Recipes are flat here: dotted key → value, see `cells.flat`.
"""

from __future__ import annotations

from typing import Any

_PARTS = ("rule", "data", "temporal", "neuron")
_EXACT = "symmetric"  # the rule that is backpropagation


def names_of(recipes: list[dict[str, Any]]) -> list[str]:
    """Rules by name, and beside them what differs between recipes of the same rule."""
    names = []
    for recipe in recipes:
        alike = [other for other in recipes if other.get("rule") == recipe.get("rule")]
        keys = [key for key in _differing(alike) if key in recipe]
        shown = [stem(recipe[key]) if key in _PARTS else f"{key.rpartition('.')[2]}={recipe[key]}" for key in keys]
        names.append(", ".join([stem(recipe.get("rule", "?")), *shown]))
    return names


def unique(names: list[str]) -> list[str]:
    """Different recipes that came out with one name are numbered."""
    return [f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def exact(names: list[str], recipes: list[dict[str, Any]]) -> str:
    """The row of backpropagation where there is one and no other; else nothing."""
    found = [name for name, recipe in zip(names, recipes, strict=True) if recipe.get("rule") == _EXACT]
    return found[0] if len(found) == 1 and len(names) > 1 else ""


def question(recipes: list[dict[str, Any]], data: str) -> str:
    """In one line: what the recipes differ in."""
    keys = [key for key in _differing(recipes) if key not in ("name", "data")]
    # The fields of a part say nothing where the part itself is another.
    keys = [key for key in keys if not any(key.startswith(f"{part}.") for part in keys)]
    if not keys:
        return f"What does {stem(recipes[0].get('rule', 'this rule'))} reach on {data}?"
    shown, rest = keys[:3], len(keys) - 3
    shown += [f"{rest} more settings" if rest > 1 else keys[3]] if rest > 0 else []
    told = " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
    return f"What {'do' if len(shown) > 1 else 'does'} {told} change on {data}?"


def _differing(recipes: list[dict[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    return [key for key in keys if len({str(recipe.get(key)) for recipe in recipes}) > 1]


def stem(value: Any) -> str:
    """A part by its name; one of a user's own file without the folders."""
    return str(value).rpartition("/")[2]
