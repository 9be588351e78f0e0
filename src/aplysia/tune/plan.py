"""What a search is: rules, each with a recipe and a space, and one budget for all of them. `study.json` holds it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from aplysia.errors import RecipeError, RunError
from aplysia.tables.base import slug
from aplysia.train.codec import decode, describe, encode, override
from aplysia.train.folder import RunFolder
from aplysia.train.recipe import AXES, Recipe
from aplysia.tune.space import Range, Space, assignment

STUDY, VERSION = "study.json", 1


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What every rule gets.

    Attributes:
        trials: per rule.
        seed: of the sampler and of every trial's run.
        samples: size of the part of the training set that a trial uses, what is held out included; None: the recipe's.
        epochs: per trial.
        validation: share that is held out, by which settings are chosen.
        pruning: whether a trial below the median of the rule's trials so far is ended early.
    """

    trials: int
    seed: int
    samples: int | None
    epochs: int
    validation: float
    pruning: bool

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise RecipeError("--trials", expected="a whole number ≥ 1", got=str(self.trials), fix="use 10")
        if not 0.0 < self.validation <= 0.9:
            raise RecipeError(
                "--validation",
                expected="a share in (0, 0.9], since settings are chosen by it",
                got=f"{self.validation:g}",
                fix="use 0.25",
            )


@dataclass(frozen=True)
class Contender:
    """One rule in a search.

    Attributes:
        name: of the rule, as `--rules` takes it.
        recipe: the whole recipe with that rule.
        space: what is searched.
    """

    name: str
    recipe: Recipe
    space: Space

    @property
    def slug(self) -> str:
        """Its folder's name."""
        return slug(self.name)

    def settings(self, values: Mapping[str, float]) -> list[str]:
        """`key=value` for each key of the space."""
        return [assignment(key, values[key], interval) for key, interval in self.space.items()]

    def best(self, values: Mapping[str, float]) -> Recipe:
        """The recipe with these settings, its own epochs, samples and seed left as they are."""
        return override(self.recipe, self.settings(values), AXES)

    def tried(self, values: Mapping[str, float], budget: Budget) -> Recipe:
        """What a trial trains."""
        samples = self.recipe.train_samples if budget.samples is None else budget.samples
        return replace(
            self.best(values),
            seed=budget.seed,
            epochs=budget.epochs,
            train_samples=samples,
            validation=budget.validation,
            probe=None,
        )

    def start(self) -> dict[str, float]:
        """The recipe's own values of the keys searched, as far as they lie in their intervals: the first trial."""
        now = {key: text for key, text, _ in describe(self.recipe, AXES) if key in self.space}
        numbers = {key: float(text) for key, text in now.items() if text != "none"}
        return {key: x for key, x in numbers.items() if self.space[key].holds(x)}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A search.

    Attributes:
        contenders: the rules, in order.
        budget: of each.
        token: tells this search from others in a data base they share.
    """

    contenders: tuple[Contender, ...]
    budget: Budget
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __post_init__(self) -> None:
        names = [one.slug for one in self.contenders]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise RecipeError("--rules", expected="each rule once", got=f"'{min(twice)}' twice", fix="leave one out")

    @property
    def name(self) -> str:
        """Of the recipe."""
        return self.contenders[0].recipe.name

    def as_json(self) -> dict[str, Any]:
        """For `study.json`; `from_json` reads it."""
        return {
            "version": VERSION,
            "recipe": self.name,
            "token": self.token,
            "budget": asdict(self.budget),
            "rules": {
                one.name: {
                    "space": {key: asdict(interval) for key, interval in one.space.items()},
                    "recipe": encode(one.recipe, AXES),
                }
                for one in self.contenders
            },
        }

    @classmethod
    def from_json(cls, path: Path, data: Any) -> Plan:
        """The plan that `as_json` wrote, whatever else stands beside it."""
        try:
            if data["version"] > VERSION:
                raise RunError(
                    str(path),
                    expected=f"version {VERSION} or older",
                    got=str(data["version"]),
                    fix="use a newer Aplysia",
                )
            contenders = tuple(
                Contender(
                    name,
                    decode(Recipe, part["recipe"], AXES),
                    {key: Range(**interval) for key, interval in part["space"].items()},
                )
                for name, part in data["rules"].items()
            )
            return cls(contenders=contenders, budget=Budget(**data["budget"]), token=data["token"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RunError(
                str(path), expected="the plan of a search", got=f"damage ({error!r})", fix="choose another --out"
            ) from error


def load(out: Path) -> Plan | None:
    """The search that was begun in this folder; None where there is none."""
    if not (out / STUDY).is_file():
        return None
    return Plan.from_json(out / STUDY, RunFolder(out).read_json(STUDY))


def joined(begun: Plan, asked: Plan, out: Path) -> Plan:
    """The search that was begun, with more trials or further rules where they are asked for.

    Raises:
        RunError: anything else differs, since trials of two budgets or spaces cannot be compared.
    """

    def refuse(what: str, expected: object, got: object) -> RunError:
        return RunError(
            str(out),
            expected=f"the {what} the search here was begun with ({expected})",
            got=f"{got}",
            fix="repeat it, or choose another --out",
        )

    for key, was in asdict(begun.budget).items():
        now = getattr(asked.budget, key)
        if key != "trials" and now != was:
            raise refuse(key, was, now)
    there = {one.name: one for one in begun.contenders}
    common = _flat_recipe(begun.contenders[0].recipe)
    for one in asked.contenders:
        old = there.get(one.name)
        recipe = _flat_recipe(one.recipe)
        differing = [key for key in common if recipe.get(key) != common[key]]
        if differing or (old is not None and old.recipe != one.recipe):
            keys = ", ".join(differing) or "rule"
            raise refuse("recipe", begun.name, f"other settings of {keys}")
        if old is not None and dict(old.space) != dict(one.space):
            raise refuse(f"space of {one.name}", _told(old.space), _told(one.space))
    more = tuple(one for one in asked.contenders if one.name not in there)
    trials = max(begun.budget.trials, asked.budget.trials)
    return replace(begun, contenders=begun.contenders + more, budget=replace(begun.budget, trials=trials))


def _flat_recipe(recipe: Recipe) -> dict[str, Any]:
    """What all rules of a search share."""
    return {key: value for key, value in encode(recipe, AXES).items() if key != "rule"}


def _told(space: Space) -> str:
    return " ".join(texts(space))


def texts(space: Space) -> Sequence[str]:
    """`key=LOW:HIGH[:log]` for each key."""
    return [f"{key}={interval.text}" for key, interval in space.items()]
