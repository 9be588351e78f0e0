"""What training costs by each method: operations, words, random numbers and memory of one sample, in closed form by the ledger.

    python benchmarks/training_cost.py [--json FILE]

Nothing is trained. Firing rates are those that backpropagation ended with in the stored table of the same net, taken for all
methods, so that methods are compared and not rates. Memory is of a batch of one, at the recipe's T and at five times that.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from aplysia.credit.contract import AbstractSpatial, AbstractTemporal
from aplysia.credit.learned_feedback import MomentumFeedback, Pooled
from aplysia.credit.local import Readouts
from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.spatial.direct_kolen_pollack import DirectKolenPollack
from aplysia.credit.spatial.forward_gradient import ForwardGradient
from aplysia.credit.spatial.frozen import FrozenBackprop
from aplysia.credit.spatial.local_loss import LocalLoss
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.credit.spatial.readout_only import ReadoutOnly
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.spatial.zeroth_order import ZerothOrder
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.ledger.amount import Phase
from aplysia.recipes import find
from aplysia.train.cost import Priced, measured_rates, price

ROOT = Path(__file__).parent.parent
# A recipe, and the stored run whose rates it is counted with.
NETS = {"opzo-fmnist": "results/tables/opzo-fmnist/bp-s0"}
LONGER = 5
# What of memory a longer sequence may need more of, and what a rule needs beside the forward weights.
OVER_TIME, OF_FEEDBACK = ("state", "traces", "saved"), ("feedback", "rule")


def methods() -> dict[str, tuple[AbstractSpatial, AbstractTemporal]]:
    """Every method the paper compares, and backpropagation through time, which needs the past."""
    pooled, trace = MomentumFeedback(form=Pooled()), Trace(chunk=1)
    return {
        "BP through time": (Symmetric(), ThroughTime()),
        "BP by traces": (Symmetric(), trace),
        "frozen BP, Φ = 100": (FrozenBackprop(interval=100), trace),
        "DFA": (DirectFeedback(), trace),
        "DKP": (DirectKolenPollack(), trace),
        "ZO": (ZerothOrder(), trace),
        "OPZO": (PseudoZerothOrder(), trace),
        "OPZO, M pooled": (PseudoZerothOrder(feedback=pooled), trace),
        "forward gradient": (ForwardGradient(), trace),
        "LL": (LocalLoss(), trace),
        "OPZO + LL": (PseudoZerothOrder(local=Readouts()), trace),
        "readout only": (ReadoutOnly(), trace),
    }


def one(found: Priced) -> dict[str, Any]:
    """Counts of a sample by phase, and bytes by kind."""
    counts = found.counts()
    return {
        "macs": {phase.value: counts[phase]["macs"] for phase in Phase},
        "acs": {phase.value: counts[phase]["acs"] for phase in Phase},
        **{
            name: sum(counts[phase][name] or 0.0 for phase in Phase)
            for name in ("words", "random_numbers", "feedback_writes")
        },
        "bytes": {
            kind: sum(line.bytes or 0 for line in found.lines if line.kind == kind)
            for kind in dict.fromkeys(line.kind for line in found.lines)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    nets: dict[str, Any] = {}
    for name, run in NETS.items():
        recipe, rates = find(name), measured_rates(ROOT / run)
        rows: dict[str, Any] = {}
        for method, (rule, scheme) in methods().items():
            made = replace(recipe, rule=rule, temporal=scheme, batch_size=1)
            (short,) = price({method: made}, rates)
            (long,) = price({method: replace(made, steps=LONGER * recipe.steps)}, rates)
            assert not short.refused, short.refused
            rows[method] = one(short) | {"bytes, longer": one(long)["bytes"]}
        nets[name] = {
            "net": recipe.net,
            "steps": recipe.steps,
            "longer": LONGER * recipe.steps,
            "run": run,
            "rows": rows,
        }
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"nets": nets}, indent=1) + "\n")
    print("\n".join(table(nets)))


def table(nets: dict[str, Any]) -> list[str]:
    """As Markdown: operations relative to those of a forward pass, memory in bytes."""
    lines = []
    for name, net in nets.items():
        lines += [
            f"### {name}: `{net['net']}`, T = {net['steps']}",
            "",
            "| method | MACs + ACs: forward | error | update | in all, of BP's | words moved | random numbers | "
            f"M or B written | feedback, bytes | state, traces, saved at T = {net['steps']}, bytes | at T = {net['longer']} |",
            "| --- |" + " ---: |" * 10,
        ]
        totals = {method: _operations(row, None) for method, row in net["rows"].items()}
        for method, row in net["rows"].items():
            by_phase = [_operations(row, phase.value) for phase in (Phase.FORWARD, Phase.ERROR, Phase.UPDATE)]
            cells = [f"{value:,.0f}" for value in by_phase]
            cells += [f"{totals[method] / totals['BP by traces']:.2f}"]
            cells += [f"{row[key]:,.0f}" for key in ("words", "random_numbers", "feedback_writes")]
            cells += [f"{sum(row['bytes'].get(kind, 0) for kind in OF_FEEDBACK):,}"]
            cells += [f"{sum(row[key].get(kind, 0) for kind in OVER_TIME):,}" for key in ("bytes", "bytes, longer")]
            lines.append(f"| {method} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def section(path: Path) -> list[str]:
    """The section of docs/results.md."""
    return [
        "## What training costs by each method",
        "",
        "Of one sample, counted by the ledger in closed form at the firing rates that BP ended with "
        "(`benchmarks/training_cost.py`). Online methods run step by step (`chunk=1`), so that a constant input passes the "
        "first layer at every step; BP through time sees all steps and passes it once. Where noise is added to what "
        "layers send, all of it is multiplied, not added: that is most of what ZO and OPZO cost more than DFA. Bytes are of a "
        "batch of one.",
        "",
        *table(json.loads(path.read_text())["nets"]),
    ]


SECTIONS = {"training_cost.json": section}


def _operations(row: dict[str, Any], phase: str | None) -> float:
    return sum(
        value or 0.0 for key in ("macs", "acs") for found, value in row[key].items() if phase is None or found == phase
    )


if __name__ == "__main__":
    main()
