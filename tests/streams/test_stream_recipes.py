"""Recipes of stream nets, their encoder and their initial weights."""

from __future__ import annotations

import pytest
import torch
from stream_parts import LIMIT, assert_streams_alive

from aplysia.data.base import AbstractDataset, Bundle, Split
from aplysia.data.encode import Stream
from aplysia.errors import DataError, RecipeError
from aplysia.nets.initial import MidRange
from aplysia.nets.zoo import build
from aplysia.neurons.bitstream import Bitstream
from aplysia.recipes import find, recipes
from aplysia.train.codec import decode, encode, override
from aplysia.train.recipe import AXES, Recipe
from aplysia.types import Held

SHAPES = {
    "ssnn-digits": ((1, 8, 8), 10, 64),
    "ssnn-mnist": ((1, 28, 28), 10, 784),
    "ssnn-fmnist": ((1, 28, 28), 10, 784),
    "ssnn-emnist": ((1, 28, 28), 47, 784),
    "ssnn-nmnist": ((2, 34, 34), 10, 2312),
}
NOISE = torch.Generator()


def bundle(shape: tuple[int, int, int], classes: int) -> Bundle:
    """Data of the right shape that nobody looks at."""
    split = Split(torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64))
    return Bundle(split, split, classes, shape, temporal=False, scale=1.0)


def test_all_recipes_are_known() -> None:
    assert {name for name in recipes() if name.startswith("ssnn-")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_a_recipe_builds_its_net_on_the_shape_of_its_data(name: str) -> None:
    """And its hidden units start alive on inputs of a tenth to a half of the range."""
    shape, classes, inputs = SHAPES[name]
    recipe = find(name)
    assert isinstance(recipe.data, AbstractDataset)
    net = recipe.build_net(bundle(shape, classes))
    assert [layer.fan_in for layer in net.all] == [inputs, net.hidden[0].units]
    assert net.classes == classes
    x = 0.5 * torch.rand(4, *shape, generator=torch.Generator().manual_seed(1))
    assert_streams_alive(net, Held(x, 16))
    assert decode(Recipe, encode(recipe, AXES), AXES) == recipe


def test_stream_length_is_another_word_for_steps() -> None:
    recipe = override(find("ssnn-digits"), ["stream_length=8"], AXES)
    assert recipe == override(find("ssnn-digits"), ["steps=8"], AXES)
    assert recipe.steps == 8
    with pytest.raises(RecipeError, match=r"stream_length.*at least 1"):
        override(find("ssnn-digits"), ["stream_length=0"], AXES)


@pytest.mark.parametrize("engine", ["bits", "counts", "expect"])
def test_engines_and_memories_are_set_by_name(engine: str) -> None:
    recipe = override(find("ssnn-digits"), [f"temporal.engine={engine}", "neuron.memory=block_mean"], AXES)
    assert type(recipe.temporal.engine).__name__.lower() == engine  # type: ignore[attr-defined]
    assert isinstance(recipe.neuron, Bitstream)
    assert type(recipe.neuron.memory).__name__ == "BlockMean"


# --- the encoder -----------------------------------------------------------------------------------------------------


def test_an_image_is_held_and_a_frame_is_cut_to_bits() -> None:
    x = torch.rand(3, 1, 4, 4)
    held = Stream()(x, 9, NOISE)
    assert isinstance(held, Held)
    assert held.steps == 9
    assert torch.equal(held.value, x)
    frames = torch.tensor([0.0, 1.0, 7.0, 0.25]).view(1, 2, 2, 1, 1)
    bits = Stream()(frames, 2, NOISE)
    assert isinstance(bits, torch.Tensor)
    assert bits.shape == (2, 1, 2, 1, 1)
    assert bits.flatten().tolist() == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
def test_pixels_that_are_no_probabilities_are_refused(value: float) -> None:
    x = torch.full((2, 1, 3, 3), 0.5)
    x[1, 0, 2, 2] = value
    with pytest.raises(DataError, match=r"from 0 to 1.*normalise=false"):
        Stream()(x, 4, NOISE)


def test_recordings_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"recordings of 8 frames.*got 4"):
        Stream()(torch.zeros(2, 4, 2, 3, 3), 8, NOISE)


# --- initial weights -------------------------------------------------------------------------------------------------


def test_hidden_units_start_in_the_middle_of_their_range() -> None:
    """Biases .3 in hidden layers and 0 in the readout; weights of deviation gain/√fan_in. False alarms: 4·10⁻⁵."""
    net = build("F200-F100-F50", (80,), neuron=Bitstream(), init=MidRange(gain=1.5), seed=4)
    for layer in net.all:
        assert layer.bias is not None
        start = 0.0 if layer is net.readout else 0.3
        assert torch.equal(layer.bias.detach(), torch.full_like(layer.bias, start))
        weight, variance = layer.weight.detach().double().flatten(), 2.25 / layer.fan_in
        count = len(weight)
        assert abs(float(weight.mean())) < LIMIT * (variance / count) ** 0.5
        assert abs(float(weight.var()) / variance - 1.0) < LIMIT * (2.0 / count) ** 0.5
    flat = build("F20-F5", (8,), neuron=Bitstream(), init=MidRange(bias=0.45), seed=4)
    assert flat.hidden[0].bias is not None
    assert float(flat.hidden[0].bias[0].detach()) == pytest.approx(0.45)


@pytest.mark.parametrize("settings", [{"gain": 0.0}, {"gain": float("nan")}, {"bias": float("inf")}])
def test_initial_settings_without_meaning_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=r"init\."):
        MidRange(**settings)
