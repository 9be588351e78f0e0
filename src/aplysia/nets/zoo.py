"""Nets from a short text.

64C3-128C3-A2-256C3-A2-F10

nCk    convolution, n channels, k × k, stride 1, padding k//2; suffixes change that: `64C3s2p0g2` (stride, padding, groups)
A2 P2  average or max pool over 2 × 2, in front of the layer that follows
AG     average pool over the whole image, one number a channel
Fn     fully connected, n units; the last token must be an F and is the readout
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from aplysia.errors import RecipeError
from aplysia.nets.initial import AbstractInitial, He
from aplysia.nets.layer import AveragePool, Layer, MaxPool, Pool
from aplysia.nets.net import Net
from aplysia.neurons.base import AbstractFirstSpike, AbstractNeuron
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.neurons.potential import Potential
from aplysia.ops.geometry import AbstractGeometry, Conv2d, Dense

_TOKEN = re.compile(
    r"(?:(?P<channels>\d+)C(?P<kernel>\d+)(?P<options>(?:[spg]\d+)*)|(?P<whole>AG)|(?P<pool>[AP])(?P<size>\d+)|F(?P<units>\d+))"
)


@dataclass(frozen=True)
class _Spec:
    token: str
    pools: tuple[Pool, ...]
    channels: int
    kernel: int | None  # None: dense
    options: dict[str, int]


def _problem(text: str, got: str, expected: str = "a text such as 64C3-A2-F10") -> RecipeError:
    return RecipeError(
        f"net '{text}'",
        expected=expected,
        got=got,
        fix="write nCk for convolutions, A2, P2 or AG for pools, Fn for dense layers",
    )


def parse(text: str) -> list[_Spec]:
    """The layers a text names, pools attached to the layer behind them."""
    specs: list[_Spec] = []
    pools: list[Pool] = []
    for token in text.split("-"):
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise _problem(text, f"'{token}'")
        if match["pool"] or match["whole"]:
            if specs and specs[-1].kernel is None:
                raise _problem(text, f"pool '{token}' behind a dense layer", "pools before the first dense layer only")
            if match["whole"]:
                pools.append(AveragePool(None))
            else:
                pools.append((AveragePool if match["pool"] == "A" else MaxPool)(int(match["size"])))
            continue
        if match["units"]:
            specs.append(_Spec(token, tuple(pools), int(match["units"]), None, {}))
        else:
            if specs and specs[-1].kernel is None:
                raise _problem(text, f"'{token}' behind a dense layer", "convolutions before the first dense layer")
            given = re.findall(r"[spg]\d+", match["options"])
            options = {o[0]: int(o[1:]) for o in given}
            if len(options) < len(given):
                raise _problem(text, f"'{token}', which says something twice", "each of s, p and g at most once")
            specs.append(_Spec(token, tuple(pools), int(match["channels"]), int(match["kernel"]), options))
        pools = []
    if not specs or specs[-1].kernel is not None or pools:
        raise _problem(
            text, f"'{text.rsplit('-', maxsplit=1)[-1]}' at the end", "a dense readout such as F10 at the end"
        )
    sizes = [n for s in specs for n in (s.channels, s.kernel, s.options.get("s"), *(pool.size for pool in s.pools))]
    if 0 in sizes:
        raise _problem(text, "a size of 0", "sizes of at least 1")
    return specs


def _synapse_shape(text: str, spec: _Spec, shape: tuple[int, ...]) -> tuple[AbstractGeometry, tuple[int, ...]]:
    """Geometry and weight shape for an input of `shape` (before pooling)."""
    if len(shape) == 3:
        for pool in spec.pools:
            shape = (shape[0], *(1 if pool.size is None else n // pool.size for n in shape[1:]))
    elif spec.pools or spec.kernel is not None:
        raise _problem(text, f"input of shape {shape} at '{spec.token}'", "images [C, H, W] for pools and convolutions")
    if math.prod(shape) == 0:
        raise _problem(text, f"nothing left of the image at '{spec.token}'", "fewer or smaller pools")
    if spec.kernel is None:
        return Dense(), (spec.channels, math.prod(shape))
    groups = spec.options.get("g", 1)
    if groups < 1 or shape[0] % groups or spec.channels % groups:
        raise _problem(
            text,
            f"{groups} groups for {shape[0]} → {spec.channels} channels at '{spec.token}'",
            "groups that divide both",
        )
    geometry = Conv2d(max(1, spec.options.get("s", 1)), spec.options.get("p", spec.kernel // 2), groups)
    if min(shape[1:]) + 2 * geometry.padding < spec.kernel:
        raise _problem(
            text, f"an image of {shape[1]}×{shape[2]} at '{spec.token}'", "an image at least as large as the kernel"
        )
    return geometry, (spec.channels, shape[0] // groups, spec.kernel, spec.kernel)


def build(
    text: str,
    input_shape: tuple[int, ...],
    *,
    neuron: AbstractNeuron | None = None,
    readout: AbstractNeuron | None = None,
    bias: bool = True,
    standardise: bool = False,
    gain: float = 1.0,
    dropout: float = 0.0,
    init: AbstractInitial | None = None,
    seed: int = 0,
) -> Net:
    """A net from its text. Biases start at 0.

    Args:
        text: see the top of this file.
        input_shape: one sample, `(C, H, W)` or `(M,)`.
        neuron: of the hidden layers; a default `LIF()`.
        readout: of the last layer; a default `Integrator()` without memory, or `Potential()` for first-spike neurons.
        bias, standardise, gain, dropout: see `Layer`; the readout is never standardised, scaled or dropped.
        init: law of the initial weights; He's unless said. With `standardise` their scale has no effect.
        seed: of the initial weights.

    Raises:
        RecipeError: a text that names no net for this input.
    """
    neuron, init = neuron or LIF(), init or He()
    readout = readout or (Potential() if isinstance(neuron, AbstractFirstSpike) else Integrator())
    specs, layers, shape = parse(text), [], tuple(input_shape)
    for i, spec in enumerate(specs):
        last = i == len(specs) - 1
        geometry, weight_shape = _synapse_shape(text, spec, shape)
        kind = "readout" if last else f"{'dense' if spec.kernel is None else 'conv'}{i + 1}"
        fan_in = math.prod(weight_shape[1:])
        layer = Layer(
            kind,
            geometry,
            shape,
            weight_shape,
            readout if last else neuron,
            pools=spec.pools,
            bias=bias,
            standardise=standardise and not last,
            gain=1.0 if last else gain,
            dropout=0.0 if last else dropout,
            law=init.law(fan_in, readout=last),
        )
        layers.append(layer)
        shape = layer.output_shape
    return Net(layers, seed=seed)


def mlp(inputs: int, hidden: list[int], classes: int, *, neuron: AbstractNeuron | None = None, seed: int = 0) -> Net:
    """Dense layers: `mlp(784, [800, 800], 10)` is the text F800-F800-F10 on 784 inputs."""
    return build("-".join(f"F{n}" for n in [*hidden, classes]), (inputs,), neuron=neuron, seed=seed)


def conv(text: str, input_shape: tuple[int, int, int], *, neuron: AbstractNeuron | None = None, seed: int = 0) -> Net:
    """A convolutional net from its text, for images `(C, H, W)`."""
    return build(text, input_shape, neuron=neuron, seed=seed)
