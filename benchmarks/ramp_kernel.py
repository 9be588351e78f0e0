"""The ramp neuron's kernel, forward and backward, beside the same neuron in plain torch.

    python benchmarks/ramp_kernel.py [--quick] [--json FILE]

Plain torch is what one writes without a kernel: sort the inputs, gather the weights in that order to batch × inputs × units,
two cumulative sums, the earliest valid candidate, autograd. Two shapes: a dense layer, and a convolution whose patches are
rows. All contestants run in one process, interleaved round by round; ratios are medians of the ratios within a round. Peak
memory is that of one forward and backward pass in a fresh process, above what the process held before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

import interleave
import torch
from interleave import Step

from aplysia.ops.backend import kernels
from aplysia.ops.causal import causal_ramp

THRESHOLD = 1.0


@dataclass(frozen=True)
class Shape:
    """Rows (samples, or samples × positions), inputs and units, and the weights' mean and standard deviation."""

    rows: int
    inputs: int
    units: int
    mean: float
    deviation: float


SHAPES = {
    "dense_784_800": Shape(128, 784, 800, 0.005, 0.05),
    "conv_16_to_32": Shape(128 * 14 * 14, 16 * 9, 32, 0.03, 0.15),
}


def operands(shape: Shape) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sparse grey inputs, weights, and an error; half of the inputs are silent."""
    source = torch.Generator().manual_seed(0)
    size = (shape.rows, shape.inputs)
    x = torch.rand(size, generator=source) * (torch.rand(size, generator=source) < 0.5)
    weight = torch.randn(shape.units, shape.inputs, generator=source) * shape.deviation + shape.mean
    error = torch.randn(shape.rows, shape.units, generator=source)
    return x.requires_grad_(), weight.requires_grad_(), error


def plain(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    times, order = x.sort(1, descending=True)
    spiked = (times > 0).unsqueeze(2)
    weights = weight.t()[order]
    slope = weights.cumsum(1)
    up = slope > 0
    # Slopes of exactly 0 do occur; unguarded they make the whole gradient NaN.
    candidates = ((weights * times.unsqueeze(2)).cumsum(1) - THRESHOLD) / torch.where(up, slope, torch.ones_like(slope))
    after = torch.cat([times[:, 1:], torch.zeros_like(times[:, :1])], 1).unsqueeze(2)
    valid = up & spiked & (candidates <= times.unsqueeze(2)) & (candidates >= after)
    y = candidates.gather(1, valid.int().argmax(1, keepdim=True)).squeeze(1)
    return torch.where(valid.any(1) & (y > 0), y, torch.zeros_like(y))


def ours(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return causal_ramp(x, weight, threshold=THRESHOLD, feedback=weight, max_gain=None)


def contestants(shape: Shape) -> dict[str, Step]:
    x, weight, error = operands(shape)

    def step(how: Any, compiled: bool) -> Step:
        def run() -> Any:
            with kernels(compiled=compiled):
                y = how(x, weight)
                return y.detach(), *torch.autograd.grad(y, (x, weight), error)

        return run

    return {"compiled": step(ours, True), "eager": step(ours, False), "plain_torch": step(plain, False)}


def agreement(everyone: dict[str, Step]) -> dict[str, float]:
    """How many units fire, and how far ours is from plain torch: all contestants must do the same work."""
    want, got = everyone["plain_torch"](), everyone["compiled"]()
    return {
        "fired": float((want[0] > 0).float().mean()),
        "fired_differently": float(((want[0] > 0) != (got[0] > 0)).float().mean()),
        "y_difference": float((want[0] - got[0]).abs().max()),
        "update_difference": float((want[2] - got[2]).norm() / want[2].norm()),
    }


def race(shape: Shape, rounds: int) -> dict[str, Any]:
    everyone = contestants(shape)
    checked = agreement(everyone)
    seconds = interleave.race(everyone, rounds, warm_up=1)
    return {
        **asdict(shape),
        **checked,
        "rounds": rounds,
        "milliseconds": {name: 1e3 * statistics.median(s) for name, s in seconds.items()},
        "times_faster": {name: interleave.ratio(seconds, "plain_torch", name) for name in ("compiled", "eager")},
    }


def memory_of(name: str, shape: Shape) -> int:
    """Bytes of resident memory that one pass adds at its peak, in this process."""
    for rows in (16, 128):  # libraries and kernels are there before we look, but no memory that a pass could use again
        contestants(Shape(rows, 33, 17, shape.mean, shape.deviation))[name]()
    step = contestants(shape)[name]
    return interleave.peak_of(step, times=1)


def measure(rounds: int) -> dict[str, Any]:
    """Time and memory of every shape: what other benchmarks call."""
    results: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        results[name] = race(shape, rounds)
        peaks = {}
        for who in ("compiled", "eager", "plain_torch"):
            command = [sys.executable, __file__, "--memory-of", who, name]
            peaks[who] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        results[name]["peak_bytes"] = peaks
        results[name]["times_smaller"] = {who: peaks["plain_torch"] / peaks[who] for who in ("compiled", "eager")}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 rounds in place of 9")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--threads", type=int, default=2, help="at most; one is steadier on a busy machine")
    parser.add_argument("--memory-of", nargs=2, metavar=("NAME", "SHAPE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(min(arguments.threads, torch.get_num_threads()))
    if arguments.memory_of:
        print(memory_of(arguments.memory_of[0], SHAPES[arguments.memory_of[1]]))
        return
    results = measure(3 if arguments.quick else 9)
    for name, result in results.items():
        print(
            f"\n{name}: {result['rows']} × {result['inputs']} → {result['units']}, {result['fired']:.0%} of units fire"
        )
        for who, milliseconds in result["milliseconds"].items():
            tail = ""
            if who in result["times_faster"]:
                tail = f"   {result['times_faster'][who]:.1f} × faster, {result['times_smaller'][who]:.0f} × smaller"
            print(f"  {who:<14}{milliseconds:>9.1f} ms{result['peak_bytes'][who] / 1e6:>10.1f} MB{tail}")
        print(
            "  " + ", ".join(f"{k} {result[k]:.1e}" for k in ("fired_differently", "y_difference", "update_difference"))
        )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"torch": torch.__version__, "threads": torch.get_num_threads(), **results}, file, indent=1)


if __name__ == "__main__":
    main()
