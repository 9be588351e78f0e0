"""Device laws against loops over one cell and one pulse at a time, closed forms, and the statistics of noise and spreads."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from device_parts import Factor, array, assert_scores, by_hand, mean_score, one, pulsed, source, variance_score

from aplysia.devices.constant_step import ConstantStep
from aplysia.devices.exponential_step import ExponentialStep
from aplysia.devices.ideal import Ideal
from aplysia.devices.law import AbstractStep, Spread
from aplysia.devices.linear_step import LinearStep
from aplysia.devices.soft_bounds import SoftBounds

UNEQUAL = Spread(step=0.3, asymmetry=0.2, asymmetry_spread=0.1, high=0.2, low=0.1)


def _linear(up: bool) -> Factor:
    if up:
        return lambda w, cell: 1.0 - cell["up_slope"] * w / (0.8 * 1.3)
    return lambda w, cell: 1.0 + cell["down_slope"] * w / (0.8 * 0.7)


def _exponential(up: bool) -> Factor:
    def factor(w: float, cell: dict[str, float]) -> float:
        z = 0.7 * w / ((cell["high"] - cell["low"]) / 2.0) - 0.1
        return 1.0 - 0.2 * math.exp(3.0 * z) if up else 1.0 - 0.3 * math.exp(-2.0 * z)

    return factor


LAWS: dict[str, tuple[AbstractStep, Factor, Factor]] = {
    "constant": (ConstantStep(quantum=0.07, bound=0.8, spread=UNEQUAL), lambda w, c: 1.0, lambda w, c: 1.0),
    "linear": (
        LinearStep(quantum=0.07, bound=0.8, centre=0.3, up_slope=0.4, down_slope=0.7, slope_spread=0.1, spread=UNEQUAL),
        _linear(True),
        _linear(False),
    ),
    "soft": (
        SoftBounds(quantum=0.07, bound=0.8, centre=-0.2, spread=UNEQUAL),
        lambda w, cell: (cell["high"] - w) / cell["high"],
        lambda w, cell: (w - cell["low"]) / -cell["low"],
    ),
    "exponential": (
        ExponentialStep(
            quantum=0.07,
            bound=0.8,
            up_amplitude=0.2,
            down_amplitude=0.3,
            up_rate=3.0,
            down_rate=2.0,
            slope=0.7,
            offset=-0.1,
            spread=UNEQUAL,
        ),
        _exponential(True),
        _exponential(False),
    ),
}
each_law = pytest.mark.parametrize("law", LAWS)


@each_law
def test_pulses_of_one_direction_are_a_loop_over_pulses(law: str) -> None:
    """A different number for each cell, none for some; nothing moves but the cells that are pulsed."""
    device, rise, fall = LAWS[law]
    start = torch.linspace(-0.4, 0.9, 60, dtype=torch.float64).view(6, 10)
    counts = torch.arange(60, dtype=torch.float64).view(6, 10) % 7
    for sign in "+-":
        weight, cells = array(device, start)
        before = weight.clone()
        writes = pulsed(device, weight, cells, counts if sign == "+" else 0, counts if sign == "-" else 0)
        assert writes == int(counts.sum())
        for i in range(60):
            order = sign * int(counts.flatten()[i])
            want = by_hand(float(before.flatten()[i]), order, one(cells, i), device.quantum, rise, fall)
            assert math.isclose(float(weight.flatten()[i]), want, rel_tol=1e-12, abs_tol=1e-14)
        assert torch.equal(weight[counts == 0], before[counts == 0])
        assert (weight[counts > 0] != before[counts > 0]).double().mean() > 0.8


@each_law
def test_pulses_of_both_directions_come_in_every_order_equally_often(law: str) -> None:
    """Three up, two down: ten orders. Each cell ends where one of them ends."""
    device, rise, fall = LAWS[law]
    device = type(device)(**{**vars(device), "quantum": 0.2})
    orders = sorted({"".join(order) for order in permutations("+++--")})
    assert len(orders) == 10
    draws = 4000
    weight, cells = array(device, torch.tensor([0.35], dtype=torch.float64))
    ends = {order: by_hand(float(weight), order, one(cells, 0), device.quantum, rise, fall) for order in orders}
    many = weight.expand(draws).clone()
    pulsed(device, many, {name: cell.expand(draws).clone() for name, cell in cells.items()}, 3, 2)
    known = torch.tensor([ends[order] for order in orders], dtype=torch.float64)
    gaps = (many[:, None] - known).abs()
    assert gaps.min(1).values.max() < 1e-12
    # Where two orders end at one weight they are counted together.
    for end in known.unique().tolist():
        share = float(((known - end).abs() < 1e-9).double().mean())
        hits = ((many - end).abs() < 1e-9).double()
        if share < 1.0:
            assert_scores(mean_score(hits, share, share * (1.0 - share)))
    if law != "constant":
        assert len({round(end, 6) for end in ends.values()}) > 3


def test_a_constant_step_is_exactly_the_difference_of_pulses() -> None:
    device = ConstantStep(quantum=2.0**-8, bound=1.0)
    weight, cells = array(device, torch.randint(-64, 65, (30, 20), generator=source()) / 256.0)
    up = torch.randint(0, 9, (30, 20), generator=source(1)).float()
    down = torch.randint(0, 9, (30, 20), generator=source(2)).float()
    want = weight - 2.0**-8 * (down - up)
    assert pulsed(device, weight, cells, up, down) == int((up + down).sum())
    assert torch.equal(weight, want)


def test_a_linear_step_follows_its_recursion() -> None:
    device = LinearStep(quantum=0.03, bound=1.5, up_slope=0.6, down_slope=0.9)
    weight, cells = array(device, torch.full((4,), -0.4, dtype=torch.float64))
    k = torch.tensor([0.0, 1.0, 40.0, 100.0], dtype=torch.float64)
    pulsed(device, weight, cells, k, 0)
    end, factor = 1.5 / 0.6, 1.0 - 0.03 * 0.6 / 1.5
    torch.testing.assert_close(weight, (end + (-0.4 - end) * factor**k).clamp(max=1.5), rtol=1e-12, atol=1e-12)


def test_soft_bounds_have_their_symmetry_point_and_are_driven_to_it() -> None:
    device = SoftBounds(quantum=0.01, bound=1.0, spread=Spread(asymmetry=0.4, asymmetry_spread=0.2, high=0.1, low=0.1))
    weight, cells = array(device, torch.full((200,), 0.7, dtype=torch.float64))
    point = (cells["up"] - cells["down"]) / (cells["up"] / cells["high"] - cells["down"] / cells["low"])
    torch.testing.assert_close(device.symmetry(cells), point, rtol=1e-9, atol=1e-9)
    assert point.std() > 0.05
    before = weight.clone()
    pulsed(device, weight, cells, 30, 30)
    assert ((weight - before).sign() == (point - before).sign()).double().mean() > 0.95
    pulsed(device, weight, cells, 300, 300, seed=1)
    # The rest is the noise of the order alone, of about √(quantum/2).
    assert (weight - point).std() < 0.12
    assert_scores(mean_score(weight - point, 0.0))


@each_law
def test_at_the_symmetry_point_both_steps_are_equal(law: str) -> None:
    device, rise, fall = LAWS[law]
    _, cells = array(device, torch.zeros(50, dtype=torch.float64))
    point, inside = device.symmetry(cells), 0
    for i in range(50):
        cell, w = one(cells, i), float(point[i])
        if w != 0.0:
            inside += 1
            assert cell["low"] < w < cell["high"]
            assert math.isclose(
                cell["up"] * max(0.0, rise(w, cell)), cell["down"] * max(0.0, fall(w, cell)), rel_tol=1e-9
            )
    assert (inside == 0) if law == "constant" else (inside > 25)


def test_symmetric_devices_stay_where_they_are_and_asymmetric_ones_drift() -> None:
    """Two hundred pairs from 0.3."""
    start = torch.full((400,), 0.3, dtype=torch.float64)
    ends = {}
    for name, device in {
        "constant": ConstantStep(quantum=0.002),
        "soft": SoftBounds(quantum=0.01),
        "down weaker": ConstantStep(quantum=0.001, spread=Spread(asymmetry=0.5)),
        "up weaker": ConstantStep(quantum=0.001, spread=Spread(asymmetry=-0.5)),
    }.items():
        weight, cells = array(device, start)
        pulsed(device, weight, cells, 200, 200)
        ends[name] = float(weight.mean())
    assert math.isclose(ends["constant"], 0.3, abs_tol=1e-12)
    assert ends["soft"] < 0.02  # 0.3·(1 − 0.01)^400 = 0.005
    assert math.isclose(ends["down weaker"], 0.4, abs_tol=1e-9)
    assert math.isclose(ends["up weaker"], 0.2, abs_tol=1e-9)


@each_law
def test_bounds_hold_under_any_pulses_and_noise(law: str) -> None:
    device, _, _ = LAWS[law]
    device = type(device)(
        **{**vars(device), "quantum": 0.5, "spread": Spread(cycle=3.0, additive=2.0, high=0.3, low=0.3, step=0.5)}
    )
    weight, cells = array(device, 3.0 * torch.randn(500, generator=source(4)))
    for seed in range(3):
        assert torch.isfinite(weight).all()
        assert (weight <= cells["high"]).all()
        assert (weight >= cells["low"]).all()
        pulsed(device, weight, cells, 4, 3, seed=seed)
    assert ((weight == cells["high"]) | (weight == cells["low"])).any()
    assert (cells["high"].std() > 0.1) & (cells["low"].std() > 0.1)


def test_noise_of_pulses_has_its_mean_and_variance() -> None:
    start = torch.full((40_000,), 0.5, dtype=torch.float64)
    for spread, deviation in ((Spread(cycle=0.3), 0.5 * 0.3), (Spread(additive=0.3), 0.3), (Spread(cycle=5.0), 2.5)):
        device = SoftBounds(quantum=1e-4, spread=spread)  # f₊(0.5) = ½, f₋(0.5) = 3/2
        weight, cells = array(device, start)
        pulsed(device, weight, cells, 1, 0)
        moved = (weight - start) / 1e-4
        assert_scores(mean_score(moved, 0.5, deviation**2), variance_score(moved, 0.5, deviation**2))
        weight, cells = array(device, start)
        pulsed(device, weight, cells, 0, 1)
        assert_scores(mean_score((weight - start) / 1e-4, -1.5))


def test_spreads_have_the_means_and_deviations_they_are_given() -> None:
    spread = Spread(step=0.1, asymmetry=0.25, asymmetry_spread=0.05, high=0.04, low=0.08)
    cells = ConstantStep(bound=2.0, centre=0.5, spread=spread).cells(torch.zeros(200, 200).double(), source(7))
    scores = []
    for name, mean, deviation in (
        ("up", 1.0, math.hypot(0.1, 0.05)),
        ("down", 0.75, math.hypot(0.1, 0.05)),
        ("high", 3.0, 0.12),
        ("low", -1.0, 0.08),
    ):
        scores += [mean_score(cells[name], mean, deviation**2), variance_score(cells[name], mean, deviation**2)]
    apart = cells["up"] - cells["down"]
    assert_scores(*scores, mean_score(apart, 0.25, 0.01), variance_score(apart, 0.25, 0.01))
    weaker_up = ConstantStep(spread=Spread(asymmetry=-0.25)).cells(torch.zeros(2), source())
    assert weaker_up["up"].tolist() == [0.75, 0.75]
    assert weaker_up["down"].tolist() == [1.0, 1.0]


def test_write_noise_is_read_but_not_kept() -> None:
    quiet, noisy = (SoftBounds(quantum=0.01, spread=Spread(write=write)) for write in (0.0, 4.0))
    start = torch.linspace(-0.8, 0.8, 20_000, dtype=torch.float64)
    weight, cells = array(noisy, start)
    assert torch.equal(cells["beneath"], start)
    assert_scores(mean_score(weight - start, 0.0, 0.04**2), variance_score(weight - start, 0.0, 0.04**2))
    plain, plain_cells = array(quiet, start)
    up, first = (torch.arange(20_000) % 3).double(), weight.clone()
    pulsed(noisy, weight, cells, up, 0)
    pulsed(quiet, plain, plain_cells, up, 0)
    torch.testing.assert_close(cells["beneath"], plain, rtol=0.0, atol=0.0)
    assert torch.equal(weight[up == 0], first[up == 0])
    noise = (weight - plain)[up > 0]
    assert_scores(mean_score(noise, 0.0, 0.04**2), variance_score(noise, 0.0, 0.04**2))
    assert_scores(mean_score(noise * (first - start)[up > 0], 0.0, 0.04**4))  # drawn anew


def test_the_ideal_device_takes_any_step_within_bounds() -> None:
    device = Ideal(bound=0.5)
    weight, cells = array(device, torch.tensor([0.1, 0.9, -0.4]))
    assert cells == {}
    assert pulsed(device, weight, cells, torch.tensor([0.0123, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.3])) == 2
    assert torch.equal(weight, torch.tensor([0.1 + 0.0123, 0.5, -0.5]))


def test_no_pulses_change_and_draw_nothing() -> None:
    device, draws = SoftBounds(), source(3)
    weight, cells = array(device, torch.randn(5, generator=source()))
    before, state = weight.clone(), draws.get_state()
    assert device.step(weight, cells, torch.zeros(5), torch.zeros(5), draws) == 0
    assert torch.equal(weight, before)
    assert torch.equal(draws.get_state(), state)
