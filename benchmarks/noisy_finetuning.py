"""Fine-tuning under noise: a net trained by backpropagation goes on under noise by another rule (CIFAR-10, a CPU's size).

    python benchmarks/noisy_finetuning.py --data DIR [--out DIR] [--seeds 0,1,2] [--alpha 0.15] [--json FILE] [--quick]

Per seed: backpropagation without noise; then, from its weights, the same short schedule by every rule with noise in all hidden
layers. Test accuracy is measured without and with that noise, before and after. Runs go on where they stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import aplysia
from aplysia.credit.spatial.zeroth_order import ZerothOrder
from aplysia.nets.noise import Noise
from aplysia.recipes import find
from aplysia.tables.opzo import cifar10_base
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.optimise import SGD
from aplysia.train.recipe import Recipe
from aplysia.train.run import Run


def rules(noise: Noise) -> dict[str, Any]:
    """Who goes on."""
    of = aplysia.rules
    return {
        "untouched": of.ReadoutOnly(noise=noise),
        "readout only": of.ReadoutOnly(noise=noise),
        "BP": of.Symmetric(noise=noise),
        "OPZO": of.PseudoZerothOrder(noise=noise),
        "DFA": of.DirectFeedback(noise=noise, scale=0.05),
        "ZO": ZerothOrder(noise=noise, scale=0.005),
    }


def finish(recipe: Recipe, folder: Path, data: Path | None) -> dict[str, Any]:
    """The summary of a run, trained if it is not there."""
    summary = folder / "summary.json"
    if not summary.exists():
        made = RunFolder.create(folder, resume=folder.exists())
        Run(recipe, made, torch.device("cpu"), data=data, progress=Progress(recipe.epochs, shown=False)).execute()
    return json.loads(summary.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/noisy-finetuning"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--alpha", type=float, default=0.15)
    parser.add_argument("--epochs", type=int, default=6, help="of backpropagation; fine-tuning takes a third")
    parser.add_argument("--quick", action="store_true", help="the digits, one seed")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    recipe, seeds = (
        replace(cifar10_base(), rule=aplysia.rules.Symmetric()),
        [int(s) for s in arguments.seeds.split(",")],
    )
    if arguments.quick:
        recipe, seeds = find("digits-mlp"), [0]
    name, noise, found = recipe.name, Noise(alpha=arguments.alpha), {}
    for seed in seeds:
        base = replace(recipe, seed=seed, epochs=arguments.epochs)
        start = arguments.out / f"{name}-bp-s{seed}"
        summary = finish(base, start, arguments.data)
        found.setdefault("BP, no noise yet", []).append({"clean": summary["test_accuracy"], "noisy": None})
        for rule_name, rule in rules(noise).items():
            # A rate so small that float32 weights of size 1 do not move: the noisy accuracy of the net as it is.
            lr = 1e-30 if rule_name == "untouched" else 0.01
            tuned = replace(
                base, rule=rule, weights=start, epochs=max(1, arguments.epochs // 3), optimiser=SGD(lr=lr), probe=None
            )
            if rule_name == "untouched":
                tuned = replace(tuned, epochs=1, train_samples=base.batch_size * 10)
            folder = arguments.out / f"{name}-{rule_name.replace(' ', '-')}-a{arguments.alpha:g}-s{seed}"
            summary = finish(tuned, folder, arguments.data)
            row = {"clean": summary["test_accuracy"], "noisy": summary["noisy_test_accuracy"]}
            found.setdefault(rule_name, []).append(row)
            print(
                f"seed {seed}  {rule_name:<14} clean {100 * row['clean']:.2f} %  noisy {100 * row['noisy']:.2f} %",
                flush=True,
            )
        if arguments.json:
            facts = {
                "recipe": name,
                "train_samples": base.train_samples,
                "alpha": arguments.alpha,
                "epochs": arguments.epochs,
                "seeds": seeds,
                "rows": found,
            }
            Path(arguments.json).write_text(json.dumps(facts, indent=1) + "\n")
    print(f"\n{name}, α = {arguments.alpha:g}, test accuracy %, mean ± sd ({len(seeds)} seeds)")
    for rule_name, rows in found.items():
        cells = []
        for key in ("clean", "noisy"):
            values = [100 * row[key] for row in rows if row[key] is not None]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{statistics.mean(values):6.2f} ± {spread:.2f}" if values else f"{'–':>13}")
        print(f"  {rule_name:<18}{'   '.join(cells)}")


if __name__ == "__main__":
    main()
