"""What each rule's feedback costs: products, memory, random numbers and writes, counted on one training step.

    python benchmarks/feedback_cost.py [--quick] [--json FILE]

Products are multiply-accumulates of matrix products and convolutions as torch's own counter sees them, per sample and time
step, beyond those of a forward pass alone; that is the error, the update and whatever teaches the feedback. The forward pass
multiplies here even where a chip would only add. Memory is what the rule owns beside the forward weights. Element-wise work is
not counted.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import aplysia
from aplysia.credit.learned_feedback import LowRank, MomentumFeedback, Pooled
from aplysia.credit.local import Readouts
from aplysia.nets.zoo import build

BATCH, STEPS = 8, 2
NETS = {
    "784-800-800-10": ("F800-F800-F10", (1, 28, 28)),
    "five layers, CIFAR-10": ("128C3-A2-256C3-A2-512C3-A2-512C3-F10", (3, 32, 32)),
    "five layers, CIFAR-100": ("128C3-A2-256C3-A2-512C3-A2-512C3-F100", (3, 32, 32)),
}


def rules() -> dict[str, Any]:
    """Every rule the paper compares, and the forms of M that fit large layers."""
    of = aplysia.rules
    return {
        "BP": of.Symmetric(),
        "frozen BP": of.FrozenBackprop(),
        "DFA": of.DirectFeedback(),
        "DKP": of.DirectKolenPollack(),
        "ZO": of.ZerothOrder(),
        "OPZO": of.PseudoZerothOrder(),
        "OPZO, M pooled": of.PseudoZerothOrder(feedback=MomentumFeedback(form=Pooled())),
        "OPZO, M of rank 8": of.PseudoZerothOrder(feedback=MomentumFeedback(form=LowRank(directions=8))),
        "forward gradient": of.ForwardGradient(),
        "LL": of.LocalLoss(),
        "OPZO + LL": of.PseudoZerothOrder(local=Readouts()),
        "readout only": of.ReadoutOnly(),
    }


def measure(text: str, shape: tuple[int, ...], rule: Any) -> dict[str, float]:
    """Counts of one rule on one net."""
    net = build(text, shape)
    learner = aplysia.Learner(net, rule=rule, optimiser=torch.optim.SGD(net.parameters(), lr=1e-3))
    source = torch.Generator().manual_seed(0)
    x = torch.rand(STEPS, BATCH, *shape, generator=source)
    y = torch.randint(0, net.classes, (BATCH,), generator=source)
    learner.update(x, y)  # the second batch is like all that follow
    before = learner.cost.random_numbers or 0, learner.cost.writes or 0
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        net(x)
    with FlopCounterMode(display=False) as learning:
        learner.update(x, y)
    each = BATCH * STEPS
    return {
        "forward_macs": forward.get_total_flops() / 2 / each,
        "learning_macs": (learning.get_total_flops() - forward.get_total_flops()) / 2 / each,
        "words_remembered": sum(t.numel() for t in rule.tensors.values() if t.is_floating_point()),
        "forward_weights": sum(p.numel() for p in net.parameters()),
        "random_numbers": ((learner.cost.random_numbers or 0) - before[0]) / each,
        "words_written": float((learner.cost.writes or 0) - before[1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the fully connected net only")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for name, (text, shape) in list(NETS.items())[: 1 if arguments.quick else None]:
        found[name] = {"net": text, "rules": {}}
        print(f"\n{name}: {text}")
        print(f"  {'':<20}{'MACs beyond forward':>20}{'of BP':>8}{'words remembered':>18}{'random':>10}{'written':>12}")
        for rule_name, rule in rules().items():
            row = found[name]["rules"][rule_name] = measure(text, shape, rule)
            share = row["learning_macs"] / found[name]["rules"]["BP"]["learning_macs"]
            print(
                f"  {rule_name:<20}{row['learning_macs']:>20,.0f}{share:>8.2f}{row['words_remembered']:>18,.0f}"
                f"{row['random_numbers']:>10,.0f}{row['words_written']:>12,.0f}"
            )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"torch": torch.__version__, "batch": BATCH, "steps": STEPS, "nets": found}, file, indent=1)


if __name__ == "__main__":
    main()
