"""One training step beside the peers: 784-800-800-10 LIF, batch 128, constant input, SGD with momentum.

    python benchmarks/train_step.py [--quick] [--json FILE]

All contestants run in one process, interleaved round by round, so that a noisy machine is noisy to all of them. The figure
is the median over rounds of samples/s; ratios are medians of the ratios within a round. A peer is written the way its own
documentation writes it. A user who knows may let a constant input pass a peer's first layer once instead of T times, as
Aplysia does by itself; those variants run too ("hoisted") and have a ratio of their own.

The second table is the peak memory of one step against T, each in a fresh process: resident memory above that of the same
process before its first step.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import interleave
import torch
import torch.nn.functional as F
from interleave import Step
from torch import nn

import aplysia
from aplysia.ops.backend import kernels
from aplysia.types import Held

BATCH, SIZES = 128, (784, 800, 800, 10)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse grey images like Fashion-MNIST's, and labels."""
    source = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, SIZES[0], generator=source) * (torch.rand(BATCH, SIZES[0], generator=source) < 0.5)
    return x, torch.randint(0, SIZES[-1], (BATCH,), generator=source)


def linears() -> list[nn.Linear]:
    """The same weights for every contestant."""
    made = [nn.Linear(m, n) for m, n in itertools.pairwise(SIZES)]
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in made:
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=source) * (2 / layer.in_features) ** 0.5)
            layer.bias.zero_()
    return made


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, fused=True)


def ours(rule: Any, temporal: Any, steps: int) -> Step:
    net = aplysia.mlp(SIZES[0], list(SIZES[1:-1]), SIZES[-1])
    with torch.no_grad():
        for layer, linear in zip(net.all, linears(), strict=True):
            layer.weight.copy_(linear.weight)
    x, y = inputs()
    learner = aplysia.Learner(
        net, rule=rule, temporal=temporal, optimiser=sgd(net.parameters()), loss=aplysia.StepwiseLoss(mse_share=0.0)
    )
    return lambda: learner.update(Held(x, steps), y)


def snntorch_bptt(steps: int, hoisted: bool = False) -> Step:
    import snntorch
    from snntorch import surrogate

    one, two, three = linears()
    lifs = [snntorch.Leaky(beta=0.5, spike_grad=surrogate.sigmoid(slope=4)) for _ in range(2)]
    optimiser = sgd([*one.parameters(), *two.parameters(), *three.parameters()])
    x, y = inputs()

    def step() -> None:
        first, second = lifs[0].init_leaky(), lifs[1].init_leaky()
        loss = torch.zeros(())
        held = one(x) if hoisted else None
        for _ in range(steps):
            spikes, first = lifs[0](one(x) if held is None else held, first)
            spikes, second = lifs[1](two(spikes), second)
            loss = loss + F.cross_entropy(three(spikes), y) / steps
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def spikingjelly_bptt(steps: int, hoisted: bool = False) -> Step:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> nn.Module:
        return neuron.LIFNode(
            tau=2.0,
            decay_input=False,
            v_reset=None,
            detach_reset=True,
            surrogate_function=surrogate.Sigmoid(alpha=4.0),
            step_mode="m",
        )

    def dense(linear: nn.Linear) -> nn.Module:
        made = layer.Linear(linear.in_features, linear.out_features, step_mode="m")
        made.load_state_dict(linear.state_dict())
        return made

    one, two, three = linears()
    first = one if hoisted else dense(one)
    rest = nn.Sequential(lif(), dense(two), lif(), dense(three))
    optimiser = sgd([*first.parameters(), *rest.parameters()])
    x, y = inputs()

    def step() -> None:
        drive = first(x).expand(steps, -1, -1) if hoisted else first(x.expand(steps, -1, -1))
        out = rest(drive)
        loss = F.cross_entropy(out.flatten(0, 1), y.repeat(steps))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        functional.reset_net(rest)

    return step


def spikingjelly_ottt(steps: int) -> Step:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> nn.Module:
        return neuron.OTTTLIFNode(
            tau=2.0, decay_input=False, v_reset=None, detach_reset=True, surrogate_function=surrogate.Sigmoid(alpha=4.0)
        )

    one, two, three = linears()
    net = layer.OTTTSequential(one, lif(), two, lif(), three)
    optimiser = sgd(net.parameters())
    x, y = inputs()

    def step() -> None:
        optimiser.zero_grad()
        for _ in range(steps):
            out = net(x)
            (F.cross_entropy(out[0] if isinstance(out, list) else out, y) / steps).backward()
        optimiser.step()
        functional.reset_net(net)

    return step


def norse_bptt(steps: int, hoisted: bool = False) -> Step:
    import norse.torch as norse

    one, two, three = linears()
    lifs = [norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0))) for _ in range(2)]
    optimiser = sgd([*one.parameters(), *two.parameters(), *three.parameters()])
    x, y = inputs()

    def step() -> None:
        first = second = None
        loss = torch.zeros(())
        held = one(x) if hoisted else None
        for _ in range(steps):
            spikes, first = lifs[0](one(x) if held is None else held, first)
            spikes, second = lifs[1](two(spikes), second)
            loss = loss + F.cross_entropy(three(spikes), y) / steps
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def contestants(steps: int) -> tuple[dict[str, Step], dict[str, Step], dict[str, str]]:
    """Ours, the peers, and which peers are missing and why."""
    rules, schemes = aplysia.rules, aplysia.temporal
    mine = {
        "ottt_bp": ours(rules.Symmetric(), schemes.Trace(), steps),
        "direct_feedback": ours(rules.DirectFeedback(), schemes.Trace(), steps),
        "feedback_alignment": ours(rules.FeedbackAlignment(), schemes.Trace(), steps),
        "pseudo_zeroth_order": ours(rules.PseudoZerothOrder(), schemes.Trace(), steps),
        "zeroth_order": ours(rules.ZerothOrder(), schemes.Trace(), steps),
        "sltt_bp": ours(rules.Symmetric(), schemes.Traceless(), steps),
        "bptt": ours(rules.Symmetric(), schemes.ThroughTime(), steps),
    }
    makers: dict[str, Callable[[], Step]] = {
        "snntorch_bptt": lambda: snntorch_bptt(steps),
        "snntorch_bptt_hoisted": lambda: snntorch_bptt(steps, hoisted=True),
        "spikingjelly_bptt": lambda: spikingjelly_bptt(steps),
        "spikingjelly_bptt_hoisted": lambda: spikingjelly_bptt(steps, hoisted=True),
        "spikingjelly_ottt": lambda: spikingjelly_ottt(steps),
        "norse_bptt": lambda: norse_bptt(steps),
        "norse_bptt_hoisted": lambda: norse_bptt(steps, hoisted=True),
    }
    peers, missing = {}, {}
    for name, make in makers.items():
        try:
            peers[name] = make()
        except ImportError as problem:
            missing[name] = str(problem)
    return mine, peers, missing


def race(steps: int, rounds: int) -> dict[str, Any]:
    """Samples per second of everyone, interleaved; ratios to the best peer and to the best peer as documented."""
    mine, peers, missing = contestants(steps)
    seconds = interleave.race({**mine, **peers}, rounds)
    speed = {name: BATCH / statistics.median(s) for name, s in seconds.items()}
    result: dict[str, Any] = {"steps": steps, "rounds": rounds, "samples_per_second": speed, "missing": missing}
    for key, pool in (
        ("ratio_to_best_peer", [p for p in peers if not p.endswith("hoisted")]),
        ("ratio_to_best_hoisted_peer", [p for p in peers if p.endswith("hoisted")]),
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
        "batch": BATCH,
        "sizes": SIZES,
    }
    with kernels(compiled=True) as compiled:
        results["compiled_kernels"] = compiled
        for steps in [6] if arguments.quick else [6, 30]:
            results[f"T{steps}"] = run = race(steps, 7 if arguments.quick else (31 if steps == 6 else 11))
            print(f"\nT = {steps}, samples/s (median of {run['rounds']} rounds)")
            for name, speed in sorted(run["samples_per_second"].items(), key=lambda item: -item[1]):
                ratio = run.get("ratio_to_best_peer", {}).get(name)
                hoisted = run.get("ratio_to_best_hoisted_peer", {}).get(name)
                tail = f"   {ratio:.2f} × best peer, {hoisted:.2f} × best hoisted peer" if ratio else ""
                print(f"  {name:<28}{speed:>9,.0f}{tail}")
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
