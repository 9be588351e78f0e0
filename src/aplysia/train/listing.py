"""What `aplysia list` and `aplysia data` show, read from the things themselves."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from aplysia.credit.contract import AbstractSpatial, AbstractTemporal
from aplysia.data.base import AbstractDataset, FileState
from aplysia.data.catalogue import datasets
from aplysia.devices.base import AbstractDevice
from aplysia.errors import RecipeError, near
from aplysia.ledger.chip import chips
from aplysia.neurons.base import AbstractNeuron
from aplysia.plugins import catalogue
from aplysia.train.codec import describe
from aplysia.train.log import table
from aplysia.train.recipe import AXES, Recipe


def listings(recipe: str | None, recipes: dict[str, Callable[[], Recipe]]) -> dict[str, Callable[[], None]]:
    """Everything that can be listed, by name."""
    return {
        "rules": _rules,
        "temporal": partial(_summaries, AbstractTemporal),
        "neurons": partial(_summaries, AbstractNeuron),
        "devices": partial(_summaries, AbstractDevice),
        "recipes": partial(_recipes, recipe, recipes),
        "chips": _chips,
        "data": _data,
    }


def dataset(name: str) -> AbstractDataset:
    """The data set of this name, with its defaults."""
    known = datasets()
    if name not in known:
        raise RecipeError("data set", expected="a name that ships", got=f"'{name}'", fix=near(name, known))
    return known[name]()


def check_dataset(name: str, root: Path) -> bool:
    """Print the state of each file; whether all are there and none is known to be wrong."""
    reports = dataset(name).check(root)
    table(
        [[r.file, r.state.value, "" if r.size is None else f"{r.size:,}"] for r in reports],
        ["file", "state", "bytes"],
        f"{name} under {root}",
    )
    return all(r.state in (FileState.OK, FileState.UNVERIFIED) for r in reports)


def _rules() -> None:
    rows = []
    for name, rule in catalogue(AXES[AbstractSpatial], AbstractSpatial).items():
        claims = ", ".join(sorted(claim.name.lower() for claim in rule.claims))
        rows.append([name, rule.summary, claims or "none", f"{rule.paper.authors} {rule.paper.year}"])
    table(rows, ["rule", "what it does", "claims, each tested", "source"])


def _summaries(base: type) -> None:
    table([[name, part.summary] for name, part in catalogue(AXES[base], base).items()], ["name", "what it is"])


def _recipes(name: str | None, recipes: dict[str, Callable[[], Recipe]]) -> None:
    if name is None:
        rows = [[key, (make.__doc__ or "").split("\n")[0]] for key, make in recipes.items()]
        table(rows, ["recipe", "what it trains"])
        return
    if name not in recipes:
        raise RecipeError("recipe", expected="a name that ships", got=f"'{name}'", fix=near(name, recipes))
    table(describe(recipes[name](), AXES), ["key for --set", "value", "type"], name)


def _data() -> None:
    table([[name, d.summary, d.licence] for name, d in datasets().items()], ["data set", "what it is", "licence"])


def _chips() -> None:
    rows = []
    for name, chip in chips().items():
        sure = sorted({constant.certainty for constant in chip.operations.values()})
        rows.append([name, chip.summary, ", ".join(chip.operations) or "nothing", ", ".join(sure)])
    table(rows, ["chip", "what it is", "priced", "certainty"])
