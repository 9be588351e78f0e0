"""Residual blocks in a net's text: layers, shapes, sizes, names, and a sentence for what means nothing."""

from __future__ import annotations

import math

import pytest
import torch

from aplysia.errors import RecipeError
from aplysia.nets.initial import He, Law
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.shortcut import Shortcut
from aplysia.nets.zoo import build, nf_resnet_text, parse
from aplysia.neurons.constant_slope import ConstantSlope
from aplysia.neurons.lif import LIF
from aplysia.ops.geometry import Dense
from aplysia.types import Held

# text, input, then per synapse: name, weight shape, output shape
NETS = [
    (
        "4C3-4R3-F3",
        (2, 8, 6),
        [
            ("conv1", (4, 2, 3, 3), (4, 8, 6)),
            ("block2a", (4, 4, 3, 3), (4, 8, 6)),
            ("block2b", (4, 4, 3, 3), (4, 8, 6)),
            ("readout", (3, 192), (3,)),
        ],
    ),
    (
        "4C3-6R5s2-AG-F3",
        (2, 9, 7),
        [
            ("conv1", (4, 2, 3, 3), (4, 9, 7)),
            ("block2a", (6, 4, 5, 5), (6, 5, 4)),
            ("block2b", (6, 6, 5, 5), (6, 5, 4)),
            ("block2s", (6, 4, 1, 1), (6, 5, 4)),
            ("readout", (3, 6), (3,)),
        ],
    ),
    (
        "4C3-P2-4R1s3-8C3-A2-F6-F3",
        (2, 12, 12),
        [
            ("conv1", (4, 2, 3, 3), (4, 12, 12)),
            ("block2a", (4, 4, 1, 1), (4, 2, 2)),
            ("block2b", (4, 4, 1, 1), (4, 2, 2)),
            ("block2s", (4, 4, 1, 1), (4, 2, 2)),
            ("conv3", (8, 4, 3, 3), (8, 2, 2)),
            ("dense4", (6, 8), (6,)),
            ("readout", (3, 6), (3,)),
        ],
    ),
    ("4C7s2a3-F3", (3, 32, 30), [("conv1", (4, 3, 7, 7), (4, 8, 8)), ("readout", (3, 256), (3,))]),
    ("4C3a2-F3", (3, 8, 9), [("conv1", (4, 3, 3, 3), (4, 4, 4)), ("readout", (3, 64), (3,))]),
]


@pytest.mark.parametrize(("text", "shape", "synapses"), NETS)
def test_a_text_makes_these_layers(text: str, shape: tuple, synapses: list) -> None:
    net = build(text, shape)
    assert [(a.name, tuple(a.weight.shape), a.output_shape) for a in net.synapses] == synapses
    done = net(torch.zeros(2, 3, *shape))
    assert [tuple(out.shape[2:]) for out in done.outs] == [layer.output_shape for layer in net.all]
    assert net.fed_back == net.synapses[1:]
    assert not any(layer.name.endswith("s") for layer in net.all)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("4R3-F3", "in front of the first residual block"),
        ("A2-4R3-F3", "in front of the first residual block"),
        ("4C3-4R3", "dense readout"),
        ("4C3-4R-F3", "'4R'"),
        ("4C3-R3-F3", "'R3'"),
        ("4C3-4r3-F3", "'4r3'"),
        ("4C3-4R2-F3", "odd kernel"),
        ("4C3-4R3g2-F3", "no suffix but a stride"),
        ("4C3-4R3p1-F3", "no suffix but a stride"),
        ("4C3-4R3a3-F3", "no suffix but a stride"),
        ("4C3-4R3s2s2-F3", "says something twice"),
        ("4C3-4R3s0-F3", "a size of 0"),
        ("4C3-0R3-F3", "a size of 0"),
        ("4C3a0-F3", "a size of 0"),
        ("F4-4R3-F3", "behind a dense layer"),
        ("4C3-A9-4R3-F3", "nothing left of the image"),
    ],
)
def test_a_block_that_means_nothing_is_refused_in_one_sentence(text: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build(text, (3, 8, 8))
    said = str(caught.value)
    assert said.startswith("net '")
    assert says in said
    assert "\n" not in said


def test_betas_follow_the_expected_variance() -> None:
    """It grows by α² = 0.04 a block, and starts again where a shortcut has weights, or a layer has none."""
    net = build("4C3-4R3-4R3-6R3s2-6R3-6R3-6C3-6R3-AG-F3", (2, 8, 8))
    betas = [layer.shortcut.beta for layer in net.all if layer.shortcut is not None]
    assert betas == pytest.approx([math.sqrt(v) for v in (1.04, 1.08, 1.04, 1.08, 1.12, 1.04)], rel=1e-12)
    sources = [layer.shortcut.source for layer in net.all if layer.shortcut is not None]
    assert sources == ["conv1", "block2b", "block3b", "block4b", "block5b", "conv7"]
    assert all(layer.shortcut.alpha == 0.2 for layer in net.all if layer.shortcut is not None)
    assert all(float(layer.shortcut.gain.detach()) == 0.0 for layer in net.all if layer.shortcut is not None)


# torchvision's ResNet-18 and -34 (He et al. 2016) have these many parameters; a bias and a gain a channel stand for the two of
# a batch norm here, and each block has a skip gain.
@pytest.mark.parametrize(("depth", "known", "blocks"), [(18, 11_689_512, 8), (34, 21_797_672, 16)])
def test_nf_resnets_have_the_known_number_of_parameters(depth: int, known: int, blocks: int) -> None:
    by_hand, channels = 3 * 64 * 49 + 2 * 64, 64
    for stage, count in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}[depth]):
        width = 64 * 2**stage
        for block in range(count):
            by_hand += 9 * width * (channels + width) + 4 * width
            if block == 0 and stage > 0:
                by_hand += channels * width + 2 * width
            channels = width
    by_hand += 512 * 1000 + 1000
    assert by_hand == known
    net = build(nf_resnet_text(depth), (3, 224, 224), standardise=True, gain=2.74)
    assert sum(p.numel() for p in net.parameters()) == by_hand + blocks
    assert len(net.all) == depth
    assert net.all[0].current_shape == (64, 112, 112)
    places = [layer.output_shape for layer in net.all if layer.shortcut is not None or layer is net.all[0]]
    assert places[0] == (64, 56, 56)
    assert places[-1] == (512, 7, 7)


def test_another_depth_is_refused() -> None:
    with pytest.raises(RecipeError, match="18 or 34"):
        nf_resnet_text(50)
    assert parse(nf_resnet_text(18, 10))[-1].channels == 10


@pytest.mark.parametrize(
    ("text", "side"), [("16C3-16R3-32R3s2-64R3s2-AG-F10", 32), (nf_resnet_text(18), 64), (nf_resnet_text(34), 64)]
)
def test_every_layer_fires_at_the_start(text: str, side: int) -> None:
    net = build(text, (3, side, side), standardise=True, gain=2.74, init=He(zero_readout=True))
    # Neighbouring pixels are alike, as in pictures: white noise would average out in the stem's pool.
    coarse = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    images = torch.nn.functional.interpolate(coarse, side, mode="bilinear")
    logits, spikes = net.predict(Held((images - images.mean()) / images.std(), 4))
    assert not logits.any()
    for layer, count in zip(net.hidden, spikes.tolist(), strict=False):
        assert 0.05 < count / (8 * layer.units) < 0.4, layer.name


def test_a_readout_that_starts_at_zero_keeps_its_law() -> None:
    net = build("F6-F4", (5,), init=He(zero_readout=True, readout=2.0))
    assert not net.readout.weight.any()
    assert net.all[0].weight.all()
    assert net.readout.law == Law(0.0, math.sqrt(2.0 / 6), 0.0)
    drawn = net.readout.draw_effective(torch.Generator().manual_seed(0))
    assert float(drawn.std()) == pytest.approx(math.sqrt(2.0 / 6), rel=0.5)


def _layer(name: str, shortcut: Shortcut | None = None, units: int = 4) -> Layer:
    return Layer(name, Dense(), (4,), (units, 4), LIF(), shortcut=shortcut)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [_layer("one", Shortcut("one")), _layer("two")],
        lambda: [_layer("one", Shortcut("two")), _layer("two"), _layer("three")],
        lambda: [_layer("one"), _layer("two", Shortcut("one"))],
        lambda: [_layer("one"), _layer("two", Shortcut("one"), 5), Layer("out", Dense(), (5,), (3, 5), LIF())],
        lambda: [
            _layer("one"),
            _layer("two", Shortcut("one", projection=_layer("side", units=5))),
            _layer("three"),
        ],
        lambda: [_layer("one"), _layer("two", Shortcut("one", projection=_layer("one"))), _layer("three")],
    ],
    ids=["itself", "from above", "to the readout", "another shape", "a projection of another shape", "a name twice"],
)
def test_a_shortcut_that_does_not_fit_is_refused(layers: object) -> None:
    with pytest.raises(RecipeError) as caught:
        Net(layers())  # type: ignore[operator]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"alpha": 0.0}, {"beta": -1.0}, {"alpha": math.inf}])
def test_factors_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="a number > 0"):
        Shortcut("one", **settings)


@pytest.mark.parametrize("text", ["4C3-4R3-F3", "4C3a2-F3"])
def test_first_spike_neurons_have_no_currents_to_add(text: str) -> None:
    with pytest.raises(RecipeError, match="currents"):
        build(text, (2, 8, 8), neuron=ConstantSlope(), bias=False)
