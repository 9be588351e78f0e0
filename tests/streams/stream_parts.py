"""What the tests of stochastic streams share: small nets, one call of learning, the artificial net by hand, z-scores.

Statistical tests have fixed seeds, so they never fail by chance; the rate each one states is how often it would fail under
another seed. |z| > 4.5 has the odds 7·10⁻⁶ for a normal number, so k of them are all below with odds of 1 − 7k·10⁻⁶.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from helpers import gradients
from torch import Tensor

from aplysia.credit.contract import AbstractSpatial, Record
from aplysia.credit.loss import WinnerLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.nets.initial import MidRange
from aplysia.nets.layer import AveragePool, Layer
from aplysia.nets.net import Input, Net, steps_of
from aplysia.nets.zoo import build
from aplysia.neurons.bitstream import AbstractTransfer, Bitstream, ClippedLinear, Sigmoid
from aplysia.neurons.stream_memory import AbstractMemory, BlockMean, RunningMean
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.geometry import Conv2d
from aplysia.ops.stream import AbstractEngine, Bits, Draws
from aplysia.ops.winner import AbstractCircuit, Race
from aplysia.types import Held

LIMIT = 4.5
CPU = torch.device("cpu")
CONV = "4C3s2p1-A2-6C3p1g2-F4"
CONV_SHAPE = (2, 12, 12)


def stream_net(
    text: str = "F16-F4",
    shape: tuple[int, ...] = (12,),
    *,
    memory: AbstractMemory | None = None,
    transfer: AbstractTransfer | None = None,
    circuit: AbstractCircuit | None = None,
    weights: float = 1.5,
    seed: int = 3,
) -> Net:
    """A net in float64; its readout sees the block mean where hidden units do, the running mean elsewhere."""
    memory = memory or RunningMean()
    made = build(
        text,
        shape,
        neuron=Bitstream(memory=memory, transfer=transfer or ClippedLinear()),
        readout=WinnerTakeAll(memory=BlockMean() if memory.block else RunningMean(), circuit=circuit or Race()),
        init=MidRange(gain=weights),
        seed=seed,
    )
    return made.double()


def rates(shape: tuple[int, ...] = (12,), batch: int = 5, classes: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs in [0, 1], multiples of 2⁻⁸ so that every comparator meets them exactly, and labels."""
    source = torch.Generator().manual_seed(200 + seed)
    x = torch.randint(0, 257, (batch, *shape), generator=source).double() / 256.0
    return x, torch.randint(0, classes, (batch,), generator=source)


def learnt(
    net: Net,
    x: Input,
    target: Tensor,
    *,
    engine: AbstractEngine | None = None,
    rule: AbstractSpatial | None = None,
    scheme: Coincidence | None = None,
    step: int = 0,
    seed: int = 0,
    **settings: Any,
) -> tuple[dict[str, Tensor], Record]:
    """Gradients by `layer.parameter` of one batch, and what was recorded."""
    rule = rule or Symmetric()
    if not rule._attached:
        rule.attach(net, seed=seed)
    rule.begin(step)
    scheme = scheme or Coincidence(engine=engine or Bits(), **settings)
    scheme.check(net, WinnerLoss(), rule)
    net.zero_grad(set_to_none=True)
    record = scheme.learn(net, x, target, WinnerLoss(), rule)
    return gradients(net), record


def repeated(
    net: Net, x: Input, target: Tensor, engine: AbstractEngine, count: int, **settings: Any
) -> dict[str, Tensor]:
    """Gradients of one batch under `count` sets of random numbers, `[count, …]` each."""
    made = [learnt(net, x, target, engine=engine, step=step, **settings)[0] for step in range(count)]
    return {name: torch.stack([one[name] for one in made]) for name in made[0]}


def assert_streams_alive(net: Net, x: Input, low: float = 0.05, high: float = 0.95) -> None:
    """Every hidden layer fires and none fires always: without this a parity test can pass on silence."""
    _, spikes = Coincidence().predict(net, x)
    batch = len(x.value) if isinstance(x, Held) else x.shape[1]
    for layer, count in zip(net.hidden, spikes.tolist(), strict=False):
        rate = count / (steps_of(x) * batch * layer.units)
        assert low <= rate <= high, f"layer {layer.name} fires at rate {rate:.3f}: this test would show nothing"


# --- the artificial net by hand --------------------------------------------------------------------------------------


def current(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Pools and synapse of a layer, with torch's own functions."""
    for pool in layer.pools:
        assert isinstance(pool, AveragePool)
        x = F.avg_pool2d(x, pool.size or x.shape[-1])
    if isinstance(layer.geometry, Conv2d):
        geometry = layer.geometry
        return F.conv2d(x, weight, bias, geometry.stride, geometry.padding, groups=geometry.groups)
    return F.linear(x.flatten(1), weight, bias)


def activation(layer: Layer, m: Tensor) -> Tensor:
    """Clipped line or sigmoid."""
    assert isinstance(layer.neuron, Bitstream)
    transfer = layer.neuron.transfer
    if isinstance(transfer, Sigmoid):
        return 1.0 / (1.0 + torch.exp(-transfer.slope * (m - transfer.centre)))
    return torch.minimum(torch.maximum(m, torch.zeros_like(m)), torch.ones_like(m))


def artificial(net: Net, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Membranes of the hidden layers and the logits of the artificial net, with plain autograd behind them."""
    membranes = []
    for layer in net.hidden:
        membranes.append(current(layer, x, layer.weight, layer.bias))
        x = activation(layer, membranes[-1])
    return membranes, current(net.readout, x, net.readout.weight, net.readout.bias)


def by_autograd(net: Net, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Gradients of softmax cross-entropy of the artificial net."""
    net.zero_grad(set_to_none=True)
    F.cross_entropy(artificial(net, x)[1], target).backward()
    return gradients(net)


# --- statistics ------------------------------------------------------------------------------------------------------


def z_scores(samples: Tensor, mean: Tensor | float, variance: Tensor | float | None = None) -> Tensor:
    """How many standard errors the mean over the first axis is from where it should be; variance of one sample."""
    spread = samples.var(0) if variance is None else torch.as_tensor(variance)
    return (samples.mean(0) - mean) / (spread / len(samples)).sqrt()


def variance_scores(samples: Tensor, mean: Tensor | float, variance: Tensor | float) -> Tensor:
    """The same for the variance about a known mean, by the samples' own fourth moment."""
    return z_scores((samples - mean).square(), variance)


def assert_scores(scores: Tensor, *, count: int) -> None:
    """None of the expected number of scores is beyond the limit."""
    assert scores.numel() == count
    assert torch.isfinite(scores).all()
    assert scores.abs().max() < LIMIT, f"|z| = {float(scores.abs().max()):.2f}"


def gap(one: Tensor, other: Tensor) -> Tensor:
    """z-scores of the difference of two means, where anything is drawn at all."""
    spread = (one.var(0) / len(one) + other.var(0) / len(other)).sqrt()
    assert (spread > 0.0).double().mean() > 0.7
    return ((one.mean(0) - other.mean(0)) / spread)[spread > 0.0]


def chi_square(seen: Tensor, p: Tensor) -> float:
    """Pearson's statistic of counts `[C]` against probabilities."""
    expected = p * seen.sum()
    return float(((seen - expected) ** 2 / expected).sum())


def slope(lengths: list[int], errors: list[float]) -> float:
    """Of log error against log N, by least squares."""
    x = torch.tensor([math.log(n) for n in lengths])
    y = torch.tensor([math.log(e) for e in errors])
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def relative(samples: Tensor, truth: Tensor) -> float:
    """Root of the mean over samples of ‖sample − truth‖², over ‖truth‖."""
    return float((samples - truth).flatten(1).square().sum(1).mean().sqrt() / truth.norm())


def drawn(n: int, *keys: int | str, engine: AbstractEngine | None = None) -> Draws:
    """A layer's draws."""
    return Draws(engine or Bits(), n, keys, CPU)
