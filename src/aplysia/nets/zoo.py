"""Nets from a short text.

64C3-128C3-A2-256C3-A2-F10        16C3-16R3-32R3s2-64R3s2-AG-F10

nCk    convolution, n channels, k × k, stride 1, padding k//2; suffixes change that: `64C3s2p0g2` (stride, padding, groups).
       `64C7s2a3`: the currents are averaged over 3 × 3 at every second place, in front of the neurons (ImageNet stems)
nRk    residual block: two convolutions, n channels, k × k, and a shortcut past them (`aplysia.nets.shortcut`). `32R3s2`: the
       first one has stride 2. Where channels or places change, the shortcut is a 1 × 1 convolution of that stride
A2 P2  average or max pool over 2 × 2, in front of the layer (or of both ways through the block) that follows
AG     average pool over the whole image, one number a channel
Fn     fully connected, n units; the last token must be an F and is the readout

Layers are called after their place, pools not counted: conv1, dense4, block2a and block2b, block2s for the weights of its
shortcut, readout.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from aplysia.errors import RecipeError
from aplysia.nets.initial import AbstractInitial, He
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.pool import AveragePool, MaxPool, Pool, StemPool
from aplysia.nets.shortcut import Shortcut
from aplysia.neurons.base import AbstractFirstSpike, AbstractNeuron, AbstractStepped, AbstractStream
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.neurons.potential import Potential
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.geometry import AbstractGeometry, Conv2d, Dense
from aplysia.ops.precision import AbstractPrecision, Float32

# Factor on the branch of a residual block (Brock et al. 2021; OTTT).
ALPHA = 0.2

# Blocks of each stage; the stages have 64, 128, 256 and 512 channels.
_RESIDUAL = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}

_TOKEN = re.compile(
    r"(?:(?P<channels>\d+)(?P<kind>[CR])(?P<kernel>\d+)(?P<options>(?:[spga]\d+)*)|(?P<whole>AG)|(?P<pool>[AP])(?P<size>\d+)|F(?P<units>\d+))"
)


@dataclass(frozen=True)
class _Spec:
    token: str
    pools: tuple[Pool, ...]
    channels: int
    kernel: int | None  # None: dense
    options: dict[str, int]
    block: bool = False


def _problem(text: str, got: str, expected: str = "a text such as 64C3-A2-F10") -> RecipeError:
    return RecipeError(
        f"net '{text}'",
        expected=expected,
        got=got,
        fix="write nCk for convolutions, nRk for residual blocks, A2, P2 or AG for pools, Fn for dense layers",
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
            given = re.findall(r"[spga]\d+", match["options"])
            options = {o[0]: int(o[1:]) for o in given}
            if len(options) < len(given):
                raise _problem(text, f"'{token}', which says something twice", "each suffix at most once")
            spec = _Spec(
                token, tuple(pools), int(match["channels"]), int(match["kernel"]), options, match["kind"] == "R"
            )
            if spec.block:
                _check_block(text, spec, first=not specs)
            specs.append(spec)
        pools = []
    if not specs or specs[-1].kernel is not None or pools:
        raise _problem(
            text, f"'{text.rsplit('-', maxsplit=1)[-1]}' at the end", "a dense readout such as F10 at the end"
        )
    sizes = [n for s in specs for n in (s.channels, s.kernel, *(pool.size for pool in s.pools))]
    if 0 in sizes or any(s.options.get(option) == 0 for s in specs for option in "sa"):
        raise _problem(text, "a size of 0", "sizes of at least 1")
    return specs


def _check_block(text: str, spec: _Spec, *, first: bool) -> None:
    if first:
        raise _problem(text, f"'{spec.token}' at the start", "a convolution in front of the first residual block")
    if spec.options.keys() - {"s"}:
        raise _problem(text, f"'{spec.token}'", "residual blocks with no suffix but a stride, such as 32R3s2")
    if spec.kernel is not None and spec.kernel % 2 == 0:
        raise _problem(text, f"'{spec.token}'", "residual blocks with an odd kernel, which keeps the places")


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


_readouts: dict[str, Callable[[], AbstractNeuron]] = {
    AbstractStepped.kind: Integrator,
    AbstractFirstSpike.kind: Potential,
    AbstractStream.kind: WinnerTakeAll,
}


def build(
    text: str,
    input_shape: tuple[int, ...],
    *,
    neuron: AbstractNeuron | None = None,
    readout: AbstractNeuron | None = None,
    bias: bool = True,
    standardise: bool = False,
    centre: bool = False,
    gain: float = 1.0,
    dropout: float = 0.0,
    init: AbstractInitial | None = None,
    precision: AbstractPrecision | None = None,
    seed: int = 0,
) -> Net:
    """A net from its text.

    Args:
        text: see the top of this file.
        input_shape: one sample, `(C, H, W)` or `(M,)`.
        neuron: of the hidden layers; a default `LIF()`.
        readout: of the last layer; a default `Integrator()` without memory, `Potential()` for first-spike neurons, or
            `WinnerTakeAll()` for streams.
        bias, standardise, centre, gain, dropout: see `Layer`; the readout is never standardised, centred, scaled or dropped.
        init: law of the initial weights; He's unless said. With `standardise` their scale has no effect.
        precision: the type of the hidden layers' products, for stepped neurons; the readout's few are always those of float32,
            since logits decide.
        seed: of the initial weights.

    Raises:
        RecipeError: a text that names no net for this input, or a precision that this kind of neurons has not.
    """
    neuron, init, precision = neuron or LIF(), init or He(), precision or Float32()
    if not isinstance(precision, Float32) and neuron.kind != AbstractStepped.kind:
        raise RecipeError(
            "precision",
            expected=f"float32 for {neuron.kind} neurons, whose times and sums need its digits",
            got=type(precision).__name__,
            fix="set precision=float32",
        )
    readout = readout or _readouts[neuron.kind]()
    made: list[Layer] = []
    hidden = partial(
        Layer, neuron=neuron, bias=bias, standardise=standardise, centre=centre, gain=gain, dropout=dropout
    )
    variance = 1.0  # of the sums that shortcuts carry, were every skip gain 1
    specs = parse(text)
    for place, spec in enumerate(specs, start=1):
        shape = made[-1].output_shape if made else tuple(input_shape)
        geometry, weight_shape = _synapse_shape(text, spec, shape)
        law = init.law(math.prod(weight_shape[1:]), readout=place == len(specs))
        if place == len(specs):
            made.append(Layer("readout", geometry, shape, weight_shape, readout, pools=spec.pools, bias=bias, law=law))
        elif not spec.block:
            name = f"{'dense' if spec.kernel is None else 'conv'}{place}"
            stem_pool = StemPool(spec.options["a"]) if "a" in spec.options else None
            made.append(hidden(name, geometry, shape, weight_shape, pools=spec.pools, law=law, stem_pool=stem_pool))
            variance = 1.0
        else:
            branch = hidden(f"block{place}a", geometry, shape, weight_shape, pools=spec.pools, law=law)
            projection = None
            if branch.output_shape != shape:
                projection = _projection(f"block{place}s", branch, spec, init, hidden)
                variance = 1.0
            variance += ALPHA**2
            shortcut = Shortcut(made[-1].name, projection=projection, alpha=ALPHA, beta=math.sqrt(variance))
            geometry, weight_shape = _synapse_shape(text, replace(spec, pools=(), options={}), branch.output_shape)
            law = init.law(math.prod(weight_shape[1:]), readout=False)
            join = hidden(f"block{place}b", geometry, branch.output_shape, weight_shape, law=law, shortcut=shortcut)
            made += [branch, join]
    net = Net(made, seed=seed)
    for layer in net.synapses:
        if layer is not net.readout:
            layer.precision = precision
    return net


def _projection(name: str, branch: Layer, spec: _Spec, init: AbstractInitial, hidden: Callable[..., Layer]) -> Layer:
    """A 1 × 1 convolution from the input of a branch to the places of its output."""
    channels = branch.drive_shape[0]
    return hidden(
        name,
        Conv2d(spec.options.get("s", 1)),
        branch.input_shape,
        (spec.channels, channels, 1, 1),
        pools=spec.pools,
        law=init.law(channels, readout=False),
    )


def mlp(inputs: int, hidden: list[int], classes: int, *, neuron: AbstractNeuron | None = None, seed: int = 0) -> Net:
    """Dense layers: `mlp(784, [800, 800], 10)` is the text F800-F800-F10 on 784 inputs."""
    return build("-".join(f"F{n}" for n in [*hidden, classes]), (inputs,), neuron=neuron, seed=seed)


def conv(text: str, input_shape: tuple[int, int, int], *, neuron: AbstractNeuron | None = None, seed: int = 0) -> Net:
    """A convolutional net from its text, for images `(C, H, W)`."""
    return build(text, input_shape, neuron=neuron, seed=seed)


def nf_resnet_text(depth: int, classes: int = 1000) -> str:
    """The text of a normaliser-free residual net in its ImageNet form (Brock et al. 2021), for images of about 224 × 224.

    It is meant to be built with `standardise=True, gain=2.74, init=He(zero_readout=True)`.

    Args:
        depth: 18 or 34 layers.
        classes: units of the readout.

    Raises:
        RecipeError: another depth.
    """
    if depth not in _RESIDUAL:
        raise RecipeError("residual net", expected="18 or 34 layers", got=repr(depth), fix="write its text by hand")
    tokens = ["64C7s2a3"]
    for stage, blocks in enumerate(_RESIDUAL[depth]):
        block = f"{64 * 2**stage}R3"
        tokens += [block + ("s2" if stage else ""), *[block] * (blocks - 1)]
    return "-".join([*tokens, "AG", f"F{classes}"])
