"""What a model is made of, found by running one batch through a copy of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aplysia.adoption.call import AbstractCall, Call
from aplysia.adoption.libraries.base import AbstractLibrary
from aplysia.errors import PairError

Forward = Callable[[nn.Module, Any], Any]
Loss = Callable[[Any, Any], Tensor]


@dataclass
class Met:
    """A weight that was met in a call that we can read.

    Attributes:
        place: when it was first met, among all calls.
        call: the first one.
        shape: of the value of that call.
        fed: whether any call's drive depended on parameters, so that an error below serves someone.
    """

    place: int
    call: Call
    shape: torch.Size
    fed: bool


@dataclass
class Ran:
    """A module that ran.

    Attributes:
        place: when it first ended, among all calls.
        shape: of its first output, or the first part of that; None: not a tensor.
    """

    place: int
    shape: torch.Size | None


@dataclass
class Trace:
    """What was seen.

    Attributes:
        met: by the name of the parameter.
        ran: by the name of the module.
        learnt: names of the parameters that the loss depends on.
        elsewhere: by the name of the parameter, other functions that took it.
    """

    met: dict[str, Met] = field(default_factory=dict)
    ran: dict[str, Ran] = field(default_factory=dict)
    learnt: set[str] = field(default_factory=set)
    elsewhere: dict[str, set[str]] = field(default_factory=dict)


def first(output: Any) -> Tensor | None:
    """What a module sends on: its output, or the first part of that, where it is a tensor."""
    if isinstance(output, tuple) and output:
        output = output[0]
    return output if isinstance(output, Tensor) else None


class _Watch(TorchFunctionMode):
    def __init__(self, names: dict[int, str], readers: dict[Any, AbstractCall], trace: Trace) -> None:
        super().__init__()
        self.names, self.readers, self.trace, self.clock = names, readers, trace, 0

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        value = func(*args, **kwargs)
        reader = self.readers.get(func)
        call = None if reader is None else reader.read(func, args, kwargs)
        name = None if call is None else self.names.get(id(call.weight))
        if call is not None and name is not None:
            place = self.tick()
            met = self.trace.met.setdefault(name, Met(place, call, value.shape, fed=False))
            met.fed |= call.drive.requires_grad
            return value
        for argument in (*args, *kwargs.values()):
            taken = self.names.get(id(argument))
            # Properties and the like (`weight.shape`) come by here too; only products count.
            if taken is not None and isinstance(value, Tensor) and value.requires_grad:
                self.trace.elsewhere.setdefault(taken, set()).add(getattr(func, "__name__", str(func)))
        return value


def run_once(
    model: nn.Module, forward: Forward, loss: Loss, example: tuple[Any, Any], readers: dict[Any, AbstractCall]
) -> Trace:
    """Run a batch and its backward pass through a copy of the model; the model itself is not touched.

    Raises:
        PairError: the loss is not one number that depends on the parameters.
    """
    x, y = example
    twin = twin_of(model)
    trace = Trace()
    parameters = {name: p for name, p in twin.named_parameters() if p.requires_grad}
    watch = _Watch({id(p): name for name, p in parameters.items()}, readers, trace)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices_of(twin)))
        stack.enter_context(torch.enable_grad())
        for name, module in twin.named_modules():
            stack.callback(module.register_forward_hook(_ended(name, watch, trace)).remove)
        with watch:
            value = loss(forward(twin, x), y)
        check_value(value)
        found = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    trace.learnt = {name for name, gradient in zip(parameters, found, strict=True) if gradient is not None}
    return trace


def twin_of(model: nn.Module) -> nn.Module:
    """A copy, states of neurons included."""
    # A neuron that ran before keeps its state, with the graph that made it; torch copies no tensor with a graph.
    states: dict[int, Any] = {}
    pending: list[Any] = [module.__dict__ for module in model.modules()]
    while pending:
        held = pending.pop()
        if isinstance(held, Tensor):
            if not held.is_leaf:
                states[id(held)] = held.detach().clone()
        elif isinstance(held, dict):
            pending.extend(held.values())
        elif isinstance(held, list | tuple):
            pending.extend(held)
    return copy.deepcopy(model, states)


def check_value(value: Any) -> None:
    """Refuse what no gradient can come from."""
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        if isinstance(value, Tensor) and value.numel() == 1:
            what = "a number that no parameter of the model has a part in"
        raise PairError(
            "adopt(loss=…)",
            expected="one number that depends on the model's parameters",
            got=what,
            fix="let loss(output, target) return the mean over the batch, and forward run the model it is given",
        )


def _ended(name: str, watch: _Watch, trace: Trace) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        out = first(output)
        place = watch.tick()
        trace.ran.setdefault(name, Ran(place, None if out is None else out.shape))

    return hook


def devices_of(model: nn.Module) -> list[int]:
    """Numbers of the CUDA devices it lies on."""
    return sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})


def library_of(libraries: Iterable[AbstractLibrary], module: nn.Module) -> AbstractLibrary | None:
    """The library that a module is a neuron of."""
    return next((library for library in libraries if library.neuron(module)), None)


def owners(model: nn.Module) -> dict[str, list[tuple[str, nn.Module]]]:
    """By the name of a parameter, the modules it lies in, from the innermost outwards."""
    modules = dict(model.named_modules())
    made: dict[str, list[tuple[str, nn.Module]]] = {}
    for name, _ in model.named_parameters():
        parts = name.split(".")[:-1]
        paths: Sequence[str] = [".".join(parts[:n]) for n in range(len(parts), -1, -1)]
        made[name] = [(path, modules[path]) for path in paths]
    return made
