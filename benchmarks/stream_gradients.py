"""How far a gradient from stochastic streams is from that of the artificial net, against the length of the streams.

    python benchmarks/stream_gradients.py [--quick] [--json FILE] [--svg FILE]

64-48-10 on the digits, two states (fresh, and trained for some epochs as the artificial net), one batch. For each memory and
length the same gradient is drawn many times, and beside the exact one G, of the artificial net (engine `expect`, which the
tests compare with plain autograd), stand

    error = sqrt(mean ‖Ĝ − G‖²)/‖G‖        bias = ‖mean Ĝ − G‖/‖G‖        slope = d log error / d log N, a least-squares fit

per layer. The bias of n draws holds noise of error/√n, which is told beside it.
"""

from __future__ import annotations

import argparse
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import aplysia
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.data.root import data_root
from aplysia.nets.net import Net
from aplysia.neurons.bitstream import Bitstream, Sigmoid
from aplysia.neurons.stream_memory import BlockMean, LeakyMean, Memoryless, RunningMean
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.stream import AbstractEngine, Bits, Counts, Expect
from aplysia.recipes import find
from aplysia.report.layout import COLOURS, MARKERS

BATCH = 16
KINDS: dict[str, tuple[AbstractEngine, Bitstream]] = {
    "memoryless": (Bits(), Bitstream(memory=Memoryless())),
    "leaky mean, 0.9": (Bits(), Bitstream(memory=LeakyMean(leak=0.9))),
    "running mean": (Bits(), Bitstream(memory=RunningMean())),
    "running mean, sigmoid": (Bits(), Bitstream(memory=RunningMean(), transfer=Sigmoid())),
    "block mean": (Bits(), Bitstream(memory=BlockMean())),
    "block mean, counts": (Counts(), Bitstream(memory=BlockMean())),
}


def gradient(net: Net, engine: AbstractEngine, x: Tensor, y: Tensor, length: int, draw: int) -> list[Tensor]:
    """One gradient of each layer's weights."""
    net.zero_grad(set_to_none=True)
    rule = aplysia.rules.Symmetric()
    rule.attach(net, seed=0)
    rule.begin(draw)
    Coincidence(engine=engine).learn(net, aplysia.Held(x, length), y, aplysia.WinnerLoss(), rule)
    return [layer.weight.grad for layer in net.all if layer.weight.grad is not None]


def state(neuron: Bitstream, epochs: int) -> tuple[Net, Tensor, Tensor]:
    """A net in one state, and the batch."""
    recipe = find("ssnn-digits")
    bundle = recipe.data.load(data_root(None), steps=1)
    memory = RunningMean() if isinstance(neuron.memory, Memoryless) else neuron.memory
    net = replace(recipe, neuron=neuron, readout=WinnerTakeAll(memory=memory)).build_net(bundle)
    learner = aplysia.Learner(
        net,
        rule=aplysia.rules.Symmetric(),
        temporal=Coincidence(engine=Expect()),
        optimiser=torch.optim.SGD(net.parameters(), lr=0.3),
        loss=aplysia.WinnerLoss(),
    )
    assert isinstance(bundle.train.inputs, Tensor)
    images, labels = bundle.train.inputs.float() * bundle.scale, bundle.train.labels
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
        for part in order.split(BATCH):
            learner.update(aplysia.Held(images[part], 1), labels[part])
    return net, images[:BATCH], labels[:BATCH]


def measure(engine: AbstractEngine, neuron: Bitstream, epochs: int, lengths: list[int], draws: int) -> dict[str, Any]:
    """Errors, biases and slopes of one kind in one state."""
    net, x, y = state(neuron, epochs)
    exact_neuron = Bitstream(memory=RunningMean(), transfer=neuron.transfer)
    exact_net = state(exact_neuron, 0)[0]
    exact_net.load_state_dict(net.state_dict())
    exact = gradient(exact_net, Expect(), x, y, 1, 0)
    found: dict[str, Any] = {"layers": [layer.name for layer in net.all], "error": [], "bias": [], "noise_of_bias": []}
    for length in lengths:
        # Long streams are dear, and their errors vary less.
        times = max(6, min(draws, draws * 64 // length))
        drawn = [gradient(net, engine, x, y, length, draw) for draw in range(times)]
        errors, biases = [], []
        for place, true in enumerate(exact):
            stack = torch.stack([one[place] for one in drawn])
            size = float(true.norm())
            errors.append(float((stack - true).flatten(1).norm(dim=1).square().mean().sqrt()) / size)
            biases.append(float((stack.mean(0) - true).norm()) / size)
        found["error"].append(errors)
        found["bias"].append(biases)
        found["noise_of_bias"].append([error / math.sqrt(times) for error in errors])
    found["slope"] = [slope(lengths, [row[place] for row in found["error"]]) for place in range(len(exact))]
    return found


def slope(xs: list[int], ys: list[float]) -> float:
    """Of the line through log y over log x."""
    a, b = [math.log(x) for x in xs], [math.log(y) for y in ys]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    across = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True))
    return across / sum((p - mean_a) ** 2 for p in a)


def picture(results: dict[str, Any]) -> str | None:
    """A column per state, a row per layer; None without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return None
    lengths, states = results["lengths"], results["states"]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "aplysia", "font.size": 9}):
        figure = Figure(figsize=(8.4, 6.4), layout="constrained")
        panels = figure.subplots(2, len(states), sharex=True, sharey=True, squeeze=False)
        for column, (name, kinds) in enumerate(states.items()):
            for place, layer in enumerate(("hidden layer", "readout")):
                axes = panels[place][column]
                for number, (kind, told) in enumerate(kinds.items()):
                    style = {"color": COLOURS[number], "marker": MARKERS[number][1], "markersize": 4, "linewidth": 1.2}
                    label = kind if (column, place) == (0, 0) else None
                    axes.plot(lengths, [row[place] for row in told["error"]], label=label, **style)
                axes.plot(lengths, [(lengths[0] / n) ** 0.5 for n in lengths], ":", color="#8a8a8a", linewidth=1)
                axes.set_xscale("log", base=2)
                axes.set_yscale("log")
                axes.set(title=f"{layer}, {name}", xlabel="length of the streams", ylabel="relative error")
                axes.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Title": "Gradient error against stream length"})
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer draws, shorter streams")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lengths = [8, 32, 128] if arguments.quick else [8, 16, 32, 64, 128, 256, 512, 1024, 2048]
    draws, epochs = (8, 2) if arguments.quick else (64, 5)
    results: dict[str, Any] = {"torch": torch.__version__, "lengths": lengths, "draws": draws, "states": {}}
    console = Console()
    for title, trained in (("fresh", 0), (f"after {epochs} epochs", epochs)):
        table = Table(title=title, title_justify="left")
        table.add_column("memory")
        for head in (*(f"N = {n}" for n in (lengths[0], lengths[-1])), "slope", "bias at the end"):
            table.add_column(f"{head}: hidden, readout", justify="right")
        results["states"][title] = {}
        for kind, (engine, neuron) in KINDS.items():
            told = results["states"][title][kind] = measure(engine, neuron, trained, lengths, draws)
            cells = [told["error"][0], told["error"][-1], told["slope"], told["bias"][-1]]
            table.add_row(kind, *(f"{hidden:.2f}, {readout:.2f}" for hidden, readout in cells))
        console.print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.svg and (drawn := picture(results)) is not None:
        arguments.svg.write_text(drawn)


if __name__ == "__main__":
    main()
