"""What a search leaves: `study.json`, `trials.csv`, a `best.json` for each rule, and the table that is printed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aplysia.errors import RunError, near
from aplysia.tables.base import Search
from aplysia.train.codec import encode
from aplysia.train.folder import RunFolder, write_atomic
from aplysia.train.recipe import AXES
from aplysia.tune.bench import STARTUP, Outcome
from aplysia.tune.plan import STUDY, Contender, Plan, texts

BEST, TRIALS = "best.json", "trials.csv"
COLUMNS = ("rule", "best held-out %", "settings", "trial", "done", "pruned", "failed")


@dataclass(frozen=True)
class Standing:
    """How one rule stands.

    Attributes:
        contender: the rule.
        best: the trial of the highest held-out accuracy, the first of equal ones; None: none that learnt.
        counts: trials by state.
    """

    contender: Contender
    best: Outcome | None
    counts: Mapping[str, int]

    @property
    def edges(self) -> list[str]:
        """Keys whose best value lies at an end of its interval, so that a better one may lie beyond."""
        if self.best is None:
            return []
        return [key for key, interval in self.contender.space.items() if interval.near_end(self.best.values[key])]


def standings(plan: Plan, outcomes: Sequence[Outcome]) -> list[Standing]:
    """One for each rule, in the plan's order."""
    made = []
    for one in plan.contenders:
        own = [outcome for outcome in outcomes if outcome.rule == one.name]
        done = [outcome for outcome in own if outcome.state == "done"]
        best = max(done, key=lambda outcome: (outcome.accuracy or 0.0, -outcome.number), default=None)
        states = ("done", "pruned", "failed", "running")
        made.append(Standing(one, best, {state: sum(o.state == state for o in own) for state in states}))
    return made


def write(plan: Plan, outcomes: Sequence[Outcome], out: Path) -> list[str]:
    """Write the files; the names of those written."""
    rows = standings(plan, outcomes)
    stored = plan.as_json() | {"sampler": {"kind": "TPE", "random_trials": STARTUP}}
    if plan.budget.pruning:
        stored["pruner"] = {"kind": "median", "after_trials": STARTUP, "after_epochs": plan.budget.epochs // 4}
    for row in rows:
        stored["rules"][row.contender.name] |= {"trials": dict(row.counts), "best": _best(row)}
    names = [STUDY, TRIALS]
    write_atomic(out / STUDY, json.dumps(stored, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_atomic(out / TRIALS, _csv(plan, outcomes))
    for row in rows:
        if row.best is not None:
            recipe = encode(row.contender.best(row.best.values), AXES)
            (out / row.contender.slug).mkdir(exist_ok=True)
            write_atomic(out / row.contender.slug / BEST, json.dumps(recipe, indent=1, allow_nan=False) + "\n")
            names.append(f"{row.contender.slug}/{BEST}")
    return names


def stated(study: Path, rule: str, record: str) -> Search:
    """What a table says of a row whose settings this search found, from its `study.json`.

    Raises:
        RunError: the file is none, or the rule was not searched for.
    """
    plan = Plan.from_json(study, RunFolder(study.parent).read_json(study.name))
    found = {one.name: one for one in plan.contenders}
    if rule not in found:
        raise RunError(str(study), expected="a rule that was searched for", got=f"'{rule}'", fix=near(rule, found))
    samples = found[rule].recipe.train_samples if plan.budget.samples is None else plan.budget.samples
    return Search(
        trials=plan.budget.trials,
        space=tuple(texts(found[rule].space)),
        samples=samples,
        epochs=plan.budget.epochs,
        seed=plan.budget.seed,
        record=record,
    )


def lines(rows: Sequence[Standing]) -> list[list[Any]]:
    """One list of cells per rule."""
    return [
        [
            row.contender.name,
            "none" if row.best is None or row.best.accuracy is None else f"{100 * row.best.accuracy:.2f}",
            "" if row.best is None else " ".join(f"{key}={x:.4g}" for key, x in row.best.values.items()),
            "" if row.best is None else row.best.number,
            *(row.counts[state] for state in ("done", "pruned", "failed")),
        ]
        for row in rows
    ]


def footnotes(plan: Plan, rows: Sequence[Standing], outcomes: Sequence[Outcome]) -> list[str]:
    """What stands below the table: budget, spaces, what failed, best values at an end of their interval."""
    budget = plan.budget
    samples = plan.contenders[0].recipe.train_samples if budget.samples is None else budget.samples
    size = "all" if samples is None else f"{samples:,}"
    notes = [
        f"trials a rule: {budget.trials}; epochs: {budget.epochs}; training samples: {size}, {budget.validation:.0%} of them "
        f"held out; seed: {budget.seed}; median pruning: {'on' if budget.pruning else 'off'}"
    ]
    spaces: dict[str, list[str]] = {}
    for row in rows:
        spaces.setdefault(" ".join(texts(row.contender.space)), []).append(row.contender.name)
    notes += [f"searched for {', '.join(names)}: {space}" for space, names in spaces.items()]
    notes += [
        f"{row.contender.name}: the best {' and '.join(row.edges)} lies at an end of its range; a better one may lie beyond"
        for row in rows
        if row.edges
    ]
    notes += [f"failed: {one.rule} {one.number}: {one.why}" for one in outcomes if one.state == "failed"]
    running = sum(row.counts["running"] for row in rows)
    return notes + ([f"still under way in another process: {running}"] if running else [])


def _best(row: Standing) -> dict[str, Any] | None:
    if row.best is None:
        return None
    return {
        "accuracy": row.best.accuracy,
        "trial": row.best.number,
        "settings": row.contender.settings(row.best.values),
        "at_an_end": row.edges,
    }


def _csv(plan: Plan, outcomes: Sequence[Outcome]) -> str:
    keys = list(dict.fromkeys(key for one in plan.contenders for key in one.space))
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerow(["rule", "trial", "state", "held_out_accuracy", "epochs", *keys, "why"])
    for one in outcomes:
        accuracy = "" if one.accuracy is None else repr(one.accuracy)
        values = [repr(one.values[key]) if key in one.values else "" for key in keys]
        sheet.writerow([one.rule, one.number, one.state, accuracy, one.epochs, *values, one.why])
    return text.getvalue()
