"""How time and memory of a training step grow with T, depth and width, and what the machine would allow.

    python benchmarks/scaling.py [--quick] [--json FILE] [--device cuda] [--rounds N]

Dense LIF nets on a constant input of 784, batch 128; one of T, hidden layers and width is changed at a time. At each point
the rules run in one process, interleaved round by round, beside the floor of their own products (forward and weight
gradients; input gradients too for those that send errors through the layers). An exponent is fitted by least squares in
logarithms over the upper half of the range. Peak memory is that of two steps in a fresh process, with eager kernels, above
what the process held before.

Products are full ones (`precision.events=false`), whatever fires.

The machine's own limits, for the roofline: products in float32 and in bfloat16 at the shapes of these nets, and the bandwidth
of a large copy. Operations and bytes of a step are counted while it runs, see `traffic.py`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import command
import floors
import interleave
import torch
import traffic
from fit import power_law, upper_half
from interleave import Step

import aplysia
from aplysia.nets.net import Net
from aplysia.ops.backend import kernels
from aplysia.ops.precision import Float32

INPUTS, CLASSES = 784, 10
# Twice He's weights: with his own, layers behind the third are silent.
WEIGHT = 2.0
COPY_BYTES = 2**28


@dataclass(frozen=True)
class Point:
    """A net and its batch; `depth` is the number of hidden layers."""

    T: int = 8
    depth: int = 2
    width: int = 512
    batch: int = 128


@dataclass(frozen=True)
class Plan:
    """What is changed, from where; which points have their memory measured, None for all."""

    base: Point
    axes: dict[str, tuple[int, ...]]
    copy_bytes: int = COPY_BYTES
    remembered: tuple[tuple[str, int], ...] | None = None


FULL = Plan(
    Point(),
    {
        "T": (2, 4, 8, 16, 24, 32, 48, 64),
        "depth": (1, 2, 3, 4, 6, 8, 12, 16),
        "width": (64, 128, 256, 384, 512, 768, 1024, 1536),
    },
)
QUICK = Plan(
    Point(T=2, depth=1, width=16, batch=4),
    {"T": (2, 4), "depth": (1, 2), "width": (16, 32)},
    copy_bytes=2**20,
    remembered=(("T", 2), ("T", 4)),
)
METHODS: dict[str, tuple[Callable[[], Any], Callable[[], Any], tuple[str, ...]]] = {
    "bptt": (aplysia.rules.Symmetric, aplysia.temporal.ThroughTime, floors.CHAINED),
    "ottt_bp": (aplysia.rules.Symmetric, aplysia.temporal.Trace, floors.CHAINED),
    "direct_feedback": (aplysia.rules.DirectFeedback, aplysia.temporal.Trace, floors.DIRECT),
    "pseudo_zeroth_order": (aplysia.rules.PseudoZerothOrder, aplysia.temporal.Trace, floors.DIRECT),
}


def net_of(point: Point, device: torch.device) -> Net:
    net = aplysia.mlp(INPUTS, [point.width] * point.depth, CLASSES).to(device)
    with torch.no_grad():
        for layer in net.hidden:
            layer.weight *= WEIGHT
            # With full products no time hangs on how much fires; `events.py` measures that.
            layer.precision = Float32(events=False)
    return net


def update(method: str, point: Point, device: torch.device) -> Callable[[], Any]:
    """A training step."""
    rule, temporal, _ = METHODS[method]
    net = net_of(point, device)
    learner = aplysia.Learner(
        net,
        rule=rule(),
        temporal=temporal(),
        optimiser=torch.optim.SGD(net.parameters(), lr=interleave.STILL, momentum=0.9, fused=True),
        loss=aplysia.StepwiseLoss(mse_share=0.0),
    )
    source = torch.Generator().manual_seed(0)
    shape = (point.batch, INPUTS)
    x = torch.rand(shape, generator=source) * (torch.rand(shape, generator=source) < 0.5)
    y = torch.randint(0, CLASSES, (point.batch,), generator=source).to(device)
    held = aplysia.Held(x.to(device), point.T)
    return lambda: learner.update(held, y)


def memory_of(method: str, point: Point, device: str, threads: int) -> int:
    """Bytes that two steps add at their peak, in this process."""
    torch.set_num_threads(threads)
    update(method, replace(point, batch=2), torch.device(device))()
    step = update(method, point, torch.device(device))
    interleave.give_back()
    return interleave.peak_of(step, device=torch.device(device))


def measure(point: Point, rounds: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """Every method, and the floor of its products, at one point."""
    everyone: dict[str, Step] = {method: update(method, point, device) for method in METHODS}
    work = {}
    for method, step in everyone.items():
        rates = step().spikes[:-1]
        assert rates.min() > 0, f"{method}: a silent layer is no measure: {rates}"
        work[method] = traffic.of(step)
    net = net_of(point, device)
    everyone |= floors.parts(net, batch=point.batch, steps=point.T)
    seconds = interleave.race(everyone, rounds, warm_up=2, device=device)
    counts = floors.operations(net, batch=point.batch, steps=point.T)
    found = {}
    for method, (_, _, wanted) in METHODS.items():
        floor = [sum(each) for each in zip(*(seconds[part] for part in wanted), strict=True)]
        found[method] = {
            "milliseconds": interleave.spread(seconds[method]),
            "floor_milliseconds": interleave.spread(floor),
            "times_floor": statistics.median(a / b for a, b in zip(seconds[method], floor, strict=True)),
            "floor_operations": sum(counts[part] for part in wanted),
            **work[method]._asdict(),
        }
    return found


def curve(axis: str, plan: Plan, rounds: int, device: torch.device) -> dict[str, Any]:
    """Times, memory and exponents along one axis."""
    values = plan.axes[axis]
    points = [replace(plan.base, **{axis: value}) for value in values]
    rows = []
    for point in points:
        rows.append(measure(point, rounds, device))
        told = ", ".join(f"{name} {row['milliseconds']['median']:.1f}" for name, row in rows[-1].items())
        print(f"  {axis} = {getattr(point, axis)}, ms: {told}", flush=True)
    threads = torch.get_num_threads()
    for point, row in zip(points, rows, strict=True):
        if plan.remembered is None or (axis, getattr(point, axis)) in plan.remembered:
            for method in METHODS:
                row[method]["peak_bytes"] = interleave.in_a_fresh_process(
                    memory_of, method, point, str(device), threads
                )
    return {"values": values, "points": rows, "exponents": {m: exponents(values, rows, m) for m in METHODS}}


def exponents(values: tuple[int, ...], rows: list[dict[str, dict[str, Any]]], method: str) -> dict[str, Any]:
    """How time and memory grow over the upper half of the range; None where it was not measured."""
    made: dict[str, Any] = {}
    for what, look in (
        ("time", lambda row: row["milliseconds"]["median"]),
        ("memory", lambda row: row.get("peak_bytes")),
    ):
        pairs = [(x, look(row[method])) for x, row in zip(values, rows, strict=True)]
        known = [(x, y) for x, y in pairs if y is not None]
        law = power_law(*upper_half(*zip(*known, strict=True))) if known else None  # type: ignore[arg-type]
        made[what] = None if law is None else law._asdict()
    return made


def limits(plan: Plan, rounds: int, device: torch.device) -> dict[str, Any]:
    """Products of the widths' own shapes, in float32 and bfloat16, and a large copy."""
    everyone: dict[str, Step] = {}
    widths = plan.axes["width"]
    for width in widths:
        net = net_of(replace(plan.base, depth=2, width=width), device)
        for dtype in (torch.float32, torch.bfloat16):
            products = floors.parts(net, batch=plan.base.batch, steps=plan.base.T, dtype=dtype)
            everyone |= {f"{width} {dtype} {part}": step for part, step in products.items()}
    source = torch.zeros(plan.copy_bytes // 4, device=device)
    target = torch.empty_like(source)
    everyone["copy"] = lambda: target.copy_(source)
    seconds = interleave.race(everyone, rounds, warm_up=1, device=device)
    gflops: dict[str, dict[str, float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        gflops[str(dtype).removeprefix("torch.")] = made = {}
        for width in widths:
            net = net_of(replace(plan.base, depth=2, width=width), device)
            counts = floors.operations(net, batch=plan.base.batch, steps=plan.base.T)
            took = sum(statistics.median(seconds[f"{width} {dtype} {part}"]) for part in counts)
            made[str(width)] = sum(counts.values()) / took / 1e9
    return {
        "gemm_gflops": gflops,
        # A copy reads and writes.
        "gigabytes_per_second": 2 * plan.copy_bytes / statistics.median(seconds["copy"]) / 1e9,
        "copy_bytes": plan.copy_bytes,
    }


def main() -> None:
    arguments = command.parser(__doc__, "tiny nets, one round, eager kernels: shows that it runs").parse_args()
    device = command.begin(arguments)
    plan, rounds = (QUICK, 1) if arguments.quick else (FULL, 9)
    rounds = arguments.rounds or rounds
    results: dict[str, Any] = {**command.conditions(arguments), "rounds": rounds, "base": asdict(plan.base)}
    with kernels(compiled=not arguments.quick) as compiled:
        results["compiled_kernels"] = compiled
        results["limits"] = limits(plan, min(rounds, 5), device)
        results["axes"] = {axis: curve(axis, plan, rounds, device) for axis in plan.axes}
    for axis, found in results["axes"].items():
        for method, laws in found["exponents"].items():
            told = ", ".join(f"{what} ∝ {axis}^{law['exponent']:.2f}" for what, law in laws.items() if law)
            print(f"  {method:<22}{told}")
    for kind, speeds in results["limits"]["gemm_gflops"].items():
        print(f"  products in {kind}: {min(speeds.values()):,.0f} to {max(speeds.values()):,.0f} GFLOP/s")
    print(f"  copy: {results['limits']['gigabytes_per_second']:.1f} GB/s")
    command.leave(results, arguments)


if __name__ == "__main__":
    main()
