"""Time and peak memory of `aplysia report` over many finished runs; the issue asks for 200 runs of 100 epochs in 20 s and 1 GB.

    python benchmarks/report.py [--quick] [--json FILE]

The folders are made up (50 recipes × 4 seeds, six layers, a ledger, an alignment probe every 100 steps of 20,000) and lie in a
temporary folder. The report is made by a process of its own, as a user would.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LAYERS = ("conv1", "conv2", "conv3", "conv4", "dense1", "readout")
PHASES = ("forward", "error", "update")
COUNTS = (
    *("dense", "macs", "acs", "updates", "spikes", "words", "bits", "address_bits", "forward_reads", "forward_writes"),
    *("feedback_reads", "feedback_writes", "random_numbers"),
)


def write_run(folder: Path, recipe: dict[str, Any], *, epochs: int, probes: int, noise: random.Random) -> None:
    """A finished run with made-up numbers."""
    folder.mkdir(parents=True)
    top = 0.8 + 0.1 * noise.random()
    with open(folder / "metrics.jsonl", "w") as file:
        for epoch in range(1, epochs + 1):
            accuracy = top * (1 - math.exp(-epoch / 8))
            rates = {layer: noise.random() for layer in LAYERS}
            line = {"epoch": epoch, "train_loss": 1.0, "train_accuracy": accuracy, "val_accuracy": accuracy - 0.01}
            file.write(json.dumps(line | {"rates": rates, "seconds": 10.0}) + "\n")
    with open(folder / "alignment.jsonl", "w") as file:
        for step in range(1, probes + 1):
            layers = {layer: {"gradient_cosine": noise.random(), "drift": noise.random()} for layer in LAYERS}
            file.write(json.dumps({"step": 100 * step, "layers": layers}) + "\n")
    entries = [
        {"layer": layer, "phase": phase} | {count: noise.randrange(10**6) for count in COUNTS}
        for layer in LAYERS
        for phase in PHASES
    ]
    ledger = {"version": 1, "batch": 64, "steps": 8, "layers": LAYERS, "step": entries, "inference": entries[:6]}
    ledger["memory"] = [{"layer": layer, "kind": "weights", "bytes": noise.randrange(10**5)} for layer in LAYERS]
    transport = {"events": 9, "words": noise.randrange(1, 10**6), "bits": 9, "address_bits": 0, "words_bp": 10**6}
    summary = {"status": "finished", "test_accuracy": top, "rates": dict.fromkeys(LAYERS, 0.2), "transport": transport}
    facts = {
        "aplysia": "0.1.0",
        "commit": "0" * 40,
        "torch": "2",
        "device_name": "made up",
        "finished": "2026-01-01T00:00",
    }
    for name, content in (("ledger", ledger), ("summary", summary), ("run", facts), ("recipe", recipe)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1))


def recipe_of(row: int, seed: int) -> dict[str, Any]:
    """A recipe that differs from the others of its rule in one number."""
    rule = ("symmetric", "frozen", "feedback_alignment", "direct_feedback", "sign_symmetric")[row % 5]
    optimiser = {"kind": "adam", "lr": 0.001 * (1 + row // 5)}
    return {
        "name": "fmnist-mlp",
        "data": {"kind": "fashion_mnist"},
        "rule": {"kind": rule},
        "optimiser": optimiser,
        "seed": seed,
    }


def measure(runs: int, epochs: int, probes: int) -> dict[str, Any]:
    """Make the folders, report them, and say what it took."""
    noise = random.Random(0)
    with tempfile.TemporaryDirectory() as place:
        for number in range(runs):
            row, seed = divmod(number, 4)
            folder = Path(place) / f"run-{number:04d}"
            write_run(folder, recipe_of(row, seed), epochs=epochs, probes=probes, noise=noise)
        out = Path(place) / "report.html"
        command = [sys.executable, "-m", "aplysia", "report", place, "-o", str(out)]
        began = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        # Linux gives it in KiB, macOS in bytes.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return {
            "runs": runs,
            "epochs": epochs,
            "probes": probes,
            "seconds": round(seconds, 2),
            "peak_memory_bytes": peak,
            "page_bytes": out.stat().st_size,
        }


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 runs of 10 epochs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    arguments = parser.parse_args()
    found = measure(20, 10, 20) if arguments.quick else measure(200, 100, 200)
    print(f"{found['runs']} runs of {found['epochs']} epochs: {found['seconds']} s, ", end="")
    print(f"{found['peak_memory_bytes'] / 1e6:.0f} MB at the peak, page of {found['page_bytes'] / 1e6:.1f} MB")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
