"""The same search for every rule of the zeroth-order tables: six trials each, one seed, chosen by held-out accuracy.

    python benchmarks/tune_rules.py opzo-fmnist [--data DIR] [--json FILE] [--jobs N] [--only RULE]

A trial trains on a part of the training set, a quarter of it held out, for two epochs, at a seed no table uses. Every rule gets
six trials over its learning rate and what else it has that scales its hidden errors. The record goes to results/tuning; the
values chosen stand in src/aplysia/tables/opzo.py. Trials that are in the JSON file already are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch

from aplysia.recipes import find
from aplysia.train.codec import override
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.recipe import AXES
from aplysia.train.run import Run

SEED, SAMPLES, EPOCHS = 100, 12_000, 2
LOCAL = ["rule.local=readouts"]
PLAIN = ["rule.noise.antithetic=false", "rule.baseline=no_baseline"]


def grid(rule: str, *fixed: str, **axes: tuple[object, ...]) -> list[list[str]]:
    """All combinations of settings; `__` in a name is a dot."""
    names = [name.replace("__", ".") for name in axes]
    return [
        [f"rule={rule}", *fixed, *(f"{n}={v}" for n, v in zip(names, values, strict=True))]
        for values in itertools.product(*axes.values())
    ]


RATES = (0.05, 0.1, 0.2)
SPACES: dict[str, list[list[str]]] = {
    "BP": grid("symmetric", optimiser__lr=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5)),
    "OPZO": grid("pseudo_zeroth_order", optimiser__lr=RATES, rule__feedback__momentum=(0.95, 0.99)),
    "forward gradient": grid("forward_gradient", optimiser__lr=RATES, rule__feedback__momentum=(0.95, 0.99)),
    "DKP": grid("direct_kolen_pollack", optimiser__lr=RATES, rule__rate=(0.01, 0.1)),
    "DFA": grid("direct_feedback", optimiser__lr=(0.05, 0.15), rule__scale=(0.01, 0.05, 0.2)),
    "ZO": grid("zeroth_order", optimiser__lr=(0.05, 0.15), rule__scale=(0.001, 0.005, 0.02)),
    "ZO plain": grid("zeroth_order", *PLAIN, optimiser__lr=(0.05, 0.15), rule__scale=(0.0001, 0.0005, 0.002)),
    "LL": grid("local_loss", optimiser__lr=RATES, rule__local__weight=(0.3, 1.0)),
    "OPZO + LL": grid("pseudo_zeroth_order", *LOCAL, optimiser__lr=RATES, rule__local__weight=(0.3, 1.0)),
    "BP + LL": grid("symmetric", *LOCAL, optimiser__lr=RATES, rule__local__weight=(0.3, 1.0)),
    "readout only": grid("readout_only", optimiser__lr=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5)),
}


def trial(recipe: str, settings: list[str], data: str | None) -> float:
    """Held-out accuracy of one setting."""
    torch.set_num_threads(1)
    made = override(find(recipe), settings, AXES)
    made = replace(made, seed=SEED, epochs=EPOCHS, train_samples=SAMPLES, validation=0.25, augment=())
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            made,
            RunFolder.create(Path(folder) / "run", resume=False),
            torch.device("cpu"),
            data=None if data is None else Path(data),
            progress=Progress(EPOCHS, shown=False),
        )
        try:
            return float(run.execute()["val_accuracy"])
        except Exception as problem:
            # A rate at which weights run away is an outcome of a search, not an accident.
            print(f"{' '.join(settings)}: {problem}")
            return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--data")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=list(SPACES))
    arguments = parser.parse_args()
    path = Path(arguments.json or f"results/tuning/{arguments.recipe}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = json.loads(path.read_text())["trials"] if path.exists() else {}
    pool = ProcessPoolExecutor(arguments.jobs, get_context("spawn"))
    jobs = {
        pool.submit(trial, arguments.recipe, settings, arguments.data): (name, " ".join(settings))
        for name, space in SPACES.items()
        if arguments.only in (None, name)
        for settings in space
        if " ".join(settings) not in found.get(name, {})
    }
    for job in as_completed(jobs):
        name, settings = jobs[job]
        found.setdefault(name, {})[settings] = job.result()
        print(f"{name:<18}{100 * job.result():6.2f} %  {settings}", flush=True)
        facts = {
            "recipe": arguments.recipe,
            "seed": SEED,
            "train_samples": SAMPLES,
            "validation": 0.25,
            "epochs": EPOCHS,
        }
        best = {name: max(trials, key=trials.__getitem__) for name, trials in found.items()}
        path.write_text(json.dumps(facts | {"best": best, "trials": found}, indent=1) + "\n")
    for name, trials in found.items():
        best = max(trials, key=trials.__getitem__)
        print(f"best of {len(trials)} for {name:<18}{100 * trials[best]:6.2f} %  {best}")


if __name__ == "__main__":
    main()
