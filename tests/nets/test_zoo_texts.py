"""Nets from a text: what it means, and one sentence for every text that means nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from aplysia.errors import RecipeError
from aplysia.nets.zoo import build, conv, mlp, parse


@pytest.mark.parametrize(
    ("text", "input_shape", "shapes", "weights"),
    [
        ("F10", (784,), [(10,)], [(10, 784)]),
        ("F20-F10", (1, 28, 28), [(20,), (10,)], [(20, 784), (10, 20)]),
        ("8C3-F10", (3, 8, 8), [(8, 8, 8), (10,)], [(8, 3, 3, 3), (10, 512)]),
        ("8C3-A2-F10", (3, 8, 8), [(8, 8, 8), (10,)], [(8, 3, 3, 3), (10, 128)]),
        ("A2-8C3-F10", (3, 8, 8), [(8, 4, 4), (10,)], [(8, 3, 3, 3), (10, 128)]),
        ("8C3s2p0-F10", (3, 8, 8), [(8, 3, 3), (10,)], [(8, 3, 3, 3), (10, 72)]),
        ("8C5p0-P3-F10", (3, 9, 9), [(8, 5, 5), (10,)], [(8, 3, 5, 5), (10, 8)]),
        ("4C3-8C3g2-F5", (2, 6, 6), [(4, 6, 6), (8, 6, 6), (5,)], [(4, 2, 3, 3), (8, 2, 3, 3), (5, 288)]),
        ("4C2-F5", (2, 6, 6), [(4, 7, 7), (5,)], [(4, 2, 2, 2), (5, 196)]),
        ("A2-A2-F5", (2, 8, 8), [(5,)], [(5, 8)]),
        ("8C3-AG-F10", (3, 8, 6), [(8, 8, 6), (10,)], [(8, 3, 3, 3), (10, 8)]),
        ("8C3-P2-AG-F10", (3, 9, 7), [(8, 9, 7), (10,)], [(8, 3, 3, 3), (10, 8)]),
    ],
)
def test_a_text_makes_these_shapes(text: str, input_shape: tuple, shapes: list, weights: list) -> None:
    net = build(text, input_shape)
    assert [layer.output_shape for layer in net.all] == shapes
    assert [tuple(layer.weight.shape) for layer in net.all] == weights
    done = net(torch.zeros(2, 3, *input_shape))
    assert [tuple(out.shape[2:]) for out in done.outs] == shapes
    assert net.readout.name == "readout"
    assert not net.readout.neuron.spiking


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "F",
        "F10-",
        "-F10",
        "64",
        "64C",
        "C3-F10",
        "64C3",
        "64C3-A2",
        "F10-A2",
        "F20-8C3-F10",
        "F20-A2-F10",
        "64c3-F10",
        "64C3 - F10",
        "64C3x2-F10",
        "F-10",
        "F1.5",
        "F0",
        "F0-F10",
        "0C3-F10",
        "8C0-F10",
        "8C3-A0-F10",
        "8C3-P0-F10",
        "8C3s0-F10",
        "8C3g0-F10",
        "8C3g2-F10",
        "8C3s2s1-F10",
        "8C99p0-F10",
        "8C3-A99-F10",
        "A2-A2-A2-A2-A2-F10",
        "AG-8C3p0-F10",
        "F10-AG-F10",
        "8C3-AG",
        "8C3-PG-F10",
        "8C3-A-F10",
        "8C3-AG2-F10",
        "F10\n",
    ],
)
def test_a_text_that_means_nothing_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build(text, (3, 8, 8))
    said = str(caught.value)
    assert said.startswith("net '")
    assert "expected" in said
    assert said.endswith(".")


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (28, 28)])
def test_the_nine_layers_of_the_ottt_line_fit_any_image(size: tuple[int, int]) -> None:
    net = build("64C3-128C3-A2-256C3-256C3-A2-512C3-512C3-A2-512C3-512C3-AG-F10", (3, *size))
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    assert len(net.all) == 9
    by_hand = sum(9 * a * b + b for a, b in pairwise(channels)) + 512 * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == by_hand
    assert net.all[-2].output_shape == (512, size[0] // 8, size[1] // 8)


def test_a_pool_over_the_whole_image_is_its_mean() -> None:
    net = build("4C3-AG-F3", (2, 5, 7)).double()
    x = 3 * torch.rand(4, 2, 2, 5, 7, dtype=torch.float64)
    done = net(x)
    assert 0.02 < float(done.outs[0].detach().mean()) < 0.98
    mean = done.outs[0].mean((-2, -1))
    torch.testing.assert_close(done.outs[-1], mean @ net.readout.weight.t() + net.readout.bias)


@pytest.mark.parametrize("text", ["8C3-F10", "A2-F10", "AG-F10"])
def test_images_are_needed_for_pools_and_convolutions(text: str) -> None:
    with pytest.raises(RecipeError, match="images"):
        build(text, (64,))


def test_the_short_forms_are_the_text() -> None:
    a, b = mlp(7, [5, 6], 3, seed=2), build("F5-F6-F3", (7,), seed=2)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    c, d = conv("4C3-A2-F3", (1, 6, 6), seed=2), build("4C3-A2-F3", (1, 6, 6), seed=2)
    assert all(torch.equal(p, q) for p, q in zip(c.parameters(), d.parameters(), strict=True))
    assert len(parse("4C3-A2-F3")) == 2


def test_standardisation_gain_and_dropout_spare_the_readout() -> None:
    net = build("F5-F6-F3", (7,), standardise=True, gain=2.0, dropout=0.5)
    assert [layer.weight_gain is not None for layer in net.all] == [True, True, False]
    assert [layer.gain for layer in net.all] == [2.0, 2.0, 1.0]
    assert [layer.dropout for layer in net.all] == [0.5, 0.5, 0.0]
