"""What the first-spike tests share: nets that fire without all saturating, and the way to the oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import oracle_first_spike as by_hand
import oracles
import oracles_response
import pytest
import torch
from helpers import RULES, gradients, oracle_local
from oracle_first_spike import SpikeLayer, SpikeTimes
from oracles import OracleLayer
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial
from aplysia.credit.loss import SpikeTimeLoss, StepwiseLoss
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.errors import PairError
from aplysia.nets.initial import AbstractInitial, PositiveMean
from aplysia.nets.layer import AveragePool
from aplysia.nets.net import Net
from aplysia.nets.zoo import build
from aplysia.neurons.base import AbstractFirstSpike
from aplysia.neurons.constant_slope import ConstantSlope
from aplysia.neurons.potential import End, Potential, Start
from aplysia.neurons.windowed import Windowed
from aplysia.ops.geometry import Conv2d

# A window for signals of constant-slope neurons that have no bound of their own: longer than any earliness in these tests.
LONG = 64.0


@dataclass(frozen=True)
class Case:
    """A first-spike net and its input. `bias` is the deviation of the biases, 0 for a net without."""

    text: str
    input_shape: tuple[int, ...]
    neuron: AbstractFirstSpike
    readout: AbstractFirstSpike = field(default_factory=Potential)
    loss: AbstractLoss = field(default_factory=lambda: StepwiseLoss(mse_share=0.3))
    init: AbstractInitial = field(default_factory=lambda: PositiveMean(mean=0.4, gain=0.8))
    bias: float = 0.0
    standardise: bool = False
    saturates: bool = True

    @property
    def window(self) -> float:
        return self.neuron.input_window or 1.0

    def net(self, seed: int = 3) -> Net:
        net = build(
            self.text,
            self.input_shape,
            neuron=self.neuron,
            readout=self.readout,
            init=self.init,
            bias=self.bias > 0.0,
            standardise=self.standardise,
            seed=seed,
        ).double()
        source = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for layer in net.all:
                if layer.neuron.spiking and layer is net.readout:  # else all of its few units fire for every sample
                    layer.weight.mul_(2.0)
                if layer.bias is not None:
                    layer.bias.copy_(self.bias * torch.randn(layer.bias.shape, generator=source, dtype=torch.float64))
                if layer.weight_gain is not None:
                    layer.weight_gain.copy_(1.0 + 0.5 * torch.rand(layer.weight_gain.shape, generator=source))
        return net

    def input(self, batch: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Earliness `[1, B, …]`, a quarter silent, and labels."""
        source = torch.Generator().manual_seed(100 + seed)
        target = torch.randint(0, int(self.text.rsplit("F", 1)[1]), (batch,), generator=source)
        x = torch.rand(1, batch, *self.input_shape, generator=source, dtype=torch.float64) * self.window
        return x * (torch.rand(x.shape, generator=source) < 0.75), target


_WINDOWED = Windowed(max_gain=None)
_SMALL = Windowed(window=2.5, threshold=0.7, max_gain=None)
DENSE = Case("F16-F14-F4", (10,), _WINDOWED)
CONV = Case("4C3-P2-6C3s2p1g2-P2-F4", (2, 8, 8), _WINDOWED)
WINDOWED: dict[str, Case] = {
    "dense": DENSE,
    "dense, bias, T 2.5, ϑ 0.7": replace(DENSE, neuron=_SMALL, readout=Potential(reading=End(window=2.5)), bias=0.2),
    "dense, bias, T 0.4, ϑ 3, gain bounded, read at the start": replace(
        DENSE,
        neuron=Windowed(window=0.4, threshold=3.0, max_gain=0.15),
        readout=Potential(reading=Start()),
        init=PositiveMean(mean=2.0, gain=4.0),
        bias=0.2,
    ),
    "dense, gain bounded at 1": replace(DENSE, neuron=Windowed(), init=PositiveMean(mean=0.3, gain=0.7)),
    "dense, bias, standardised": replace(DENSE, standardise=True, bias=0.5),
    "dense, spiking readout": replace(DENSE, readout=_WINDOWED, loss=SpikeTimeLoss(scale=0.3)),
    "dense, spiking readout, bias, T 2.5, ϑ 0.7": replace(
        DENSE, neuron=_SMALL, readout=replace(_SMALL, threshold=4.0), loss=SpikeTimeLoss(scale=0.8), bias=0.1
    ),
    "conv": CONV,
    "conv, bias, T 2.5, ϑ 0.7, gain bounded": replace(
        CONV,
        neuron=Windowed(window=2.5, threshold=0.7, max_gain=1.2),
        readout=Potential(reading=End(window=2.5)),
        bias=0.2,
    ),
    "conv, average pools, bias": replace(CONV, text="4C3-A2-6C3s2p1g2-A2-F4", bias=0.1, saturates=False),
    "conv, maximum then average": replace(CONV, text="4C3-P2-A2-F4", saturates=False),
}
CONSTANT: dict[str, Case] = {
    "constant slope, dense, bias": Case(
        "F16-F14-F4", (10,), ConstantSlope(), Potential(reading=Start()), bias=0.3, saturates=False
    ),
    "constant slope, window 1.2, read at the end": Case(
        "F16-F14-F4",
        (10,),
        ConstantSlope(window=1.2),
        Potential(reading=End(window=1.2)),
        init=PositiveMean(mean=1.0, gain=2.0),
        bias=0.3,
    ),
    "constant slope, conv, bias": Case(
        "4C3-P2-6C3s2p1g2-P2-F4", (2, 8, 8), ConstantSlope(), Potential(reading=Start()), bias=0.2, saturates=False
    ),
    "constant slope, conv, average pools": Case(
        "4C3-A2-6C3-A2-F4", (2, 8, 8), ConstantSlope(), Potential(reading=Start()), bias=0.1, saturates=False
    ),
}
CASES = WINDOWED | CONSTANT
each_case = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))


def outs(net: Net, x: Tensor) -> list[Tensor]:
    """Every layer's output `[B, …]`, without a graph."""
    with torch.no_grad():
        return [out[0] for out in net(x).outs]


def assert_fires(net: Net, x: Tensor, low: float = 0.05, high: float = 0.95) -> None:
    """In every layer some fire, some do not, and some of those that fire are not saturated: else a test shows nothing."""
    for layer, out in zip(net.all, outs(net, x), strict=True):
        if not layer.neuron.spiking:
            continue
        assert isinstance(layer.neuron, AbstractFirstSpike)
        rate = float((out > 0).double().mean())
        assert low <= rate <= high, f"layer {layer.name}: a share of {rate:.3f} fires"
        top = layer.neuron.saturation
        between = float(((out > 0) & (out < (top or torch.inf))).double().mean())
        assert between >= low, f"layer {layer.name}: only a share of {between:.3f} fires without saturating"


def saturates(net: Net, x: Tensor) -> bool:
    """Whether any hidden unit does."""
    return any(
        bool((out == layer.neuron.saturation).any())  # type: ignore[attr-defined]
        for layer, out in zip(net.hidden, outs(net, x), strict=False)
    )


def lives_on_steps(rule: AbstractSpatial) -> bool:
    """Whether a rule needs noise from step to step, or surrogate derivatives: neither is there in spike times."""
    return rule.noise.alpha > 0.0 or rule.slopes


def attach(rule_name: str, net: Net, *, seed: int = 5, **settings: Any) -> AbstractSpatial:
    """The rule on the net, and then a change of the weights, so that no feedback equals them by chance."""
    rule = RULES[rule_name](**settings)
    try:
        rule.attach(net, seed=seed)
    except PairError as refused:
        if not any(layer.weight_gain is not None for layer in net.all):
            raise
        pytest.skip(str(refused))
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in net.all:
            noise = torch.randn(layer.weight.shape, generator=source, dtype=torch.float64)
            layer.weight.add_(0.2 * layer.weight.std() * noise)
    return rule


def learnt(
    net: Net, rule: AbstractSpatial, x: Tensor, target: Tensor, loss: AbstractLoss, **settings: Any
) -> dict[str, Tensor]:
    """Gradients of the net and of what the rule has trained."""
    net.zero_grad(set_to_none=True)
    for tensor in rule.parameters():
        tensor.grad = None
    SpikeTime(**settings).learn(net, x, target, loss, rule)
    return gradients(net, rule)


# --- to the oracle ---------------------------------------------------------------------------------------------------


def to_times(x: Tensor, window: float) -> Tensor:
    """The test's own way from earliness to times."""
    return torch.where(x > 0, window - x, torch.inf)


def oracle_of(net: Net, rule: AbstractSpatial | None = None) -> tuple[list[SpikeLayer], oracles.OracleRule]:
    """Oracle net and oracle rule, with the library's numbers copied out."""
    made, window = [], 0.0
    for layer in net.all:
        neuron, geometry = layer.neuron, layer.geometry
        maps = OracleLayer(
            layer.name,
            layer.weight.detach().clone(),
            None if layer.bias is None else layer.bias.detach().clone(),
            None if layer.weight_gain is None else layer.weight_gain.detach().clone(),
            (geometry.stride, geometry.padding, geometry.groups) if isinstance(geometry, Conv2d) else None,
            tuple(("average" if isinstance(p, AveragePool) else "max", p.size) for p in layer.pools),
            0.0,
            neuron.spiking,
        )
        if isinstance(neuron, Windowed):
            window = neuron.window
            made.append(SpikeLayer(maps, "windowed", window, neuron.threshold, neuron.max_gain))
        elif isinstance(neuron, ConstantSlope):
            window = neuron.window or LONG
            made.append(SpikeLayer(maps, "constant", window, limited=neuron.window is not None))
        else:
            assert isinstance(neuron, Potential)
            late = neuron.reading.window if isinstance(neuron.reading, End) else 0.0
            made.append(SpikeLayer(maps, "potential", window, read_at=window + late))
    if rule is None:
        return made, oracles.Symmetric(None, {}, _no_draw)
    kind, by_name = type(rule).__name__, oracles.RULES | oracles_response.RULES
    assert kind in by_name, f"rule {kind} has no oracle: write it out by hand in tests/oracles.py"
    names = {layer.name for layer in net.all}
    tensors = {n: t.detach().clone() for n, t in rule.tensors.items() if n in names or n.startswith("local/")}
    return made, by_name[kind](rule, tensors, _no_draw, local=oracle_local(rule))


def _no_draw(what: str, layer: OracleLayer, step: int) -> Tensor:
    raise AssertionError("one batch draws nothing")


def oracle_loss(loss: AbstractLoss, window: float) -> Any:
    if isinstance(loss, SpikeTimeLoss):
        return SpikeTimes(loss.scale, window)
    assert isinstance(loss, StepwiseLoss)
    return oracles.Stepwise(loss.mse_share)


def oracle_learn(
    net: Net, rule: AbstractSpatial | None, x: Tensor, target: Tensor, loss: AbstractLoss
) -> by_hand.Learnt:
    layers, by_rule = oracle_of(net, rule)
    return by_hand.learn(
        layers, to_times(x[0], layers[0].window), target, oracle_loss(loss, layers[-1].window), by_rule
    )


def oracle_outs(net: Net, x: Tensor) -> list[Tensor]:
    """Every layer's output by hand, as earliness (of a potential: as it is)."""
    layers, _ = oracle_of(net)
    films = by_hand.run(layers, to_times(x[0], layers[0].window))
    return [
        film.times
        if layer.kind == "potential"
        else torch.where(torch.isfinite(film.times), layer.window - film.times, 0.0)
        for layer, film in zip(layers, films, strict=True)
    ]


def close(
    got: dict[str, Tensor],
    want: dict[str, Tensor],
    *,
    rtol: float = 1e-10,
    zero: Callable[[str], bool] = lambda n: False,
) -> None:
    """Equal keys; equal numbers relative to the largest of each tensor; and not by being all zero."""
    assert got.keys() == want.keys()
    for name in want:
        assert torch.isfinite(got[name]).all(), name
        size = float(want[name].abs().max())
        assert size > 1e-7 or zero(name), f"{name} is zero: this test would show nothing"
        assert float((got[name] - want[name]).abs().max()) <= rtol * size, name
