"""What one batch of an adopted model costs: the ledger's counts, for models whose neurons are known.

The batch runs through a copy. Whether a signal is a spike or a real number is the neuron's word: spikes are what a spiking
module of a library we know gives, as long as it is only moved about (views, stacks, maximum pools); behind anything else that
computes, an average pool say, signals are real numbers, and so are all signals under noise. Weights are met as often as the
model's own loop does it: a constant input that goes through the first layer at every step counts at every step. Norms,
pools and what else a model computes are not counted.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aplysia.adoption.call import AbstractCall
from aplysia.adoption.libraries.base import AbstractLibrary
from aplysia.adoption.trace import Forward, devices_of, first, library_of, twin_of
from aplysia.adoption.view import AdoptedNet, AdoptedWeight
from aplysia.credit.contract import AbstractSpatial
from aplysia.errors import PairError
from aplysia.ledger.activity import Activity, Drive
from aplysia.ledger.amount import Amount, Book, Charge, Phase
from aplysia.ledger.reach import address_bits, connections, fan_out
from aplysia.ledger.sheet import Habits, Sheet
from aplysia.nets.net import Net

# Functions that move spikes about and leave them spikes, by name.
_MOVES = frozenset(
    {
        *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "contiguous", "clone", "detach"),
        *("permute", "transpose", "t", "movedim", "swapaxes", "to", "float", "half", "bfloat16"),
        *("__getitem__", "select", "narrow", "unbind", "split", "chunk", "stack", "cat"),
        *(f"{kind}max_pool{n}d" for kind in ("", "adaptive_") for n in (1, 2, 3)),
    }
)


class _Meter(TorchFunctionMode):
    """Counts what meets each weight, and follows spikes to it."""

    def __init__(self, weights: dict[int, AdoptedWeight], readers: dict[Any, AbstractCall]) -> None:
        super().__init__()
        self.weights, self.readers = weights, readers
        self.events = {w.name: torch.zeros(w.drive_shape, dtype=torch.int64) for w in weights.values()}
        self.rows = dict.fromkeys(self.events, 0)
        self.real = dict.fromkeys(self.events, False)
        # By identity; kept alive, so that no other tensor can take the place of one that is gone.
        self._spikes: dict[int, Tensor] = {}

    def mark(self, tensor: Tensor) -> None:
        """These are spikes."""
        self._spikes[id(tensor)] = tensor

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        value = func(*args, **kwargs)
        reader = self.readers.get(func)
        call = None if reader is None else reader.read(func, args, kwargs)
        weight = None if call is None else self.weights.get(id(call.weight))
        if call is not None and weight is not None:
            rows = (call.drive != 0).reshape(-1, *weight.drive_shape)
            self.events[weight.name] += rows.sum(0).cpu()
            self.rows[weight.name] += len(rows)
            # A state that starts at zero says nothing of its kind, and costs nothing.
            self.real[weight.name] |= id(call.drive) not in self._spikes and bool(rows.any())
        elif getattr(func, "__name__", "") in _MOVES:
            given = [t for a in args for t in (a if isinstance(a, list | tuple) else [a]) if isinstance(t, Tensor)]
            if given and all(id(t) in self._spikes for t in given):
                for made in value if isinstance(value, list | tuple) else [value]:
                    if isinstance(made, Tensor):
                        self.mark(made)
        return value


def count_batch(
    model: nn.Module,
    net: AdoptedNet,
    rule: AbstractSpatial,
    forward: Forward,
    libraries: list[AbstractLibrary],
    readers: dict[Any, AbstractCall],
    x: Any,
    target: Tensor,
    step: int,
) -> Book:
    """One optimiser step with one batch, without transport.

    Raises:
        PairError: no neuron of a library we know, so that nothing is known of what is sent.
    """
    batch = len(target)
    names = {id(p): name for name, p in model.named_parameters()}
    twin = twin_of(model)
    parameters = dict(twin.named_parameters())
    meter = _Meter({id(parameters[names[id(w.weight)]]): w for w in net.synapses}, readers)
    neurons = {name: library for name, module in twin.named_modules() if (library := library_of(libraries, module))}
    if not neurons:
        raise PairError(
            "Adopted.count",
            expected="neurons of a library we know (snnTorch, SpikingJelly, Norse), so that spikes are told from real numbers",
            got=f"none in {type(model).__name__}",
            fix="count a net of ours, which aplysia.build makes",
        )
    fired, sizes = dict.fromkeys(neurons, 0), dict.fromkeys(neurons, 0)

    def ended(name: str, spiking: bool) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            out = first(output)
            if out is None:
                return
            sizes[name] += out.numel()
            if spiking:
                fired[name] += int((out != 0).sum())
                meter.mark(out)

        return hook

    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices_of(twin)))
        stack.enter_context(torch.no_grad())
        for name, library in neurons.items():
            module = twin.get_submodule(name)
            stack.callback(module.register_forward_hook(ended(name, library.spikes(module))).remove)
        stack.enter_context(meter)
        forward(twin, x)
    return _book(net, rule, meter, fired, sizes, batch, step)


def _book(
    net: AdoptedNet,
    rule: AbstractSpatial,
    meter: _Meter,
    fired: dict[str, int],
    sizes: dict[str, int],
    batch: int,
    step: int,
) -> Book:
    book = Book()
    steps = max((sizes.get(site.name, 0) // (batch * site.units) for site in net.hidden), default=1)
    noisy = rule.noise.alpha > 0.0
    drives = {
        w.name: Drive(
            meter.events[w.name],
            torch.zeros_like(meter.events[w.name]),
            real=meter.real[w.name] or (noisy and w.fed),
            held=meter.rows[w.name] == batch,
        )
        for w in net.synapses
    }
    activity = Activity(batch, steps, drives, fired)
    learning = rule.learning(cast("Net", net), step)
    named = frozenset(part.name for part in learning)
    for weight in net.synapses:
        drive, width = drives[weight.name], torch.finfo(weight.weight.dtype).bits
        met = int((drive.events * fan_out(cast("Any", weight))).sum())
        dense = meter.rows[weight.name] * connections(cast("Any", weight))
        products = {"macs": met} if drive.real else {"acs": met}
        book.add([Charge(weight.name, Phase.FORWARD, Amount(dense=dense, forward_reads=met, **products))])
        if weight.name in named or weight.site in named:
            stored = weight.weight.numel()
            update = Amount(dense=dense, forward_reads=stored, forward_writes=stored, **products)
            book.add([Charge(weight.name, Phase.UPDATE, update)])
        if not rule.cuts and weight.fed:
            words = meter.rows[weight.name] * math.prod(weight.current_shape)
            error = Amount(dense=dense, macs=dense, words=words, bits=words * width, feedback_reads=dense)
            book.add([Charge(weight.name, Phase.ERROR, error)])
    for name, size in sizes.items():
        bits = fired[name] * address_bits(max(1, size // (batch * steps)))
        book.add([Charge(name, Phase.FORWARD, Amount(updates=size, spikes=fired[name], address_bits=bits))])
    served = {w.site for w in net.synapses if w.name in named} | named
    for site in net.hidden:
        if site.name in served:
            book.add([Charge(site.name, Phase.ERROR, Amount(updates=steps * batch * site.units))])
    sheet = Sheet(cast("Net", net), activity, Habits(windows=1, traced=False, kept=steps, chunk=1), step, named)
    if rule.cuts:
        book.add(rule.errors(sheet))
    book.add(rule.local.charges(sheet))
    if noisy:
        draws = -(-steps // 2) if rule.noise.antithetic else steps
        book.add(sheet.drawn(cast("Any", site), draws) for site in net.hidden)
    return book
