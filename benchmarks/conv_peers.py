"""A net of ours as its peers write it: the same convolutions, pools and weights, trained through time by their own libraries.

Each is written the way its own documentation writes such a net. *Hoisted* ones pass the constant input through the first
convolution once instead of T times, as Aplysia does by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from interleave import STILL, Step
from torch import Tensor, nn

from aplysia.nets.layer import AveragePool, Layer
from aplysia.nets.net import Net

SLOPE = 4.0


@dataclass(frozen=True)
class Task:
    """What everyone trains.

    Attributes:
        net: ours, on its device; the peers take copies of its weights.
        x: images `[B, C, H, W]`, held for all steps.
        y: labels.
        steps: T.
        leak: λ, the peers' beta.
    """

    net: Net
    x: Tensor
    y: Tensor
    steps: int
    leak: float


@dataclass(frozen=True)
class Contestant:
    """A training step, and the modules that fire in it."""

    step: Step
    neurons: list[nn.Module]

    def rates(self) -> list[float]:
        """Share of units of each layer that fire, on average over one step of training, which is taken."""
        found: dict[nn.Module, list[Tensor]] = {neuron: [] for neuron in self.neurons}

        def look(module: nn.Module, _: Any, out: Any) -> None:
            spikes = out[0] if isinstance(out, tuple | list) else out
            found[module].append((spikes.detach() > 0).float().mean())

        hooks = [neuron.register_forward_hook(look) for neuron in self.neurons]
        self.step()
        for hook in hooks:
            hook.remove()
        return [float(torch.stack(shares).mean()) for shares in found.values()]


def sgd(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=STILL, momentum=0.9, fused=True)


def _modules(
    task: Task, neuron: Callable[[], nn.Module], kit: Any = nn, *, flatten: Callable[[], nn.Module] = nn.Flatten
) -> list[nn.Module]:
    """The net out of a kit's convolutions, pools and dense layers, with the weights of ours."""
    made: list[nn.Module] = []
    for layer in task.net.all:
        made += [kit.AvgPool2d(pool.size) for pool in layer.pools if isinstance(pool, AveragePool)]
        if layer is task.net.readout:
            made.append(flatten())
        made.append(_weights(layer, kit))
        if layer is not task.net.readout:
            made.append(neuron())
    return [module.to(task.x.device) for module in made]


def _weights(layer: Layer, kit: Any) -> nn.Module:
    above, below, *kernel = layer.weight.shape
    made = kit.Conv2d(below, above, kernel[0], padding=kernel[0] // 2) if kernel else kit.Linear(below, above)
    state = {"weight": layer.weight.detach()} | ({} if layer.bias is None else {"bias": layer.bias.detach()})
    made.load_state_dict(state)
    return made


def relu(task: Task, order: torch.memory_format) -> Contestant:
    """The plain net: no time, no memory."""
    modules = _modules(task, nn.ReLU)
    net = nn.Sequential(*modules).to(memory_format=order)  # pyright: ignore[reportCallIssue]
    optimiser, x = sgd(net.parameters()), task.x.to(memory_format=order)

    def step() -> None:
        loss = F.cross_entropy(net(x), task.y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return Contestant(step, [m for m in modules if isinstance(m, nn.ReLU)])


def snntorch(task: Task, *, hoisted: bool = False) -> Contestant:
    import snntorch
    from snntorch import surrogate, utils

    def leaky() -> nn.Module:
        return snntorch.Leaky(beta=task.leak, spike_grad=surrogate.sigmoid(slope=int(SLOPE)), init_hidden=True)

    first, *others = _modules(task, leaky)
    rest = nn.Sequential(*others)
    optimiser = sgd([*first.parameters(), *rest.parameters()])

    def step() -> None:
        utils.reset(rest)
        held = first(task.x) if hoisted else None
        loss = torch.zeros((), device=task.x.device)
        for _ in range(task.steps):
            out = rest(first(task.x) if held is None else held)
            loss = loss + F.cross_entropy(out, task.y) / task.steps
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return Contestant(step, [m for m in others if isinstance(m, snntorch.Leaky)])


def spikingjelly(task: Task, *, hoisted: bool = False, compiled: bool = False, autocast: bool = False) -> Contestant:
    """Multi-step modules; under `torch.compile` they are what runs fastest of this library on a CPU."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> nn.Module:
        return neuron.LIFNode(
            tau=1 / (1 - task.leak),
            decay_input=False,
            v_reset=None,
            detach_reset=True,
            surrogate_function=surrogate.Sigmoid(alpha=SLOPE),
        )

    first, *others = _modules(task, lif, layer, flatten=layer.Flatten)
    rest, whole = nn.Sequential(*others), nn.Sequential(first, *others)
    functional.set_step_mode(rest if hoisted else whole, "m")
    optimiser = sgd(whole.parameters())
    run: Any = rest if hoisted else whole
    run = torch.compile(run) if compiled else run

    def step() -> None:
        with torch.autocast(task.x.device.type, torch.bfloat16, enabled=autocast):
            x = first(task.x) if hoisted else task.x
            out = run(x.expand(task.steps, *x.shape))
        loss = F.cross_entropy(out.flatten(0, 1).float(), task.y.repeat(task.steps))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        functional.reset_net(whole)

    return Contestant(step, [m for m in others if isinstance(m, neuron.LIFNode)])


def spikingjelly_ottt(task: Task) -> Contestant:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def lif() -> nn.Module:
        return neuron.OTTTLIFNode(
            tau=1 / (1 - task.leak),
            decay_input=False,
            v_reset=None,
            detach_reset=True,
            surrogate_function=surrogate.Sigmoid(alpha=SLOPE),
        )

    modules = _modules(task, lif)
    net = layer.OTTTSequential(*modules)
    optimiser = sgd(net.parameters())

    def step() -> None:
        optimiser.zero_grad()
        for _ in range(task.steps):
            out = net(task.x)
            (F.cross_entropy(out[0] if isinstance(out, list) else out, task.y) / task.steps).backward()
        optimiser.step()
        functional.reset_net(net)

    return Contestant(step, [m for m in modules if isinstance(m, neuron.OTTTLIFNode)])


def norse(task: Task, *, hoisted: bool = False) -> Contestant:
    import norse.torch as norse
    from norse.torch.functional.reset import reset_subtract

    def number(value: float) -> Tensor:
        return torch.tensor(value, device=task.x.device)

    def lif() -> nn.Module:
        # Norse scales the current by 1 − λ. With the threshold scaled likewise the same weights make the same net.
        p = norse.LIFBoxParameters(
            tau_mem_inv=number((1 - task.leak) * 1000), v_th=number(1 - task.leak), reset_method=reset_subtract
        )
        return norse.LIFBoxCell(p)

    first, *others = _modules(task, lif)
    rest, whole = norse.SequentialState(*others), norse.SequentialState(first, *others)
    optimiser = sgd(whole.parameters())
    net = rest if hoisted else whole

    def step() -> None:
        state = None
        x = first(task.x) if hoisted else task.x
        loss = torch.zeros((), device=task.x.device)
        for _ in range(task.steps):
            out, state = net(x, state)
            loss = loss + F.cross_entropy(out, task.y) / task.steps
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return Contestant(step, [m for m in others if isinstance(m, norse.LIFBoxCell)])


PEERS: dict[str, Callable[[Task], Contestant]] = {
    "snntorch_bptt": snntorch,
    "snntorch_bptt_hoisted": lambda task: snntorch(task, hoisted=True),
    "spikingjelly_bptt": spikingjelly,
    "spikingjelly_bptt_hoisted": lambda task: spikingjelly(task, hoisted=True),
    "spikingjelly_bptt_compiled": lambda task: spikingjelly(task, compiled=True),
    "spikingjelly_bptt_compiled_hoisted": lambda task: spikingjelly(task, hoisted=True, compiled=True),
    "spikingjelly_bptt_autocast": lambda task: spikingjelly(task, autocast=True),
    "spikingjelly_bptt_compiled_autocast": lambda task: spikingjelly(task, compiled=True, autocast=True),
    "spikingjelly_ottt": spikingjelly_ottt,
    "norse_bptt": norse,
    "norse_bptt_hoisted": lambda task: norse(task, hoisted=True),
}
RELUS: dict[str, Callable[[Task], Contestant]] = {
    "relu": lambda task: relu(task, torch.contiguous_format),
    "relu_channels_last": lambda task: relu(task, torch.channels_last),
}
