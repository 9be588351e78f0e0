"""One training step beside the peers: 784-800-800-10 LIF, batch 128, constant input, SGD with momentum.

    python benchmarks/train_step.py [--quick] [--json FILE]

All contestants run in one process, interleaved round by round, so that a noisy machine is noisy to all of them. The figure
is the median over rounds of samples/s; ratios are medians of the ratios within a round. A peer is written the way its own
documentation writes it. A user who knows may let a constant input pass a peer's first layer once instead of T times, as
Aplysia does by itself; those variants run too ("hoisted") and have a ratio of their own. SpikingJelly also runs under
`torch.compile`, its fastest way on a CPU (not with `--quick`: its compiler takes a minute). The floor is the matrix products
of the same net and nothing else, in float32 and, beside it, in bfloat16. Contestants called `…_bf16` take the products of the
hidden layers in bf16 (`precision=bfloat16`), those called `…_full` no sums over events in place of products, which the others
take where little fires (`aplysia.ops.events`); so what fires matters to ours, and to no peer. Weights stay as they are, with
rates as in a net at its start; in `…_busy` they are twice as large, and fire as much as in nets trained by direct feedback.
Noise is on what layers send; in `…_heard` traces hold it, too, and in `…_membrane` it is in the potentials, the other site.
Peers run in float32, and the fastest of them under bf16 autocast, too, with ratios of its own.

The process keeps freed memory, as every run of ours does by itself (`aplysia.kept_memory`); the peers gain by that too. The
second table is the peak memory of one step against T, each in a fresh process: resident memory above that of the same process
before its first step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import warnings
from typing import Any

import floors
import interleave
import torch
import traffic
from dense_peers import BATCH, PEERS, SIZES, inputs, linears, sgd
from interleave import Step

import aplysia
from aplysia.nets.noise import Membrane, Noise
from aplysia.ops.backend import kernels
from aplysia.ops.precision import AbstractPrecision, Bfloat16, Float32
from aplysia.types import Held

# The products that each rule cannot do without.
PRODUCTS = {
    "ottt_bp": floors.CHAINED,
    "direct_feedback": floors.DIRECT,
    "pseudo_zeroth_order": floors.DIRECT,
    "pseudo_zeroth_order_heard": floors.DIRECT,
    "pseudo_zeroth_order_membrane": floors.DIRECT,
    "bptt": floors.CHAINED,
    "ottt_bp_full": floors.CHAINED,
    "direct_feedback_full": floors.DIRECT,
    "pseudo_zeroth_order_full": floors.DIRECT,
    "bptt_full": floors.CHAINED,
    "ottt_bp_busy": floors.CHAINED,
    "direct_feedback_busy": floors.DIRECT,
    "pseudo_zeroth_order_busy": floors.DIRECT,
}
# Factor on the weights of hidden layers of contestants called `…_busy`.
BUSY = 2.0


def ours(
    rule: Any, temporal: Any, steps: int, precision: AbstractPrecision | None = None, *, factor: float = 1.0
) -> Step:
    net = aplysia.build("-".join(f"F{n}" for n in SIZES[1:]), SIZES[:1], precision=precision)
    with torch.no_grad():
        for layer, linear in zip(net.all, linears(), strict=True):
            layer.weight.copy_(linear.weight * (1.0 if layer is net.readout else factor))
    x, y = inputs()
    learner = aplysia.Learner(
        net, rule=rule, temporal=temporal, optimiser=sgd(net.parameters()), loss=aplysia.StepwiseLoss(mse_share=0.0)
    )
    return lambda: learner.update(Held(x, steps), y)


def contestants(steps: int, quick: bool) -> tuple[dict[str, Step], dict[str, Step], dict[str, str]]:
    """Ours, the peers, and which peers are missing and why."""
    rules, schemes = aplysia.rules, aplysia.temporal
    heard = rules.PseudoZerothOrder(noise=Noise(traced=True))
    inside = rules.PseudoZerothOrder(noise=Noise(site=Membrane()))
    mine = {
        "ottt_bp": ours(rules.Symmetric(), schemes.Trace(), steps),
        "direct_feedback": ours(rules.DirectFeedback(), schemes.Trace(), steps),
        "feedback_alignment": ours(rules.FeedbackAlignment(), schemes.Trace(), steps),
        "pseudo_zeroth_order": ours(rules.PseudoZerothOrder(), schemes.Trace(), steps),
        "pseudo_zeroth_order_heard": ours(heard, schemes.Trace(), steps),
        "pseudo_zeroth_order_membrane": ours(inside, schemes.Trace(), steps),
        "zeroth_order": ours(rules.ZerothOrder(), schemes.Trace(), steps),
        "sltt_bp": ours(rules.Symmetric(), schemes.Traceless(), steps),
        "bptt": ours(rules.Symmetric(), schemes.ThroughTime(), steps),
        "ottt_bp_full": ours(rules.Symmetric(), schemes.Trace(), steps, Float32(events=False)),
        "direct_feedback_full": ours(rules.DirectFeedback(), schemes.Trace(), steps, Float32(events=False)),
        "pseudo_zeroth_order_full": ours(rules.PseudoZerothOrder(), schemes.Trace(), steps, Float32(events=False)),
        "bptt_full": ours(rules.Symmetric(), schemes.ThroughTime(), steps, Float32(events=False)),
        "ottt_bp_busy": ours(rules.Symmetric(), schemes.Trace(), steps, factor=BUSY),
        "direct_feedback_busy": ours(rules.DirectFeedback(), schemes.Trace(), steps, factor=BUSY),
        "pseudo_zeroth_order_busy": ours(rules.PseudoZerothOrder(), schemes.Trace(), steps, factor=BUSY),
        "ottt_bp_bf16": ours(rules.Symmetric(), schemes.Trace(), steps, Bfloat16()),
        "direct_feedback_bf16": ours(rules.DirectFeedback(), schemes.Trace(), steps, Bfloat16()),
        "pseudo_zeroth_order_bf16": ours(rules.PseudoZerothOrder(), schemes.Trace(), steps, Bfloat16()),
    }
    peers, missing = {}, {}
    for name, make in PEERS.items():
        if quick and "compiled" in name:
            missing[name] = "not in a quick run"
            continue
        try:
            peers[name] = make(steps)
        except ImportError as problem:
            missing[name] = str(problem)
    return mine, peers, missing


def rates(steps: int, factor: float = 1.0) -> list[float]:
    """Share of units of each hidden layer that fire a step, at the weights that everyone has times a factor."""
    record = ours(aplysia.rules.Symmetric(), aplysia.temporal.Trace(), steps, factor=factor)()
    return [float(fired) / slots for fired, slots in zip(record.spikes, record.slots, strict=True)][:-1]


def race(steps: int, rounds: int, quick: bool) -> dict[str, Any]:
    """Samples per second of everyone, interleaved; ratios to the best peer and to the best peer as documented."""
    mine, peers, missing = contestants(steps, quick)
    kinds = {"float32": {"dtype": torch.float32}, "bfloat16": {"dtype": torch.bfloat16}}
    floor = floors.Floor(aplysia.mlp(SIZES[0], list(SIZES[1:-1]), SIZES[-1]), BATCH, steps, kinds)
    work = {name: traffic.of(mine[name])._asdict() for name in PRODUCTS}
    seconds = interleave.race({**mine, **peers, **floor.contestants()}, rounds)
    floored = floor.settle(seconds, "float32")
    speed = {name: BATCH / statistics.median(s) for name, s in seconds.items()}
    result: dict[str, Any] = {
        "steps": steps,
        "spike_rates": rates(steps),
        "spike_rates_busy": rates(steps, BUSY),
        "rounds": rounds,
        "samples_per_second": speed,
        "milliseconds": {name: interleave.spread(s) for name, s in seconds.items()},
        "missing": missing,
        "floor": floored,
        "times_floor": floors.times(seconds, PRODUCTS),
        "work": work,
    }
    for key, pool in (
        ("ratio_to_best_peer", [p for p in peers if not p.endswith(("hoisted", "autocast"))]),
        ("ratio_to_best_hoisted_peer", [p for p in peers if p.endswith("hoisted")]),
        ("ratio_to_best_autocast_peer", [p for p in peers if p.endswith("autocast")]),
    ):
        if pool:
            best = max(pool, key=lambda name: speed[name])
            result[key.replace("ratio_to_", "")] = best
            result[key] = {name: interleave.ratio(seconds, best, name) for name in mine}
    # Time of a pseudo-zeroth-order step over that of the two it is to keep up with.
    result["opzo_time_ratio"] = {
        name: interleave.ratio(seconds, "pseudo_zeroth_order", name) for name in ("ottt_bp", "direct_feedback")
    }
    return result


def memory_of(name: str, steps: int) -> int:
    """Bytes of resident memory one step adds at its peak, in this process."""
    rules, schemes = aplysia.rules, aplysia.temporal
    rule, temporal = {
        "trace_chunk_1": (rules.Symmetric, schemes.Trace(chunk=1)),
        "opzo_chunk_1": (rules.PseudoZerothOrder, schemes.Trace(chunk=1)),
        "bptt": (rules.Symmetric, schemes.ThroughTime()),
    }[name]
    ours(rule(), temporal, 1)()  # libraries and optimiser state are there before we look
    step = ours(rule(), temporal, steps)
    return interleave.peak_of(step)


def memory(lengths: list[int]) -> dict[str, dict[int, int]]:
    """Peak memory of a step against T, a fresh process each."""
    table: dict[str, dict[int, int]] = {}
    for name in ("trace_chunk_1", "opzo_chunk_1", "bptt"):
        table[name] = {}
        for steps in lengths:
            command = [sys.executable, __file__, "--memory-of", name, str(steps)]
            table[name][steps] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, T = 6 only, no memory table")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--memory-of", nargs=2, metavar=("NAME", "T"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    warnings.filterwarnings("ignore", module="(norse|snntorch|spikingjelly)")
    if arguments.memory_of:
        print(memory_of(arguments.memory_of[0], int(arguments.memory_of[1])))
        return
    results: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "quick": arguments.quick,
        "batch": BATCH,
        "sizes": SIZES,
    }
    with kernels(compiled=True) as compiled:
        results["compiled_kernels"] = compiled
        for steps in [6] if arguments.quick else [6, 30]:
            results[f"T{steps}"] = run = race(
                steps, 7 if arguments.quick else (31 if steps == 6 else 11), arguments.quick
            )
            told, busy = (", ".join(f"{rate:.1%}" for rate in run[key]) for key in ("spike_rates", "spike_rates_busy"))
            print(
                f"\nT = {steps}, {told} of the units fire a step, {busy} where busy, samples/s "
                f"(median of {run['rounds']} rounds)"
            )
            for name, speed in sorted(run["samples_per_second"].items(), key=lambda item: -item[1]):
                ratio = run.get("ratio_to_best_peer", {}).get(name)
                hoisted = run.get("ratio_to_best_hoisted_peer", {}).get(name)
                narrow = run.get("ratio_to_best_autocast_peer", {}).get(name)
                tail = f"   {ratio:.2f} × best peer, {hoisted:.2f} × best hoisted peer" if ratio else ""
                tail += f", {narrow:.2f} × best in bf16" if narrow else ""
                print(f"  {name:<28}{speed:>9,.0f}{tail}")
            for name, ratio in run["times_floor"].items():
                print(f"  a {name} step takes {ratio:.2f} × the floor of its own products")
            for name, ratio in run["opzo_time_ratio"].items():
                print(f"  a pseudo_zeroth_order step takes {ratio:.2f} × the time of {name}")
            for name, why in run["missing"].items():
                print(f"  {name:<28}  missing: {why}")
    results["ratio_to_best_peer"] = results["T6"].get("ratio_to_best_peer")
    if not arguments.quick:
        results["peak_memory_bytes"] = table = memory([6, 30, 120])
        print("\npeak memory of a step above the idle process, MB")
        print(f"  {'T':<16}" + "".join(f"{t:>10}" for t in table["bptt"]))
        for name, row in table.items():
            print(f"  {name:<16}" + "".join(f"{v / 1e6:>10.1f}" for v in row.values()))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
