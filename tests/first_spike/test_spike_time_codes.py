"""Between pixels, times and earliness; and what is refused on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from first_spike_nets import DENSE
from torch import Tensor

from aplysia.credit.loss import SpikeTimeLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.spike_time import Push, SpikeTime
from aplysia.data.encode import FirstSpike
from aplysia.errors import AplysiaError, DataError, PairError, RecipeError
from aplysia.neurons.constant_slope import ConstantSlope
from aplysia.neurons.potential import End, Potential, Start
from aplysia.neurons.windowed import Windowed
from aplysia.ops.first_spike import from_times, to_times
from aplysia.types import Held

NAN, INF = float("nan"), float("inf")


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("window", [1.0, 2.5])
def test_times_and_earliness_are_two_ways_to_say_one_thing(window: float) -> None:
    x = torch.tensor([0.0, 0.125, 0.5, 1.0]) * window
    assert to_times(x, window).tolist() == [INF, 0.875 * window, 0.5 * window, 0.0]
    assert torch.equal(from_times(to_times(x, window), window), x)
    times = torch.tensor([[INF, 0.0], [0.25, 0.75]]) * window
    times[0, 0] = INF
    assert torch.equal(to_times(from_times(times, window), window), times)
    # firing at the very end is not firing
    assert from_times(torch.tensor([window, INF]), window).tolist() == [0.0, 0.0]
    many = torch.rand(1000, generator=noise(), dtype=torch.float64) * window
    torch.testing.assert_close(from_times(to_times(many, window), window), many, rtol=0, atol=1e-15)
    assert from_times(torch.full((3,), INF), window).tolist() == [0.0] * 3


@pytest.mark.parametrize("times", [[NAN, 0.5], [-0.01, 0.5], [0.5, 2.01], [-INF, 0.5]])
def test_times_that_are_none_are_refused(times: list[float]) -> None:
    with pytest.raises(DataError, match=r"spike times: expected .*; (mend|shift)"):
        from_times(torch.tensor(times), 2.0)


@pytest.mark.parametrize("window", [1.0, 2.5])
def test_a_bright_pixel_fires_early_and_a_black_one_never(window: float) -> None:
    x = torch.tensor([[0.0, 0.25, 1.0]])
    made = FirstSpike(window=window)(x, 1, noise())
    assert isinstance(made, Tensor)
    assert made.shape == (1, 1, 3)
    assert made[0].tolist() == [[0.0, 0.25 * window, window]]
    assert to_times(made, window)[0].tolist() == [[INF, 0.75 * window, 0.0]]


@pytest.mark.parametrize(
    ("x", "steps", "says"),
    [
        (torch.tensor([[0.5, NAN]]), 1, "pixels from 0"),
        (torch.tensor([[0.5, 1.01]]), 1, "pixels from 0"),
        (torch.tensor([[0.5, -0.01]]), 1, "normalise=false"),
        (torch.tensor([[0.5, INF]]), 1, "pixels from 0"),
        (torch.rand(2, 4, 1, 3, 3), 1, "frames"),
        (torch.rand(2, 1, 3, 3), 4, "steps=4"),
        (torch.rand(2, 4, 1, 3, 3), 4, "frames"),
    ],
)
def test_the_encoder_refuses_what_has_no_spike_time(x: Tensor, steps: int, says: str) -> None:
    with pytest.raises(DataError, match=says):
        FirstSpike()(x, steps, noise())


@pytest.mark.parametrize(
    "change",
    [lambda x: x + 0.6, lambda x: x - 0.1, lambda x: x * NAN, lambda x: torch.where(x > 0.5, INF, x)],
    ids=["before the window", "after it", "NaN", "infinite"],
)
def test_a_scheme_refuses_inputs_outside_the_window(change) -> None:  # type: ignore[no-untyped-def]
    net, (x, target) = DENSE.net(), DENSE.input()
    rule = Symmetric()
    rule.attach(net, seed=0)
    with pytest.raises(DataError, match="spike times inside the window"):
        SpikeTime().learn(net, change(x), target, DENSE.loss, rule)
    assert all(p.grad is None for p in net.parameters())


def test_without_a_window_any_earliness_goes_but_no_nonsense() -> None:
    case = replace(DENSE, neuron=ConstantSlope(), readout=Potential(reading=Start()))
    net, (x, target) = case.net(), case.input()
    rule = Symmetric()
    rule.attach(net, seed=0)
    SpikeTime().learn(net, x * 50, target, case.loss, rule)
    for bad in (x - 0.1, x * NAN, x / 0.0):
        with pytest.raises(DataError, match="spike times inside the window"):
            SpikeTime().learn(net, bad, target, case.loss, rule)


@pytest.mark.parametrize("way", ["learn", "forward"])
@pytest.mark.parametrize("what", ["steps", "held"])
def test_a_first_spike_net_steps_through_no_time(way: str, what: str) -> None:
    net, (x, target) = DENSE.net(), DENSE.input()
    rule = Symmetric()
    rule.attach(net, seed=0)
    given = torch.cat((x, x, x)) if what == "steps" else Held(x[0], 3)
    ways = {"learn": lambda: SpikeTime().learn(net, given, target, DENSE.loss, rule), "forward": lambda: net(given)}
    with pytest.raises((PairError, RecipeError), match=r"one window of earliness.*(3 steps|held current).*steps=1"):
        ways[way]()


@pytest.mark.parametrize(
    "make",
    [
        lambda v: Windowed(window=v),
        lambda v: Windowed(threshold=v),
        lambda v: Windowed(max_gain=v),
        lambda v: ConstantSlope(window=v),
        lambda v: End(window=v),
        lambda v: FirstSpike(window=v),
        lambda v: Push(strength=v),
    ],
)
@pytest.mark.parametrize("value", [0.0, -1.0, NAN, INF])
def test_settings_out_of_range_are_refused(make, value: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(AplysiaError, match="a number > 0"):
        make(value)


def test_held_out_loss_is_the_loss_that_is_trained() -> None:
    """`evaluate` reports what `learn` minimises: with spike times the softmax over −t/ξ, not over the earliness itself."""
    out = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)).double()
    target = torch.tensor([0, 1, 2, 3, 0, 1])
    loss = SpikeTimeLoss(scale=0.2)
    torch.testing.assert_close(loss.of_logits(out, target), loss.value(out.unsqueeze(0), target, 1))
    assert not torch.isclose(loss.of_logits(out, target), torch.nn.functional.cross_entropy(out, target))
