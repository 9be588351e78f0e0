"""Write the demo's expected values: the same runs over many seeds, mean, sd and n.

    python benchmarks/demo_expected.py [--seeds 20] [--missing]

Run it when a change is meant to change what the rules learn, and say so in the changelog. Seeds start at 1000, so that the
demo is never compared with its own runs. `--missing` trains the rows that have no value yet and keeps the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import aplysia
from aplysia.demo import EXPECTED, demo_recipes, expected, train
from aplysia.train.provenance import now, source_hash


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--missing", action="store_true", help="train new rows only")
    arguments = parser.parse_args()
    seeds = arguments.seeds
    torch.set_num_threads(1)
    rows = {}
    known = expected() if arguments.missing else {}
    for name, recipe in demo_recipes().items():
        if name in known:
            rows[name] = known[name]
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = [
                train(replace(recipe, seed=1000 + s), Path(folder) / str(s))["test_accuracy"] for s in range(seeds)
            ]
        rows[name] = {"mean": statistics.mean(found), "sd": statistics.stdev(found), "n": seeds}
        print(f"{name:<32} {rows[name]['mean']:.4f} ± {rows[name]['sd']:.4f}", flush=True)
    content = {"written": now(), "source": source_hash(), "torch": torch.__version__, "rows": rows}
    Path(aplysia.__file__).with_name(EXPECTED).write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
