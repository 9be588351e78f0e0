"""Reading a chain of NIR's nodes into layers: what each node means, and a reason for each that means nothing here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aplysia.errors import AplysiaError
from aplysia.exchange.conventions import leak_of
from aplysia.exchange.nir_neuron import NEURONS, NeuronReader, as_array
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.pool import AveragePool, MaxPool, Pool
from aplysia.neurons.integrator import Integrator
from aplysia.ops.geometry import Conv2d, Dense

_SYNAPSES = ("Affine", "Linear", "Conv2d")
_POOLS = ("AvgPool2d", "SumPool2d")
_KNOWN = {*NEURONS, *_SYNAPSES, *_POOLS, "Flatten", "Threshold", "Input", "Output"}

Named = tuple[str, Any]


class Refused(Exception):
    """A graph that cannot be read, and every reason."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("; ".join(reasons))


class Reading:
    """One graph being read.

    Args:
        graph: a `nir.NIRGraph`.
        neurons: what a neuron node means.
        own: what our own writer noted of each layer.
    """

    def __init__(self, graph: Any, neurons: NeuronReader, own: dict[str, Any]) -> None:
        self.graph, self.neurons, self.own = graph, neurons, own
        self.reasons: list[str] = []
        self.layers: list[tuple[Layer, Tensor, Tensor | None]] = []
        # In front of the layer that is being read: its input, its pools, the shape behind them, k² of sums.
        self.given: tuple[int, ...] = ()
        self.pools: list[Pool] = []
        self.pooled: tuple[int, ...] = ()
        self.factor = 1
        # Behind a layer that cannot be read nothing is known of shapes.
        self.lost = False

    def net(self) -> Net:
        """The net.

        Raises:
            Refused: with all reasons.
        """
        todo = self._chain()
        shape = tuple(int(n) for n in np.asarray(todo.pop(0)[1].input_type["input"]).reshape(-1))
        # A sample is a vector or an image: one axis more is the batch's, which some writers leave there.
        self._forward(shape[1:] if len(shape) in (2, 4) else shape)
        while todo and not self.lost:
            name, node = todo.pop(0)
            kind = type(node).__name__
            if kind in _POOLS:
                either = kind == "SumPool2d" and self._is_any(todo[0][1])
                if either:
                    todo.pop(0)
                self._pool(name, node, maximum=either)
            elif kind in _SYNAPSES:
                behind = todo.pop(0) if type(todo[0][1]).__name__ in NEURONS else None
                if behind is None and len(todo) > 1:
                    self.reasons.append(f"{name}: no neuron behind it, though it is not the last one")
                self._layer(name, node, behind)
            elif kind == "Output":
                if self.pools or not self.layers:
                    self.reasons.append("no weights" if not self.layers else "a pool at the end")
            elif kind != "Flatten":  # dense weights flatten by themselves
                self.reasons.append(f"{name}: a {kind} in this place")
        if self.reasons:
            raise Refused(self.reasons)
        return self._joined()

    def _chain(self) -> list[Named]:
        """The nodes in order, from Input to Output."""
        nodes = self.graph.nodes
        kinds = {name: type(node).__name__ for name, node in nodes.items()}
        after: dict[str, list[str]] = {name: [] for name in nodes}
        before: dict[str, int] = dict.fromkeys(nodes, 0)
        for source, target in self.graph.edges:
            after[source].append(target)
            before[target] += 1
        starts, ends = ([name for name, kind in kinds.items() if kind == want] for want in ("Input", "Output"))
        wrong = [f"{len(starts)} inputs and {len(ends)} outputs"] if (len(starts), len(ends)) != (1, 1) else []
        wrong += [f"{name}: {len(to)} ways out of it" for name, to in sorted(after.items()) if len(to) > 1]
        wrong += [f"{name}: {n} ways into it" for name, n in sorted(before.items()) if n > 1]
        wrong += [f"{name}: a node {kind}" for name, kind in sorted(kinds.items()) if kind not in _KNOWN]
        if wrong:
            raise Refused(wrong)
        order = [starts[0]]
        while after[order[-1]]:
            order.append(after[order[-1]][0])
        if order[-1] != ends[0] or len(order) != len(nodes):
            raise Refused(["nodes that are no part of the way from input to output"])
        return [(name, nodes[name]) for name in order]

    def _forward(self, shape: tuple[int, ...]) -> None:
        self.given = self.pooled = shape
        self.pools, self.factor = [], 1

    def _pool(self, name: str, node: Any, *, maximum: bool) -> None:
        size, stride, padding = (_pair(getattr(node, key)) for key in ("kernel_size", "stride", "padding"))
        whole = size == self.pooled[1:] and not maximum and size[0] != size[1]
        if (size[0] != size[1] and not whole) or stride != size or padding != (0, 0):
            self.reasons.append(
                f"{name}: windows of {size} at every {stride}, padded by {padding}, where they must be square, side by side"
            )
            return
        self.pools.append(MaxPool(size[0]) if maximum else AveragePool(None if whole else size[0]))
        self.pooled = (self.pooled[0], self.pooled[1] // size[0], self.pooled[2] // size[1])
        self.factor *= size[0] * size[1] if type(node).__name__ == "SumPool2d" and not maximum else 1

    def _is_any(self, node: Any) -> bool:
        """Whether a neuron behind a sum fires exactly where there was a spike."""
        kind = type(node).__name__
        if kind == "Threshold":
            bounds, gain = as_array(node.threshold), 1.0
        elif kind in ("LIF", "IF"):
            bounds, r = as_array(node.v_threshold), float(as_array(node.r).min())
            if kind == "LIF" and leak_of(self.neurons.tau(float(as_array(node.tau).max())), self.neurons.dt) != 0.0:
                return False
            # An IF that does not fire has had no spike and keeps 0; one that fires is reset to 0.
            gain = r if kind == "LIF" else self.neurons.dt * r
            if as_array(node.v_reset).any():
                return False
        else:
            return False
        return float(bounds.min()) >= 0.0 and float(bounds.max()) < gain

    def _layer(self, name: str, node: Any, behind: Named | None) -> None:
        weight, said = as_array(node.weight), self.own.get(name, {})
        if weight.dtype not in (np.float32, np.float64):
            weight = weight.astype(np.float32)
        bias = None if getattr(node, "bias", None) is None else as_array(node.bias).astype(weight.dtype)
        if said.get("bias") is False and bias is not None and not bias.any():
            bias = None  # a Conv2d of NIR always has one
        neuron = Integrator() if behind is None else self.neurons.read(behind[1], said, weight.dtype.type)
        if isinstance(neuron, list):
            assert behind is not None
            self.reasons += [f"{behind[0]}: {why}" for why in neuron]
            neuron = Integrator()  # in its place, so that what stands behind is looked at too
        geometry = self._geometry(node, weight.shape)
        if not isinstance(geometry, list):
            title, pools = name.replace(".", "_"), tuple(self.pools)
            try:
                layer = Layer(title, geometry, self.given, weight.shape, neuron, pools=pools, bias=bias is not None)
            except AplysiaError as problem:
                geometry = [problem.got]
            else:
                scaled = weight if self.factor == 1 else weight * weight.dtype.type(self.factor)
                tensors = [None if x is None else torch.from_numpy(np.array(x)) for x in (scaled, bias)]
                assert tensors[0] is not None
                self.layers.append((layer, tensors[0], tensors[1]))
                self._forward(layer.output_shape)
                return
        self.reasons += [f"{name}: {why}" for why in geometry]
        self.lost = True

    def _geometry(self, node: Any, weight: tuple[int, ...]) -> Conv2d | Dense | list[str]:
        """How the weights meet what comes, or why they cannot."""
        if type(node).__name__ == "Conv2d":
            made, inputs = _convolution(node, weight, self.pooled), math.prod(self.pooled[:1])
        else:
            made, inputs = [f"weights of {len(weight)} axes"] if len(weight) != 2 else Dense(), math.prod(self.pooled)
        if not isinstance(made, list) and inputs != weight[1]:
            return [f"weights of {weight[1]} inputs behind a shape of {self.pooled}"]
        return made

    def _joined(self) -> Net:
        net = Net(layer for layer, _, _ in self.layers)
        for layer, weight, bias in self.layers:
            layer.to(weight.dtype)
            with torch.no_grad():
                layer.weight.copy_(weight)
                if bias is not None and layer.bias is not None:
                    layer.bias.copy_(bias)
        return net.eval()


def _convolution(node: Any, weight: tuple[int, ...], given: tuple[int, ...]) -> Conv2d | list[str]:
    """The geometry, or why there is none."""
    stride, dilation, kernel = _pair(node.stride), _pair(node.dilation), weight[-2:]
    said = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    if isinstance(said, str):
        padding = (0, 0) if said == "valid" else (kernel[0] // 2, kernel[1] // 2)
        even = said == "same" and (kernel[0] % 2 == 0 or stride != (1, 1))
    else:
        padding, even = _pair(said), False
    reasons = []
    if int(as_array(node.groups)) != 1:
        reasons.append(f"{int(as_array(node.groups))} groups, which NIR's types do not allow for")
    if dilation != (1, 1):
        reasons.append(f"dilation {dilation}")
    if stride[0] != stride[1] or padding[0] != padding[1] or kernel[0] != kernel[1] or even:
        reasons.append(f"a kernel of {kernel}, stride {stride}, padding {said}, where height and width must be alike")
    if len(given) != 3:
        reasons.append(f"an input of shape {given}, which is no image")
    return reasons or Conv2d(stride[0], padding[0], 1)


def _pair(value: Any) -> tuple[int, int]:
    array = as_array(value).reshape(-1)
    return int(array[0]), int(array[-1])
