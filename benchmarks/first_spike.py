"""One training step of first-spike conv nets beside a ReLU net of the same shape and the peers' LIF nets at T = 16.

    python benchmarks/first_spike.py [--quick] [--json FILE]

All in one process, interleaved round by round; ratios are medians of the ratios within a round. The ReLU net runs in torch's
default order of memory and in channels-last order, and the faster of the two is what counts. Peers are written the way their
own documentation writes such a net, with the constant input given at each step. The ramp neuron's kernel has a benchmark of
its own, `ramp_kernel.py`, which runs at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import interleave
import ramp_kernel
import torch
import torch.nn.functional as F
from interleave import Step
from torch import nn

import aplysia
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.neurons.constant_slope import ConstantSlope
from aplysia.neurons.potential import Potential, Start
from aplysia.neurons.windowed import Windowed
from aplysia.ops.backend import kernels

STEPS = 16


@dataclass(frozen=True)
class Shape:
    """A net of 3 × 3 convolutions, each followed by a max pool or not, and a dense readout."""

    text: str
    image: tuple[int, int, int]
    channels: tuple[int, ...]
    pooled: tuple[bool, ...]
    batch: int

    @property
    def features(self) -> int:
        shrunk = 2 ** sum(self.pooled)
        return self.channels[-1] * (self.image[1] // shrunk) * (self.image[2] // shrunk)


SHAPES = {
    "fmnist": Shape("16C3-P2-32C3-P2-F10", (1, 28, 28), (16, 32), (True, True), 128),
    "cifar": Shape("32C3-64C3-P2-128C3-P2-F10", (3, 32, 32), (32, 64, 128), (False, True, True), 32),
}


def inputs(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse images in [0, 1], and labels."""
    source = torch.Generator().manual_seed(0)
    size = (shape.batch, *shape.image)
    x = torch.rand(size, generator=source) * (torch.rand(size, generator=source) < 0.5)
    return x, torch.randint(0, 10, (shape.batch,), generator=source)


def ours(shape: Shape, neuron: Any, readout: Any) -> Step:
    net = aplysia.build(shape.text, shape.image, neuron=neuron, readout=readout, bias=False)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    learner = aplysia.Learner(
        net,
        rule=aplysia.rules.Symmetric(),
        temporal=SpikeTime(),
        optimiser=optimiser,
        loss=aplysia.StepwiseLoss(mse_share=0.0),
    )
    x, y = inputs(shape)
    return lambda: learner.update(x.unsqueeze(0), y)


def convolutions(shape: Shape, conv: Any, activation: Callable[[], nn.Module], pool: Any) -> list[nn.Module]:
    made: list[nn.Module] = []
    for below, above, pooled in zip((shape.image[0], *shape.channels), shape.channels, shape.pooled, strict=False):
        made += [conv(below, above, 3, padding=1, bias=False), activation()]
        made += [pool(2)] if pooled else []
    return made


def relu(shape: Shape, order: torch.memory_format) -> Step:
    net = nn.Sequential(
        *convolutions(shape, nn.Conv2d, nn.ReLU, nn.MaxPool2d),
        nn.Flatten(),
        nn.Linear(shape.features, 10, bias=False),
    ).to(memory_format=order)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = inputs(shape)
    x = x.to(memory_format=order)

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimiser.step()

    return step


def snntorch_lif(shape: Shape) -> Step:
    import snntorch
    from snntorch import surrogate, utils

    def leaky() -> nn.Module:
        return snntorch.Leaky(beta=0.5, spike_grad=surrogate.sigmoid(slope=4), init_hidden=True)

    net = nn.Sequential(
        *convolutions(shape, nn.Conv2d, leaky, nn.MaxPool2d), nn.Flatten(), nn.Linear(shape.features, 10, bias=False)
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = inputs(shape)

    def step() -> None:
        utils.reset(net)
        out = torch.stack([net(x) for _ in range(STEPS)])
        optimiser.zero_grad()
        F.cross_entropy(out.mean(0), y).backward()
        optimiser.step()

    return step


def spikingjelly_lif(shape: Shape) -> Step:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> nn.Module:
        return neuron.LIFNode(tau=2.0, detach_reset=True, surrogate_function=surrogate.Sigmoid(alpha=4.0))

    net = nn.Sequential(
        *convolutions(shape, layer.Conv2d, lif, layer.MaxPool2d),
        layer.Flatten(),
        layer.Linear(shape.features, 10, bias=False),
    )
    functional.set_step_mode(net, "m")
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, y = inputs(shape)

    def step() -> None:
        out = net(x.expand(STEPS, *x.shape))
        optimiser.zero_grad()
        F.cross_entropy(out.mean(0), y).backward()
        optimiser.step()
        functional.reset_net(net)

    return step


def contest(shape: Shape, rounds: int) -> dict[str, Any]:
    """Everyone on one shape."""
    everyone: dict[str, Step] = {
        "windowed": ours(shape, Windowed(), Potential()),
        "constant_slope": ours(shape, ConstantSlope(), Potential(reading=Start())),
        "relu": relu(shape, torch.contiguous_format),
        "relu_channels_last": relu(shape, torch.channels_last),
    }
    peers, missing = [], {}
    for name, make in {"snntorch_lif": snntorch_lif, "spikingjelly_lif": spikingjelly_lif}.items():
        try:
            everyone[name] = make(shape)
            peers.append(name)
        except ImportError as problem:
            missing[name] = str(problem)
    seconds = interleave.race(everyone, rounds, warm_up=2)
    best_relu = interleave.fastest(seconds, ("relu", "relu_channels_last"))
    result: dict[str, Any] = {
        "net": shape.text,
        "batch": shape.batch,
        "rounds": rounds,
        # Of the quicker quarter of rounds: a machine that is disturbed now and then halves a median, and says nothing of speed.
        "samples_per_second": {name: shape.batch / statistics.quantiles(s, n=4)[0] for name, s in seconds.items()},
        "missing": missing,
        "best_relu": best_relu,
        "times_relu": {name: interleave.ratio(seconds, name, best_relu) for name in ("windowed", "constant_slope")},
        "times_default_relu": {
            name: interleave.ratio(seconds, name, "relu") for name in ("windowed", "constant_slope")
        },
    }
    if peers:
        best = interleave.fastest(seconds, peers)
        result |= {"best_peer": best, "ratio_to_best_peer": interleave.ratio(seconds, best, "windowed")}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, the smaller net only")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    warnings.filterwarnings("ignore", module="(snntorch|spikingjelly)")
    results: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "peer_steps": STEPS}
    with kernels(compiled=True) as compiled:
        results["compiled_kernels"] = compiled
        for name in ("fmnist",) if arguments.quick else SHAPES:
            results[name] = found = contest(SHAPES[name], 5 if arguments.quick else 15)
            print(f"\n{found['net']}, batch {found['batch']}, samples/s (first quartile of {found['rounds']} rounds)")
            for who, speed in sorted(found["samples_per_second"].items(), key=lambda item: -item[1]):
                print(f"  {who:<22}{speed:>9,.0f}")
            print(
                f"  windowed takes {found['times_relu']['windowed']:.2f} times {found['best_relu']}, the faster ReLU net"
            )
            if "best_peer" in found:
                print(
                    f"  windowed is {found['ratio_to_best_peer']:.1f} times as fast as {found['best_peer']}, T = {STEPS}"
                )
            for who, why in found["missing"].items():
                print(f"  {who:<22}  missing: {why}")
    if not arguments.quick:
        results["ramp"] = ramp_kernel.measure(3)
        for name, found in results["ramp"].items():
            faster, smaller = found["times_faster"]["compiled"], found["times_smaller"]["compiled"]
            print(
                f"\nramp kernel, {name}: {faster:.0f} times faster than plain torch, with {smaller:.0f} times less memory"
            )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
