"""Tables whose settings come from a search over a small grid: the contenders, their grids, and the rows that came of it.

`benchmarks/tune_rules.py` tries what stands here, and a table's rows state what was tried, so the two cannot drift apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from aplysia.tables.base import Published, Row, Search
from aplysia.train.codec import override
from aplysia.train.recipe import AXES, Recipe

Axes = Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Contender:
    """A row before its search.

    Attributes:
        recipe: with everything that is not searched.
        group: of the row.
        axes: what is searched: a key as `--set` takes it, and its values; all combinations are tried.
        published: a value to stand beside it.
    """

    recipe: Recipe
    group: str
    axes: Axes = field(default_factory=dict)
    published: Published | None = None

    @property
    def trials(self) -> int:
        """How many combinations there are."""
        return math.prod(len(values) for values in self.axes.values())

    def grid(self) -> list[str]:
        """All combinations, each as `key=value key=value`."""
        keys = list(self.axes)
        return [
            " ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))
            for values in itertools.product(*self.axes.values())
        ]


@dataclass(frozen=True)
class Budget:
    """What every contender of a table got.

    Attributes:
        samples: training samples of a trial, a quarter of them held out.
        epochs: of a trial.
        record: its trials, as seen from the repository.
        seed: of all trials, one that no row has.
    """

    samples: int
    epochs: int
    record: str
    seed: int = 100


def rows(contenders: Mapping[str, Contender], tuned: Mapping[str, str], budget: Budget) -> tuple[Row, ...]:
    """A row for each contender, with the best of its grid where that is known.

    Args:
        contenders: by name.
        tuned: the best of each grid, as `Contender.grid` has it.
        budget: of the search.
    """
    return tuple(
        Row(
            name,
            override(one.recipe, tuned.get(name, "").split(), AXES),
            one.published,
            one.group,
            search=_search(one, budget) if name in tuned else None,
        )
        for name, one in contenders.items()
    )


def _search(one: Contender, budget: Budget) -> Search:
    space = tuple(f"{key}={','.join(f'{value:g}' for value in values)}" for key, values in one.axes.items())
    return Search(
        trials=one.trials,
        space=space,
        samples=budget.samples,
        epochs=budget.epochs,
        seed=budget.seed,
        record=budget.record,
    )
