"""Made-up run folders for the tests of the report's page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aplysia.report.page_costs import Energy, Joules

# Prices nobody asks for.
PRICES = Energy("a chip", "made up", lambda _: Joules(12.0, 10.0, 20.0, True, ("hop",)))

COUNTS = (
    *("dense", "macs", "acs", "updates", "spikes", "words", "bits", "address_bits", "forward_reads", "forward_writes"),
    *("feedback_reads", "feedback_writes", "random_numbers"),
)


def entry(layer: str | None, phase: str, **counts: int | None) -> dict[str, Any]:
    """An entry of a ledger; what is not said is 0."""
    return {"layer": layer, "phase": phase} | dict.fromkeys(COUNTS, 0) | counts


def ledger(error: int = 3000, **more: Any) -> dict[str, Any]:
    """A ledger of a batch of 10 with two layers, all numbers small enough to add up by hand."""
    step = [
        entry("dense1", "forward", macs=1000, acs=2000, forward_reads=3000),
        entry("dense2", "forward", acs=500, forward_reads=500),
        entry("dense2", "error", macs=error, feedback_reads=error),
        entry("dense1", "update", macs=800, forward_writes=700),
        entry(None, "noise", random_numbers=64),
    ]
    transport = [entry("dense2", "transport", words=6000, bits=192000, forward_reads=6000, feedback_writes=6000)]
    memory = [
        {"layer": "dense1", "kind": "weights", "bytes": 4000},
        {"layer": "dense2", "kind": "weights", "bytes": 1000},
        {"layer": "dense2", "kind": "feedback", "bytes": 1000},
        {"layer": None, "kind": "optimiser", "bytes": 10000},
    ]
    properties = {"transport": True, "second_phase": False, "update_locking": True, "feedback_bytes": 1000}
    return {
        "version": 1,
        "batch": 10,
        "steps": 4,
        "layers": ["dense1", "dense2"],
        "measured": {"samples": 128, "spikes": "after training"},
        "step": step,
        "inference": step[:2],
        "run": {"steps": 100, "samples": 1000, "transport": transport},
        "memory": memory,
        "properties": properties,
    } | more


def write(folder: Path, name: str, content: Any) -> None:
    """A file of a run."""
    (folder / name).write_text(json.dumps(content))


def make_run(
    folder: Path,
    *,
    seed: int,
    accuracy: float,
    rule: str = "symmetric",
    lr: float = 0.1,
    name: str = "fmnist-mlp",
    moved: int = 1000,
    costs: dict[str, Any] | None = None,
    probes: int = 0,
    caveat: str = "",
) -> Path:
    """A finished run of three epochs."""
    folder.mkdir(parents=True)
    recipe = {
        "name": name,
        "data": {"kind": "fashion_mnist"},
        "rule": {"kind": rule},
        "optimiser": {"kind": "sgd", "lr": lr},
        "seed": seed,
    }
    transport = {"events": 9, "words": moved, "bits": 32 * moved, "address_bits": 0, "words_bp": 1000}
    summary = {
        "status": "finished",
        "test_accuracy": accuracy,
        "rates": {"dense1": 0.1 + 0.01 * seed, "dense2": 0.3},
        "transport": transport,
    }
    facts = {"aplysia": "0.1.0", "commit": "abcdef0123456789", "torch": "2.13", "device_name": "a CPU", "threads": 1}
    write(folder, "recipe.json", recipe)
    write(folder, "summary.json", summary)
    write(
        folder, "run.json", facts | {"caveat": caveat, "finished": "2026-01-02T03:04:05+00:00", "command": ["/secret"]}
    )
    lines = [{"epoch": e, "train_accuracy": accuracy, "val_accuracy": accuracy - 0.1 / e} for e in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if costs is not None:
        write(folder, "ledger.json", costs)
    if probes:
        steps = range(1, probes + 1)
        layers = [{"dense1": {"gradient_cosine": 0.9, "drift": 0.1 * k}, "dense2": {"drift": 0.0}} for k in steps]
        text = "".join(json.dumps({"step": 100 * k, "layers": x}) + "\n" for k, x in zip(steps, layers, strict=True))
        (folder / "alignment.jsonl").write_text(text)
    return folder


def make_runs(place: Path) -> Path:
    """Three rules with three seeds: backpropagation, one inside the noise, one clearly worse."""
    for seed in range(3):
        make_run(place / f"bp-{seed}", seed=seed, accuracy=0.90 + 0.002 * seed, costs=ledger(), probes=3)
        drop = (0.004, -0.006, 0.002)[seed]
        frozen = {"rule": "frozen", "moved": 10, "costs": ledger(error=2000), "probes": 3}
        make_run(place / f"frozen-{seed}", seed=seed, accuracy=0.90 + 0.002 * seed - drop, **frozen)
        direct = {"rule": "direct_feedback", "moved": 0, "costs": ledger(error=1000)}
        make_run(place / f"dfa-{seed}", seed=seed, accuracy=0.80 + 0.002 * seed + 0.001 * (seed == 1), **direct)
    return place
