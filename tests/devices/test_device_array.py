"""The optimiser: coincidences and gradients become pulses, state goes on bit for bit, wrong use ends in one sentence."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from device_parts import assert_scores, mean_score, source, variance_score
from torch import Tensor, nn

from aplysia.devices.array import PulsedArray
from aplysia.devices.base import AbstractDevice
from aplysia.devices.constant_step import ConstantStep
from aplysia.devices.ideal import Ideal
from aplysia.devices.law import Spread
from aplysia.devices.presets import ReramSb
from aplysia.devices.soft_bounds import SoftBounds
from aplysia.devices.tiki_taka import TikiTaka
from aplysia.errors import PairError, RecipeError
from aplysia.ops.coincidence import Coincidences, leave_coincidences, take_coincidences, wants_coincidences
from aplysia.train.folder import flatten, unflatten

Q = 2.0**-10


def parameter(*shape: int, value: float | None = None, seed: int = 0) -> nn.Parameter:
    data = 0.2 * torch.randn(shape, generator=source(seed), dtype=torch.float64)
    return nn.Parameter(data if value is None else torch.full(shape, value, dtype=torch.float64))


def leave(p: nn.Parameter, up: Tensor | float, down: Tensor | float, unit: float) -> None:
    """What a scheme would leave: counts, and the gradient they stand for beside what is there."""
    ups, downs = (torch.as_tensor(n, dtype=p.dtype).expand(p.shape).clone() for n in (up, down))
    counted = Coincidences(ups, downs, torch.tensor(unit, dtype=p.dtype))
    leave_coincidences(p, counted)
    told = unit * (downs - ups)
    p.grad = told if p.grad is None else p.grad + told


def test_coincidences_become_pulses_by_thinning() -> None:
    """Mean and variance of the weight's step, of a constant step without noise: Binomial for each line."""
    p = parameter(200, 200, value=0.0)
    optimiser = PulsedArray([p], device=ConstantStep(quantum=Q), lr=0.5)
    leave(p, 6, 4, unit=Q)  # half of the coincidences become pulses
    optimiser.step()
    moved = p.detach() / Q
    assert torch.equal(moved, moved.round())
    assert_scores(mean_score(moved, 1.0, 2.5), variance_score(moved, 1.0, 2.5))
    pulses = optimiser.writes[0]
    assert abs(pulses - 0.5 * 10 * 40_000) < 5 * (40_000 * 2.5) ** 0.5
    assert take_coincidences(p) == []


@pytest.mark.parametrize("netted", [False, True])
def test_netted_pulses_leave_unequal_devices_where_they_are(netted: bool) -> None:
    """As many up as down: sent, they pull a cell of unequal steps towards its symmetry point; netted, none is sent."""
    p = parameter(50, 50, value=0.5)
    uneven = SoftBounds(quantum=Q, spread=Spread(asymmetry=0.3))
    optimiser = PulsedArray([p], device=uneven, lr=1.0, netted=netted)
    leave(p, 20, 20, unit=Q)
    optimiser.step()
    assert optimiser.writes == ([0] if netted else [50 * 50 * 40])
    assert bool((p.detach() == 0.5).all()) if netted else bool((p.detach() < 0.5).all())


def test_netted_pulses_end_where_all_would_on_equal_steps() -> None:
    ends, writes = [], []
    for netted in (False, True):
        p = parameter(5, 7, value=0.0)
        optimiser = PulsedArray([p], device=ConstantStep(quantum=Q), lr=4 * Q, netted=netted)
        up, down = (torch.randint(0, 5, (5, 7), generator=source(s)).double() for s in (1, 2))
        leave(p, up, down, unit=0.25)
        optimiser.step()
        ends.append(p.detach())
        writes += optimiser.writes
    assert torch.equal(*ends)
    assert ends[0].count_nonzero() > 0
    assert writes == [int((up + down).sum()), int((up - down).abs().sum())]


def test_a_rate_of_one_pulse_a_coincidence_is_exact() -> None:
    p = parameter(5, 7, value=0.0)
    optimiser = PulsedArray([p], device=ConstantStep(quantum=Q), lr=4 * Q)
    up, down = (torch.randint(0, 5, (5, 7), generator=source(s)).double() for s in (1, 2))
    leave(p, up, down, unit=0.25)
    optimiser.step()
    assert torch.equal(p.detach(), Q * (up - down))


def test_counts_of_two_batches_are_both_pulsed_each_with_its_own_unit() -> None:
    p = parameter(20, 20, value=0.0)
    optimiser = PulsedArray([p], device=ConstantStep(quantum=Q), lr=1.0)
    leave(p, 3, 0, unit=Q)
    leave(p, 0, 1, unit=0.5 * Q)
    optimiser.step()
    steps = ((p.detach() - 3 * Q) / Q).flatten()
    assert set(steps.tolist()) == {-1.0, 0.0}  # half of the second ones
    assert optimiser.writes == [3 * 400 + int((steps == -1.0).sum())]


def test_gradients_become_pulses_by_random_rounding() -> None:
    p = parameter(200, 200, value=0.0)
    optimiser = PulsedArray([p], device=ConstantStep(quantum=Q), lr=0.1)
    grad = torch.where(torch.arange(200) % 2 == 0, 0.3 * Q / 0.1, -2.25 * Q / 0.1).double()
    p.grad = grad.expand(200, 200).clone()
    optimiser.step()
    moved = p.detach() / Q
    even, odd = moved[:, ::2], moved[:, 1::2]
    assert set(even.unique().tolist()) == {-1.0, 0.0}
    assert set(odd.unique().tolist()) == {2.0, 3.0}
    assert_scores(mean_score(even, -0.3, 0.21), mean_score(odd, 2.25, 0.1875))
    assert optimiser.writes == [int(moved.abs().sum())]


def test_an_ideal_array_is_clipped_gradient_descent() -> None:
    p, other = parameter(6, 4), parameter(6, 4)
    optimiser = PulsedArray([p], device=Ideal(bound=0.3), lr=0.2, weight_decay=0.01)
    assert not wants_coincidences(p)
    for seed in range(5):
        grad = torch.randn(6, 4, generator=source(seed), dtype=torch.float64)
        p.grad = grad
        optimiser.step()
        with torch.no_grad():
            other.clamp_(-0.3, 0.3)
            other.copy_((other - 0.2 * (grad + 0.01 * other)).clamp(-0.3, 0.3))
        torch.testing.assert_close(p, other, rtol=1e-12, atol=1e-14)
    assert (p.abs() == 0.3).any()
    assert (p.abs() < 0.3).any()


def test_weight_decay_pulses_towards_zero_beside_coincidences() -> None:
    """η·λ·|w|/quantum pulses, here 0.4, though nothing coincides."""
    p = parameter(100, 200, value=0.4)
    with torch.no_grad():
        p[:50] *= -1.0
    optimiser = PulsedArray([p], device=ConstantStep(quantum=Q), lr=0.1, weight_decay=10 * Q)
    leave(p, 0, 0, unit=Q)
    optimiser.step()
    moved = (p.detach() + torch.where(torch.arange(100) < 50, 0.4, -0.4)[:, None]) / Q
    assert_scores(mean_score(moved[:50], 0.4, 0.24), mean_score(moved[50:], -0.4, 0.24))
    q = parameter(100, 200, value=0.4)
    optimiser = PulsedArray([q], device=ConstantStep(quantum=Q), lr=0.1, weight_decay=10 * Q)
    q.grad = torch.full_like(q, -10 * Q * 0.4)  # which decay cancels
    optimiser.step()
    assert optimiser.writes == [0]


def test_several_pulses_a_coincidence_have_the_mean_they_should() -> None:
    p = parameter(200, 200, value=0.0)
    optimiser = PulsedArray([p], device=ConstantStep(quantum=Q), lr=1.0, several=True)
    leave(p, 3, 0, unit=2.5 * Q)
    optimiser.step()
    moved = p.detach() / Q
    assert moved.min() >= 6
    assert moved.max() <= 9
    assert_scores(mean_score(moved, 7.5, 0.75), variance_score(moved, 7.5, 0.75))


def test_a_rate_that_needs_several_pulses_is_refused_with_what_would_do() -> None:
    p = parameter(4, 4, value=0.0)

    def attempt(lr: float, quantum: float, several: bool = False) -> None:
        optimiser = PulsedArray([p], device=ConstantStep(quantum=quantum), lr=lr, several=several)
        optimiser.zero_grad()
        leave(p, 1, 0, unit=0.03)
        optimiser.step()

    with pytest.raises(RecipeError) as caught:
        attempt(0.7, 0.005)
    sentence = str(caught.value)
    largest = float(re.findall(r"at most ([\d.]+)", sentence)[0])
    smallest = float(re.findall(r"quantum of at least ([\d.]+)", sentence)[0])
    assert largest == pytest.approx(0.005 / 0.03, rel=1e-3)
    assert smallest == pytest.approx(0.7 * 0.03, rel=1e-3)
    assert "optimiser.several=true" in sentence
    assert "\n" not in sentence
    attempt(0.99 * largest, 0.005)
    attempt(0.7, 1.01 * smallest)
    attempt(0.7, 0.005, several=True)
    attempt(0.25, 0.0075)  # p = 1 exactly
    for lr, quantum in ((1.01 * largest, 0.005), (0.7, 0.99 * smallest)):
        with pytest.raises(RecipeError):
            attempt(lr, quantum)


def test_gradients_changed_after_counting_are_refused() -> None:
    p = parameter(4, 4, value=0.0)
    optimiser = PulsedArray([p], device=ConstantStep(quantum=Q), lr=1.0)
    leave(p, 2, 1, unit=Q)
    torch.nn.utils.clip_grad_norm_([p], 1e-3)
    with pytest.raises(PairError, match="clip=none"):
        optimiser.step()


def test_clearing_gradients_clears_their_coincidences() -> None:
    p = parameter(4, 4, value=0.0)
    optimiser = PulsedArray([p], device=ConstantStep(quantum=Q), lr=1.0)
    leave(p, 2, 0, unit=Q)
    optimiser.zero_grad()
    leave(p, 0, 1, unit=Q)
    optimiser.step()
    assert torch.equal(p.detach(), torch.full_like(p, -Q))
    optimiser.zero_grad()
    optimiser.step()  # nothing to do without a gradient
    assert optimiser.writes == [16]


def test_the_first_step_brings_weights_into_their_bounds() -> None:
    p = parameter(50, 50, value=3.0)
    optimiser = PulsedArray([p], device=SoftBounds(bound=0.5, spread=Spread(high=0.2)), lr=1.0)
    p.grad = torch.zeros_like(p)
    optimiser.step()
    assert p.std() > 0.05
    assert torch.equal(p.detach(), optimiser.state[p]["cells"]["high"])


def test_parameters_that_come_later_are_asked_too() -> None:
    first, late = parameter(3), parameter(4)
    optimiser = PulsedArray([first], device=SoftBounds(), lr=0.1)
    optimiser.add_param_group({"params": [late]})
    assert wants_coincidences(first)
    assert wants_coincidences(late)
    assert optimiser.writes == [0, 0]


def test_equal_parameters_get_cells_and_noise_of_their_own() -> None:
    twins = [parameter(8, 8, value=0.1) for _ in range(2)]
    optimiser = PulsedArray(twins, device=SoftBounds(quantum=0.01, spread=Spread(step=0.2, cycle=0.3)), lr=1.0)
    for p in twins:
        p.grad = torch.full_like(p, 0.02)
    optimiser.step()
    one, two = (optimiser.state[p]["cells"]["up"] for p in twins)
    assert not torch.isclose(one, two).any()
    assert not torch.isclose(*twins).any()


DEVICES: dict[str, Callable[[], AbstractDevice]] = {
    "ideal": lambda: Ideal(bound=0.5),
    "soft, all spreads": lambda: SoftBounds(
        quantum=0.01,
        spread=Spread(step=0.2, cycle=0.3, additive=0.1, asymmetry=0.1, asymmetry_spread=0.1, high=0.1, low=0.1),
    ),
    "write noise": lambda: ReramSb(bound=2.0),
    "tiki-taka": lambda: TikiTaka(
        fast=SoftBounds(quantum=0.01, spread=Spread(step=0.2, asymmetry=0.3, write=2.0)),
        slow=SoftBounds(quantum=0.02, spread=Spread(write=1.0)),
        every=2,
        columns=2,
    ),
}


@pytest.mark.parametrize("name", DEVICES)
def test_a_run_goes_on_bit_for_bit_from_its_state(name: str) -> None:
    """Through the form that checkpoints have; counts and gradients in turn; the other seed differs."""

    def train(
        steps: range, weights: list[Tensor] | None, state: dict | None, seed: int = 3
    ) -> tuple[list[Tensor], dict]:
        params = [parameter(5, 3, seed=1), parameter(5, seed=2)]
        optimiser = PulsedArray(params, device=DEVICES[name](), lr=0.05, weight_decay=1e-3, seed=seed)
        if weights is not None and state is not None:
            with torch.no_grad():
                for p, w in zip(params, weights, strict=True):
                    p.copy_(w)
            optimiser.load_state_dict(unflatten(*flatten(state, "optimiser")))
        for step in steps:
            for i, p in enumerate(params):
                draws = source(100 * step + i)
                if step % 3 == 2 and wants_coincidences(p):
                    up, down = (torch.randint(0, 4, p.shape, generator=draws) for _ in range(2))
                    leave(p, up, down, unit=0.05)
                else:
                    p.grad = torch.randn(p.shape, generator=draws, dtype=p.dtype)
            optimiser.step()
            optimiser.zero_grad()
        return [p.detach().clone() for p in params], optimiser.state_dict()

    whole, whole_state = train(range(9), None, None)
    half, half_state = train(range(4), None, None)
    rest, rest_state = train(range(4, 9), half, half_state)
    other, _ = train(range(9), None, None, seed=4)
    for a, b, c in zip(whole, rest, other, strict=True):
        assert torch.equal(a, b)
        assert name == "ideal" or not torch.equal(a, c)
    assert [s["writes"] for s in whole_state["state"].values()] == [s["writes"] for s in rest_state["state"].values()]
    assert all(s["step"] == 9 for s in rest_state["state"].values())
    assert whole_state["state"][0]["writes"] > 50


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "bound": (lambda: SoftBounds(bound=0.0), "device.bound"),
    "ideal bound": (lambda: Ideal(bound=-1.0), "device.bound"),
    "bound of a preset": (lambda: ReramSb(bound=float("inf")), "device.bound"),
    "quantum beyond the range": (
        lambda: ConstantStep(bound=0.5, quantum=1.01),
        r"device.quantum.*\(0, 1\].*at most 1,",
    ),
    "quantum of 0": (lambda: ConstantStep(quantum=0.0), "device.quantum"),
    "centre": (lambda: SoftBounds(centre=1.0), "device.centre"),
    "negative spread": (lambda: Spread(cycle=-0.1), "spread.cycle"),
    "asymmetry": (lambda: Spread(asymmetry=float("nan")), "spread.asymmetry"),
    "lr": (lambda: PulsedArray([parameter(2)], device=Ideal(), lr=-1.0), "optimiser.lr"),
    "decay": (lambda: PulsedArray([parameter(2)], device=Ideal(), weight_decay=float("nan")), "optimiser.weight_decay"),
    "every": (lambda: TikiTaka(every=0), "device.every"),
    "columns": (lambda: TikiTaka(columns=0), "device.columns"),
    "rate": (lambda: TikiTaka(rate=-0.1), "device.rate"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings_end_in_one_sentence(name: str) -> None:
    make, said = WRONG[name]
    with pytest.raises(RecipeError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
