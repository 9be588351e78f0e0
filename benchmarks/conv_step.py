"""One training step of a conv net beside the peers: 64C3-128C3-A2-256C3-A2-F10 on 32 × 32 × 3, T = 6, batch 32, constant input.

    python benchmarks/conv_step.py [--quick] [--json FILE] [--device cuda] [--rounds N]

All contestants run in one process, interleaved round by round, with the same weights, leak and optimiser (SGD with momentum);
ratios are medians of the ratios within a round. The floor is our own convolutions and nothing else, with images in torch's
default order of memory and with channels last, whichever is faster: forward and weight gradients for rules with direct
errors, input gradients too for backpropagation. Before anything is timed every layer of every contestant must spike. The
process keeps freed memory, as every run of ours does by itself (`aplysia.kept_memory`), and the peers gain by that too. Peak
memory is that of two steps in a fresh process, above what the process held after a first one: of everyone as they are, and of
ours where freed memory is kept.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import command
import floors
import interleave
import torch
import traffic
from conv_peers import PEERS, RELUS, SLOPE, Contestant, Task, sgd
from interleave import Step

import aplysia
from aplysia.ops.backend import kernels
from aplysia.ops.memory import kept_memory
from aplysia.ops.precision import Bfloat16, Float32
from aplysia.ops.surrogate import Sigmoid

LEAK = 0.5
# Twice He's weights: with his own the last hidden layer hardly ever fires.
WEIGHT = 2.0
LEAST_RATE = 1e-3
POOLS = ("best_peer", "best_hoisted_peer", "best_autocast_peer", "best_relu")


@dataclass(frozen=True)
class Size:
    """What is trained."""

    text: str
    image: tuple[int, int, int]
    steps: int
    batch: int


FULL = Size("64C3-128C3-A2-256C3-A2-F10", (3, 32, 32), 6, 32)
QUICK = Size("4C3-6C3-A2-8C3-A2-F10", (3, 12, 12), 3, 4)
ORDERS = {"default order": {"order": torch.contiguous_format}, "channels last": {"order": torch.channels_last}}
# Name of a contestant of ours -> rule, scheme, and the products it cannot do without.
OURS: dict[str, tuple[Callable[[], Any], Callable[[], Any], tuple[str, ...]]] = {
    "ottt_bp": (aplysia.rules.Symmetric, aplysia.temporal.Trace, floors.CHAINED),
    "direct_feedback": (aplysia.rules.DirectFeedback, aplysia.temporal.Trace, floors.DIRECT),
    "pseudo_zeroth_order": (aplysia.rules.PseudoZerothOrder, aplysia.temporal.Trace, floors.DIRECT),
    "bptt": (aplysia.rules.Symmetric, aplysia.temporal.ThroughTime, floors.CHAINED),
}
# The same with products as they are defined, in place of sums over events and convolutions tile by tile.
_FULL = "_full"
OURS |= {f"{name}{_FULL}": OURS[name] for name in ("ottt_bp", "direct_feedback", "bptt")}
# Those have a floor, which is of float32; the same by products of the hidden layers in bf16 (`precision=bfloat16`) have none.
FLOORED = tuple(OURS)
_BF16 = "_bf16"
OURS |= {f"{name}{_BF16}": OURS[name] for name in ("ottt_bp", "direct_feedback", "pseudo_zeroth_order")}
# The same, all steps at once, where the others take as few as layers of this width are taken by.
WHOLE = "_all_steps"
OURS |= {
    f"{name}{end}{WHOLE}": (OURS[name][0], partial(aplysia.temporal.Trace, chunk=6), OURS[name][2])
    for name in ("ottt_bp", "direct_feedback")
    for end in ("", _BF16)
}


def task(size: Size, device: torch.device) -> Task:
    """The net and sparse images in [0, 1], and labels."""
    neuron = aplysia.LIF(leak=LEAK, surrogate=Sigmoid(slope=SLOPE))
    net = aplysia.conv(size.text, size.image, neuron=neuron).to(device)
    with torch.no_grad():
        for layer in net.hidden:
            layer.weight *= WEIGHT
    source = torch.Generator().manual_seed(0)
    shape = (size.batch, *size.image)
    x = torch.rand(shape, generator=source) * (torch.rand(shape, generator=source) < 0.5)
    y = torch.randint(0, net.classes, (size.batch,), generator=source)
    return Task(net, x.to(device), y.to(device), size.steps, LEAK)


class Ours:
    """A contestant of ours: its training step, and what fires in it."""

    def __init__(self, name: str, given: Task) -> None:
        rule, temporal, _ = OURS[name]
        self.given = given
        short = not name.endswith(_FULL)
        for layer in given.net.hidden:
            layer.precision = Bfloat16() if _BF16 in name else Float32(events=short, winograd=short)
        self.learner = aplysia.Learner(
            given.net,
            rule=rule(),
            temporal=temporal(),
            optimiser=sgd(given.net.parameters()),
            loss=aplysia.StepwiseLoss(mse_share=0.0),
        )

    def step(self) -> Any:
        return self.learner.update(aplysia.Held(self.given.x, self.given.steps), self.given.y)

    def rates(self) -> list[float]:
        record = self.step()
        return [float(n) / slots for n, slots in zip(record.spikes, record.slots, strict=True)][:-1]


def contestant(name: str, size: Size, device: torch.device) -> Ours | Contestant:
    given = task(size, device)
    return Ours(name, given) if name in OURS else (PEERS | RELUS)[name](given)


def memory_of(name: str, size: Size, device: str, threads: int, compiled: bool, kept: bool) -> int:
    """Bytes that two steps add at their peak, in this process."""
    torch.set_num_threads(threads)
    with kernels(compiled=compiled):
        # Libraries and what is compiled for these shapes are there before we look, but no memory that a step could use again;
        # gradients and momentum, which the first step leaves behind, are so for everyone.
        made = contestant(name, size, torch.device(device))
        made.step()
        interleave.give_back()
        with kept_memory() if kept else nullcontext():
            return interleave.peak_of(made.step, device=torch.device(device))


def contest(size: Size, rounds: int, device: torch.device, *, quick: bool) -> dict[str, Any]:
    """Everyone, and the floor."""
    everyone: dict[str, Step] = {}
    rates, missing = {}, {}
    for name in [*OURS, *PEERS, *RELUS]:
        # The peer's compiler alone takes a minute.
        if quick and "compiled" in name:
            missing[name] = "not in a quick run"
            continue
        try:
            made = contestant(name, size, device)
        except ImportError as problem:
            missing[name] = str(problem)
            continue
        rates[name] = made.rates() if "compiled" not in name else rates[name.replace("_compiled", "")]
        everyone[name] = made.step
        assert min(rates[name]) > LEAST_RATE, f"{name} has a silent layer, and is no comparison: {rates[name]}"
    floor = floors.Floor(task(size, device).net, size.batch, size.steps, ORDERS)
    everyone |= floor.contestants()
    work = {name: traffic.of(everyone[name]) for name in FLOORED}
    seconds = interleave.race(everyone, rounds, warm_up=1 if quick else 2, device=device)
    floored = floor.settle(seconds)
    return {
        "rounds": rounds,
        "spike_rates": rates,
        "milliseconds": {name: interleave.spread(s) for name, s in seconds.items()},
        "samples_per_second": {name: size.batch / statistics.median(s) for name, s in seconds.items()},
        **ratios(seconds),
        "floor": floored,
        "times_floor": floors.times(seconds, {name: OURS[name][2] for name in FLOORED}),
        "work": {name: found._asdict() for name, found in work.items()},
        "missing": missing,
    }


def ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Ours to the best peer as documented, to the best that passes the input once, to the best in bf16, to the plain net."""
    made: dict[str, Any] = {}
    for key, pool in (
        ("best_peer", [p for p in PEERS if p in seconds and not p.endswith(("hoisted", "autocast"))]),
        ("best_hoisted_peer", [p for p in PEERS if p in seconds and p.endswith("hoisted")]),
        ("best_autocast_peer", [p for p in PEERS if p in seconds and p.endswith("autocast")]),
        ("best_relu", list(RELUS)),
    ):
        if pool:
            best = interleave.fastest(seconds, pool)
            made[key] = best
            made[f"ratio_to_{key}"] = {name: interleave.ratio(seconds, best, name) for name in OURS}
    return made


def memory(
    names: list[str], size: Size, arguments: argparse.Namespace, *, compiled: bool, kept: bool = False
) -> dict[str, int]:
    """Peak memory of each, a fresh process each."""
    threads = torch.get_num_threads()
    return {
        name: interleave.in_a_fresh_process(memory_of, name, size, arguments.device, threads, compiled, kept)
        for name in names
    }


def main() -> None:
    arguments = command.parser(
        __doc__, "a tiny net, one round, eager kernels: shows that it runs, not how fast"
    ).parse_args()
    device, quick = command.begin(arguments), arguments.quick
    size = QUICK if quick else FULL
    with ExitStack() as stack:
        compiled = stack.enter_context(kernels(compiled=not quick))
        found = contest(size, arguments.rounds or (1 if quick else 7), device, quick=quick)
    results: dict[str, Any] = {
        **command.conditions(arguments),
        "compiled_kernels": compiled,
        "net": size.text,
        "image": size.image,
        "steps": size.steps,
        "batch": size.batch,
        **found,
    }
    who = [name for name in found["samples_per_second"] if not name.startswith("floor")]
    if quick:
        who = ["ottt_bp", found.get("best_peer", "relu")]
    # What was timed is kept, whatever becomes of the minutes that memory takes.
    results["peak_memory_bytes"], results["peak_memory_bytes_kept"] = {}, {}
    show(results)
    command.leave(results, arguments)
    results["peak_memory_bytes"] = peak = memory(who, size, arguments, compiled=compiled)
    ours = [name for name in who if name in OURS]
    results["peak_memory_bytes_kept"] = memory(ours, size, arguments, compiled=compiled, kept=True)
    if "best_peer" in found:
        best = peak[found["best_peer"]]
        results["memory_of_best_peer"] = {name: peak[name] / best for name in peak if name in OURS}
        kept = results["peak_memory_bytes_kept"]
        results["kept_memory_of_best_peer"] = {name: kept[name] / best for name in kept}
    show(results)
    command.leave(results, arguments)


def show(results: dict[str, Any]) -> None:
    print(f"\n{results['net']}, T = {results['steps']}, batch {results['batch']}, {results['rounds']} rounds")
    for name, speed in sorted(results["samples_per_second"].items(), key=lambda item: -item[1]):
        peak = results["peak_memory_bytes"].get(name)
        line = f"  {name:<36}{speed:>9,.1f} samples/s" + ("" if peak is None else f"{peak / 1e6:>9,.0f} MB")
        if name in results["peak_memory_bytes_kept"]:
            line += f" ({results['peak_memory_bytes_kept'][name] / 1e6:,.0f} MB with memory kept)"
        if name in OURS:
            floored = [f"{results['times_floor'][name]:.2f} × its floor"] if name in FLOORED else []
            keys = [key for key in POOLS if key in results]
            line += "   " + ", ".join(
                [*floored, *(f"{results[f'ratio_to_{key}'][name]:.2f} × {results[key]}" for key in keys)]
            )
        print(line)
    for name, why in results["missing"].items():
        print(f"  {name:<36}  missing: {why}")


if __name__ == "__main__":
    main()
