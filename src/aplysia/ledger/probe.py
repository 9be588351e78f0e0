"""The second counter: watches the operations torch carries out while a batch is learnt, and counts them one by one.

It shares nothing with the closed form. Products are found by intercepting dispatch, and counted by carrying them out once
more on masks: a product with a 0/1 mask of the signals and weights of 1 adds up to the number of products that were not with 0,
padding left out. Whether a signal is spikes is read off its values here (all that are not 0 are equal), where the ledger goes
by what neurons declare; so a wrong declaration shows as a difference.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from aplysia.ledger.amount import Book, Phase
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.ops.geometry import AbstractGeometry
from aplysia.rng import seeded

_aten = torch.ops.aten
_MATMULS = {_aten.mm.default: (0, 1), _aten.addmm.default: (1, 2), _aten.bmm.default: (0, 1)}
_CONVOLUTIONS = {_aten.convolution.default, _aten._convolution.default}
_BACKWARDS = {_aten.convolution_backward.default}
_POOLS = {_aten.avg_pool2d.default}
_MAX_POOLS = {_aten.max_pool2d_with_indices.default}
_COPIES = {_aten.clone.default, _aten._to_copy.default}
_DRAWS = {
    "aten::randn",
    "aten::rand",
    "aten::normal_",
    "aplysia::normal_",
    "aten::uniform_",
    "aten::random_",
    "aten::randint",
    "aten::bernoulli_",
    "aten::exponential_",
}

PROBED = ("dense", "macs", "acs", "forward_writes", "feedback_writes", "random_numbers")


@dataclass(frozen=True)
class _Label:
    layer: str | None
    kind: str


class Probe(TorchDispatchMode):
    """Counts what happens inside `watching()`.

    Args:
        net: whose layers are told apart by name.
        tensors: feedback weights and what else a rule owns, by name.
    """

    def __init__(self, net: Net, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.net, self.book = net, Book()
        self._labels: list[_Label] = []
        self._owned = {tensor.untyped_storage().data_ptr(): (name, tensor) for name, tensor in tensors.items()}
        self._events: dict[int, tuple[Tensor, Tensor, bool]] = {}
        self._turn: dict[torch.Size, int] = defaultdict(int)
        self._written: dict[str, int] = {}
        self._pass: str | None = None
        self._fired: dict[int, Tensor] = {}
        self._drawn: set[bytes] = set()

    @contextmanager
    def watching(self, rule: Any) -> Iterator[Probe]:
        """Label the layers' products and the rule's own passes, and watch."""
        with ExitStack() as stack:
            for layer in self.net.synapses:
                stack.enter_context(self._labelled(layer))
            for method, kind in (("response", "response"), ("after", "transport")):
                if hasattr(rule, method):
                    stack.enter_context(mock.patch.object(rule, method, self._inside(getattr(rule, method), kind)))
            # Products of bits in three parts would be seen as three products, and bytes are told by nothing as spikes.
            stack.enter_context(mock.patch("aplysia.nets.stream.fast_bits", return_value=False))
            stack.enter_context(self)
            yield self

    def _inside(self, call: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self._marked(kind):
                return call(*args, **kwargs)

        return inside

    @contextmanager
    def _marked(self, kind: str) -> Iterator[None]:
        before, self._pass = self._pass, kind
        try:
            yield
        finally:
            self._pass = before

    @contextmanager
    def labelled(self, layer: str | None, kind: str) -> Iterator[None]:
        """What happens inside belongs to a layer, and is of a kind: forward, error, outer; an outer label of a phase wins."""
        self._labels.append(_Label(layer, kind))
        try:
            yield
        finally:
            self._labels.pop()

    @contextmanager
    def _labelled(self, layer: Layer) -> Iterator[None]:
        plain = layer.geometry
        layer.geometry = _with_label(plain, layer.name, self)
        handle = layer.register_forward_hook(self._after_layer)
        try:
            yield
        finally:
            layer.geometry = plain
            handle.remove()

    def _after_layer(self, layer: Any, _: Any, given: Any) -> None:
        out = given[0].detach()
        self.book.charge(layer.name, Phase.FORWARD, updates=out.numel())
        if _spikes(out):
            self._fired[out.untyped_storage().data_ptr()] = out

    def writes(self, layers: list[Layer], before: dict[int, int]) -> None:
        """Charge the writes of forward weights whose version has changed."""
        for layer in layers:
            written = sum(p.numel() for p in layer.parameters(recurse=False) if p._version != before[id(p)])
            if written:
                self.book.charge(layer.name, Phase.UPDATE, forward_writes=written)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _MATMULS:
            a, b = (args[i] for i in _MATMULS[func])
            self._product(a, b, out)
        elif func in _CONVOLUTIONS:
            self._convolved(args, out)
        elif func in _BACKWARDS:
            self._convolved_back(args)
        elif func in _POOLS:
            self._pooled(func, args, kwargs or {}, out)
        elif func in _MAX_POOLS:
            self._met(out[0], self._signals(args[0])[1])
        elif func in _COPIES:
            found = self._seen(args[0])
            if found is not None:
                self._keep(out, found[0].reshape(out.shape), found[1])
        elif func._schema.name in _DRAWS and isinstance(out, Tensor):
            self._draw(kwargs or {}, out)
        elif func is torch.ops.aplysia.normals_.default:
            for part, seed in zip(out, args[1], strict=True):
                self._draw({"generator": seeded(out.device, seed)}, part)
        self._note_writes(func, args)
        return out

    def _draw(self, kwargs: dict[str, Any], out: Tensor) -> None:
        # What is drawn again from the same generator at the same place is the same numbers, not new ones.
        source = kwargs.get("generator")
        if source is not None:
            place = bytes(source.get_state().numpy().tobytes())
            if place in self._drawn:
                return
            self._drawn.add(place)
        phase = Phase.TRANSPORT if self._pass == "transport" else Phase.NOISE
        self.book.charge(None, phase, random_numbers=out.numel())

    # --- signals -----------------------------------------------------------------------------------------------------

    def _keep(self, signal: Tensor, events: Tensor, spikes: bool) -> None:
        # The signal is kept too, so that its memory is not given to another one.
        self._events[signal.untyped_storage().data_ptr()] = (signal, events, spikes)

    def _seen(self, signal: Tensor) -> tuple[Tensor, bool] | None:
        found = self._events.get(signal.untyped_storage().data_ptr())
        return None if found is None or found[1].numel() != signal.numel() else (found[1], found[2])

    def _pooled(self, func: Any, args: Any, kwargs: Any, out: Tensor) -> None:
        signal = args[0]
        events, spikes = self._signals(signal)
        # Of a net of spike times each spike passes a pool with its own time; other real numbers are pooled first.
        if spikes or self.net.kind == "first-spike":
            kernel = args[1]
            self._keep(out, func(events.double(), *args[1:], **kwargs) * float(kernel[0] * kernel[-1]), spikes)

    def _signals(self, signal: Tensor) -> tuple[Tensor, bool]:
        """How many events each entry stands for, and whether they are spikes."""
        found = self._seen(signal)
        if found is not None:
            return found[0].reshape(signal.shape), found[1]
        return (signal != 0).double(), _spikes(signal)

    def _met(self, signal: Tensor, spikes: bool) -> None:
        """Remember what met weights as spikes: what an error is paired with is spikes only if it is the same."""
        if spikes:
            self._fired[signal.untyped_storage().data_ptr()] = signal

    def _paired(self, signal: Tensor) -> tuple[Tensor, bool]:
        place = signal.untyped_storage().data_ptr()
        if place in self._fired or place in self._events:
            return self._signals(signal)
        return (signal != 0).double(), False

    # --- products ----------------------------------------------------------------------------------------------------

    def _phase(self) -> Phase | None:
        return {"transport": Phase.TRANSPORT, "response": Phase.ERROR, None: None}[self._pass]

    def _charge(self, label: _Label, phase: Phase, *, dense: float, met: float, spikes: bool) -> None:
        phase = self._phase() or phase
        kind = "acs" if spikes else "macs"
        self.book.charge(label.layer, phase, dense=round(dense), **{kind: round(met)})

    def _product(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        dense = out.numel() * a.shape[-1]
        label = self._labels[-1] if self._labels else None
        if label is None:
            self._beside(a, b, out, dense)
        elif label.kind == "forward":
            events, spikes = self._signals(a)
            self._met(a, spikes)
            self._charge(label, Phase.FORWARD, dense=dense, met=float(events.sum()) * b.shape[-1], spikes=spikes)
        elif label.kind == "error":
            spikes = _rails(a)
            met = float((a != 0).sum()) * b.shape[-1] if spikes else dense
            self._charge(label, Phase.ERROR, dense=dense, met=met, spikes=spikes)
        else:
            events, spikes = self._paired(b)
            if _rails(a):
                pulses = (a != 0).double() @ events
                self.book.charge(label.layer, Phase.UPDATE, dense=dense, forward_writes=round(float(pulses.sum())))
            else:
                met = float(events.sum()) * a.shape[0]
                self._charge(label, Phase.UPDATE, dense=dense, met=met, spikes=spikes)

    def _beside(self, a: Tensor, b: Tensor, out: Tensor, dense: int) -> None:
        """A product outside of all layers: through what the rule owns, or what it learns from."""
        for operand in (b, a):
            owned = self._owned.get(operand.untyped_storage().data_ptr())
            if owned is not None:
                layer = owned[0].rsplit("/", 1)[-1]
                known = layer in {one.name for one in self.net.synapses}
                spikes = a.untyped_storage().data_ptr() in self._fired
                met = int((a != 0).sum()) * b.shape[-1] if spikes else dense
                kind = "acs" if spikes else "macs"
                self.book.charge(layer if known else None, Phase.ERROR, dense=dense, **{kind: met})
                return
        fitting = [
            name for name, tensor in self._owned.values() if tensor.shape == out.shape and "pending/" not in name
        ]
        if not fitting:
            self.book.charge(None, Phase.ERROR, dense=dense, macs=dense)
            return
        name = fitting[self._turn[out.shape] % len(fitting)].rsplit("/", 1)[-1]
        self._turn[out.shape] += 1
        spikes = b.untyped_storage().data_ptr() in self._fired
        met = float((b != 0).sum()) * a.shape[-2] if spikes else dense
        self.book.charge(name, Phase.UPDATE, dense=dense, **{"acs" if spikes else "macs": round(met)})

    def _convolved(self, args: Any, out: Tensor) -> None:
        label = self._labels[-1] if self._labels else _Label(None, "forward")
        signal, weight = args[0], args[1]
        ones, rest = torch.ones_like(weight, dtype=torch.float64), args[3:9]
        dense = _aten.convolution(torch.ones_like(signal, dtype=torch.float64), ones, None, *rest).sum()
        events, spikes = self._signals(signal)
        met = _aten.convolution(events.double(), ones, None, *rest).sum()
        self._met(signal, spikes)
        self._charge(label, Phase.FORWARD, dense=float(dense), met=float(met), spikes=spikes)

    def _convolved_back(self, args: Any) -> None:
        label = self._labels[-1] if self._labels else _Label(None, "error")
        delta, signal, weight = args[0], args[1], args[2]
        stride, padding, dilation, transposed, beyond, groups, wanted = args[4:11]
        rest = (stride, padding, dilation, transposed, beyond, groups)
        ones = torch.ones(weight.shape, dtype=torch.float64)
        reach = _aten.convolution(torch.ones(signal.shape, dtype=torch.float64), ones, None, *rest)
        dense, spikes = float(reach.sum()), _rails(delta)
        if wanted[0]:
            met = float((reach * (delta != 0)).sum()) if spikes else dense
            self._charge(label, Phase.ERROR, dense=dense, met=met, spikes=spikes)
        if wanted[1]:
            events, fired = self._paired(signal)
            heard = _aten.convolution(events.double(), ones, None, *rest)
            if spikes:
                pulses = round(float((heard * (delta != 0)).sum()))
                self.book.charge(label.layer, Phase.UPDATE, dense=round(dense), forward_writes=pulses)
            else:
                self._charge(label, Phase.UPDATE, dense=dense, met=float(heard.sum()), spikes=fired)

    # --- writes ------------------------------------------------------------------------------------------------------

    def _note_writes(self, func: Any, args: Any) -> None:
        """The most elements of a rule's tensor that one operation wrote; several operations may make one write."""
        if not args or not isinstance(args[0], Tensor) or not func._schema.is_mutable:
            return
        owned = self._owned.get(args[0].untyped_storage().data_ptr())
        if owned is not None:
            count = args[2].numel() if func._schema.name == "aten::index_put_" else args[0].numel()
            self._written[owned[0]] = max(self._written.get(owned[0], 0), count)

    def settle(self, phase: Phase, names: list[str]) -> None:
        """Charge what was written of these tensors since the last time, and forget all other writes."""
        for name in names:
            if self._written.get(name):
                self.book.charge(name.rsplit("/", 1)[-1], phase, feedback_writes=self._written[name])
        self._written.clear()


def _with_label(plain: AbstractGeometry, name: str, probe: Probe) -> AbstractGeometry:
    """The same geometry, whose products are labelled with a layer's name."""
    kind = type(plain)

    def inside(method: str, label: str) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            with probe.labelled(name, label):
                return getattr(kind, method)(self, *args, **kwargs)

        return call

    made = copy.copy(plain)
    methods = {
        "forward": inside("forward", "forward"),
        "error": inside("error", "error"),
        "outer": inside("outer", "outer"),
    }
    object.__setattr__(made, "__class__", type(f"Labelled{kind.__name__}", (kind,), methods))
    return made


def _spikes(signal: Tensor) -> bool:
    """Whether all values that are not 0 are equal."""
    found = signal[signal != 0]
    return found.numel() > 0 and bool((found == found[0]).all())


def _rails(delta: Tensor) -> bool:
    """Whether errors are spikes on a + and a − line: all that are not 0 are equal but for their sign."""
    found = delta[delta != 0].abs()
    return found.numel() > 1 and bool((found == found[0]).all())
