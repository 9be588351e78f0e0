"""One training step of stochastic streams beside the floor of its own products and random numbers, and the three engines.

    python benchmarks/streams.py [--quick] [--json FILE]

784-256-10, streams of N = 128 steps, batch 32, all in one process, interleaved round by round; ratios are medians of the ratios
within a round. The floor is what a step over bits cannot do without when it is done in float32: one random number for each bit
of the input, of the hidden spikes, of the winners' race and of the gradient lines, and the two products over all steps (forward
sums and coincidences). Peak memory is what a step adds to the resident memory, at three lengths of the streams.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import interleave
import torch
from interleave import Step

import aplysia
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.nets.initial import MidRange
from aplysia.neurons.bitstream import Bitstream
from aplysia.neurons.stream_memory import BlockMean, RunningMean
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.bit_products import multiplies_bf16, multiplies_bytes
from aplysia.ops.stream import AbstractEngine, Bits, Counts, Expect, RankOne

INPUTS, HIDDEN, CLASSES = 784, 256, 10
LENGTH, BATCH = 128, 32
LENGTHS = (32, 128, 512)


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse rates in [0, 1] like those of pixels, and labels."""
    source = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, INPUTS, generator=source) * (torch.rand(BATCH, INPUTS, generator=source) < 0.4)
    return x, torch.randint(0, CLASSES, (BATCH,), generator=source)


def step(engine: AbstractEngine, *, block: bool = False, length: int = LENGTH) -> Step:
    """A training step of ours."""
    memory = BlockMean() if block else RunningMean()
    net = aplysia.build(
        f"F{HIDDEN}-F{CLASSES}",
        (INPUTS,),
        neuron=Bitstream(memory=memory),
        readout=WinnerTakeAll(memory=memory),
        init=MidRange(),
    )
    learner = aplysia.Learner(
        net,
        rule=aplysia.rules.Symmetric(),
        temporal=Coincidence(engine=engine),
        optimiser=torch.optim.SGD(net.parameters(), lr=0.3),
        loss=aplysia.WinnerLoss(),
    )
    x, y = inputs()
    return lambda: learner.update(aplysia.Held(x, length), y)


def floor() -> dict[str, Step]:
    """The random numbers and the two float32 products, apart."""
    source, rows = torch.Generator().manual_seed(0), LENGTH * BATCH
    bits = (torch.rand(rows, INPUTS, generator=source) < 0.2).float()
    spikes = (torch.rand(rows, HIDDEN, generator=source) < 0.02).float()
    weight = torch.randn(HIDDEN, INPUTS, generator=source)

    def numbers() -> None:
        for units in (INPUTS, HIDDEN, CLASSES, HIDDEN):
            torch.rand(rows, units, generator=source)

    def products() -> None:
        torch.nn.functional.linear(bits, weight)
        spikes.t() @ bits

    return {"random_numbers": numbers, "products": products}


def peak(length: int) -> int:
    """Bytes that steps add to a process that has taken one step of the shortest streams."""
    torch.set_num_threads(1)
    step(Bits(), length=1)()
    return interleave.peak_of(step(Bits(), length=length))


def peak_in_a_fresh_process(length: int) -> int:
    """Memory once taken is not given back, so each length has a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(peak, length).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    parts = floor()

    def whole() -> None:
        for part in parts.values():
            part()

    everyone: dict[str, Step] = {
        "bits": step(Bits()),
        "bits, 24-bit comparators": step(Bits(random_bits=24)),
        "bits, block mean": step(Bits(), block=True),
        "counts": step(Counts(), block=True),
        "counts, rank one": step(Counts(pairing=RankOne()), block=True),
        "expect": step(Expect()),
        "floor": whole,
        **{f"floor: {name}": part for name, part in parts.items()},
    }
    rounds = 5 if arguments.quick else 31
    seconds = interleave.race(everyone, rounds)
    memory = {str(n): peak_in_a_fresh_process(n) for n in LENGTHS}
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "net": f"{INPUTS}-{HIDDEN}-{CLASSES}",
        "length": LENGTH,
        "batch": BATCH,
        "rounds": rounds,
        "bf16_products": multiplies_bf16(),
        "byte_products": multiplies_bytes(),
        "milliseconds": {name: 1e3 * statistics.median(s) for name, s in seconds.items()},
        "times_floor": {
            name: interleave.ratio(seconds, name, "floor") for name in everyone if not name.startswith("floor")
        },
        "bits_times_counts": interleave.ratio(seconds, "bits", "counts"),
        "bits_times_counts_same_neuron": interleave.ratio(seconds, "bits, block mean", "counts"),
        "peak_bytes": memory,
    }
    print(f"{found['net']}, N = {LENGTH}, batch {BATCH}, {found['threads']} threads, median of {rounds} rounds")
    for name, ms in sorted(found["milliseconds"].items(), key=lambda item: item[1]):
        times = found["times_floor"].get(name)
        print(f"  {name:<26}{ms:>8.1f} ms" + ("" if times is None else f"{times:>8.2f} times the floor"))
    print(f"  counts are {found['bits_times_counts']:.1f} times as fast as bits")
    print("  peak memory of a step: " + ", ".join(f"N = {n}: {size / 1e6:.1f} MB" for n, size in memory.items()))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
