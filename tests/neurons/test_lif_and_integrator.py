"""Neurons against what their formulas say step by step, and constants they refuse."""

from __future__ import annotations

import math

import pytest
import torch

from aplysia.errors import RecipeError
from aplysia.neurons.base import AbstractNeuron
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.scan import HardReset, SoftReset


def run(neuron: AbstractNeuron, currents: list[float]) -> list[float]:
    x = torch.tensor(currents, dtype=torch.float64)[:, None, None]
    out, _ = neuron.scan(x, neuron.init(x[0]), through_time=True)
    return out.flatten().tolist()


def test_soft_reset_by_hand() -> None:
    # u: 0.6, 0.9, 1.05 → fires, v = 0.05, then 0.025 + 1.5 = 1.525 → fires, v = 0.525, then 0.2625
    assert run(LIF(leak=0.5), [0.6, 0.6, 0.6, 1.5, 0.0]) == [0, 0, 1, 1, 0]


def test_hard_reset_by_hand() -> None:
    # leak 1: u: 0.6, 1.2 → fires, v = −0.5, then 0.4, 1.3 → fires
    assert run(LIF(leak=1.0, reset=HardReset(value=-0.5)), [0.6, 0.6, 0.9, 0.9]) == [0, 1, 0, 1]


def test_a_soft_reset_keeps_what_is_above_the_threshold() -> None:
    assert run(LIF(leak=1.0), [2.5, 0.0, 0.0, 0.0]) == [1, 1, 0, 0]
    assert run(LIF(leak=1.0, reset=HardReset()), [2.5, 0.0, 0.0, 0.0]) == [1, 0, 0, 0]
    assert run(LIF(leak=1.0, reset=SoftReset(amount=2.5)), [2.5, 0.0, 0.0, 0.0]) == [1, 0, 0, 0]


def test_reaching_the_threshold_fires_and_the_current_is_not_scaled() -> None:
    assert run(LIF(leak=0.9, threshold=0.75), [0.75]) == [1]
    assert run(LIF(leak=0.9, threshold=0.75), [0.7499999]) == [0]


def test_an_integrator_by_hand() -> None:
    assert run(Integrator(), [1.0, 2.0, 4.0]) == [1.0, 2.0, 4.0]
    assert run(Integrator(leak=0.5), [1.0, 2.0, 4.0]) == [1.0, 2.5, 5.25]
    assert run(Integrator(leak=1.0), [1.0, 2.0, 4.0]) == [1.0, 3.0, 7.0]


@pytest.mark.parametrize(
    "neuron", [LIF(leak=0.7), LIF(leak=0.7, reset=HardReset()), Integrator(leak=0.4), Integrator()], ids=repr
)
def test_state_goes_in_and_comes_out_and_nothing_stays_behind(neuron: AbstractNeuron) -> None:
    x = torch.rand(6, 3, 4, dtype=torch.float64)
    start = neuron.init(x[0])
    whole, end = neuron.scan(x, start, through_time=True)
    first, middle = neuron.scan(x[:4], start, through_time=True)
    neuron.scan(torch.rand_like(x), start, through_time=True)  # something else in between
    second, last = neuron.scan(x[4:], middle, through_time=True)
    assert torch.equal(torch.cat([first, second]), whole)
    assert all(torch.equal(a, b) for a, b in zip(end, last, strict=True))
    assert all(not v.any() for v in start)


@pytest.mark.parametrize("leak", [0.0, 0.3, 1.0])
def test_a_trace_decays_as_the_membrane_does(leak: float) -> None:
    """`decay` is how much of an input is left in the state one step later."""
    for neuron in (LIF(leak=leak, threshold=10.0), Integrator(leak=leak)):
        x = torch.tensor([1.0, 0.0], dtype=torch.float64)[:, None, None]
        _, (v,) = neuron.scan(x, neuron.init(x[0]), through_time=True)
        assert float(v) == pytest.approx(neuron.decay)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LIF(leak=-0.1),
        lambda: LIF(leak=1.1),
        lambda: LIF(leak=math.nan),
        lambda: LIF(threshold=0.0),
        lambda: LIF(threshold=-1.0),
        lambda: LIF(threshold=math.inf),
        lambda: LIF(threshold=math.nan),
        lambda: Integrator(leak=2.0),
        lambda: Integrator(leak=math.nan),
    ],
)
def test_constants_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(RecipeError):
        make()  # type: ignore[operator]


def test_neurons_are_frozen_and_say_whether_they_spike() -> None:
    assert LIF.spiking
    assert not Integrator.spiking
    with pytest.raises(AttributeError):
        LIF().leak = 0.1  # type: ignore[misc]
