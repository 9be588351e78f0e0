"""The dense net of `train_step.py` as its peers write it, each the way its own documentation writes such a net."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from interleave import STILL, Step
from torch import nn

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
    return torch.optim.SGD(parameters, lr=STILL, momentum=0.9, fused=True)


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


def spikingjelly_bptt(steps: int, hoisted: bool = False, compiled: bool = False, autocast: bool = False) -> Step:
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
    run: Any = torch.compile(rest) if compiled else rest

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            drive = first(x).expand(steps, -1, -1) if hoisted else first(x.expand(steps, -1, -1))
            out = run(drive)
        loss = F.cross_entropy(out.flatten(0, 1).float(), y.repeat(steps))
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


PEERS: dict[str, Callable[[int], Step]] = {
    "snntorch_bptt": snntorch_bptt,
    "snntorch_bptt_hoisted": lambda steps: snntorch_bptt(steps, hoisted=True),
    "spikingjelly_bptt": spikingjelly_bptt,
    "spikingjelly_bptt_hoisted": lambda steps: spikingjelly_bptt(steps, hoisted=True),
    "spikingjelly_bptt_compiled": lambda steps: spikingjelly_bptt(steps, compiled=True),
    "spikingjelly_bptt_compiled_hoisted": lambda steps: spikingjelly_bptt(steps, hoisted=True, compiled=True),
    "spikingjelly_bptt_autocast": lambda steps: spikingjelly_bptt(steps, autocast=True),
    "spikingjelly_bptt_compiled_autocast": lambda steps: spikingjelly_bptt(steps, compiled=True, autocast=True),
    "spikingjelly_ottt": spikingjelly_ottt,
    "norse_bptt": norse_bptt,
    "norse_bptt_hoisted": lambda steps: norse_bptt(steps, hoisted=True),
}
