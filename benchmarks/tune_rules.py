"""The same search for every rule of a table: six trials each, one seed, chosen by held-out accuracy.

    python benchmarks/tune_rules.py TABLE [--data DIR] [--json FILE] [--jobs N] [--only ROW]

A trial trains on a part of the training set, a quarter of it held out, at a seed no table uses. Every row gets six trials over
its learning rate and what else it has that scales its hidden errors. The record goes to results/tuning; the values chosen stand
in the table's file. Trials that are in the JSON file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from aplysia.recipes.opzo import opzo_fmnist
from aplysia.tables import headline, opzo, ssnn
from aplysia.tables.searched import Budget, Contender
from aplysia.train.codec import override
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.run import Interrupted, Run

# What a table calls its contenders and their budget.
SEARCHES: dict[str, tuple[Callable[[], dict[str, Contender]], Budget]] = {
    "opzo-fmnist": (lambda: opzo.contenders(opzo_fmnist()), opzo.FMNIST_BUDGET),
    "opzo-cifar10": (opzo.cifar10_contenders, opzo.CIFAR10_BUDGET),
    "headline": (headline.contenders, headline.BUDGET),
    "ssnn-devices": (ssnn.device_contenders, ssnn.DEVICES_BUDGET),
}


def trial(recipe: Recipe, settings: str, budget: Budget, data: str | None) -> float:
    """Held-out accuracy of one setting."""
    torch.set_num_threads(1)
    made = override(recipe, settings.split(), AXES)
    made = replace(
        made,
        seed=budget.seed,
        epochs=budget.epochs,
        train_samples=budget.samples,
        validation=0.25,
        augment=(),
        compiled=True,  # which a process that has many trials to do pays for once
    )
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            made,
            RunFolder.create(Path(folder) / "run", resume=False),
            torch.device("cpu"),
            data=None if data is None else Path(data),
            progress=Progress(budget.epochs, shown=False),
            # The test set is neither needed nor anyone's business here.
            watch=lambda metrics: metrics["epoch"] == budget.epochs,
        )
        try:
            run.execute()
        except Interrupted:
            return float(run.folder.metrics()[-1]["val_accuracy"])
        except Exception as problem:
            # A rate at which weights run away is an outcome of a search, not an accident.
            print(f"{settings}: {problem}")
        return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=list(SEARCHES))
    parser.add_argument("--data")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    contenders, budget = SEARCHES[arguments.table]
    path = Path(arguments.json or f"results/tuning/{arguments.table}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(path.read_text())["trials"] if path.exists() else {}
    pool = ProcessPoolExecutor(arguments.jobs, get_context("spawn"))
    jobs = {
        pool.submit(trial, one.recipe, settings, budget, arguments.data): (name, settings)
        for name, one in contenders().items()
        if arguments.only in (None, name)
        for settings in one.grid()
        if settings not in found.get(name, {})
    }
    for job in as_completed(jobs):
        name, settings = jobs[job]
        found.setdefault(name, {})[settings] = job.result()
        print(f"{name:<18}{100 * job.result():6.2f} %  {settings}", flush=True)
        facts = {
            "recipe": arguments.table,
            "seed": budget.seed,
            "train_samples": budget.samples,
            "validation": 0.25,
            "epochs": budget.epochs,
        }
        best = {name: max(trials, key=trials.__getitem__) for name, trials in found.items()}
        path.write_text(json.dumps(facts | {"best": best, "trials": found}, indent=1) + "\n")
    for name, trials in found.items():
        best = max(trials, key=trials.__getitem__)
        print(f"best of {len(trials)} for {name:<18}{100 * trials[best]:6.2f} %  {best}")


if __name__ == "__main__":
    main()
