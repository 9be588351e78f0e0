"""The causal-set kernel of the ramp neuron.

Against two independent ones: the membrane simulated in 200,000 steps, and the form that sorts, gathers and accumulates in
plain torch with autograd behind it. Then what only this kernel has: the error slot, the bound on the gain, blocks, compiled
twins. Every comparison asserts that a fair share of units fires and a fair share does not.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aplysia.ops.backend import compiler_problem, kernels
from aplysia.ops.causal import BLOCK, causal_ramp

needs_compiler = pytest.mark.skipif(
    compiler_problem() is not None, reason=f"kernels cannot be compiled: {compiler_problem()}"
)
quiet_compile = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*:UserWarning:torch", "ignore::FutureWarning"
)

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


def reference(x: torch.Tensor, weight: torch.Tensor, threshold: float) -> torch.Tensor:
    """Sort, gather to `[B, M, N]`, cumulative sums, earliest valid candidate; autograd does the rest."""
    times, order = x.sort(1, descending=True)
    spiked = (times > 0).unsqueeze(2)
    sorted_weight = weight.t()[order] * spiked
    slope = sorted_weight.cumsum(1)
    up = slope > 0
    # No candidate where the slope is not positive: a division by zero there would be a NaN in autograd's way.
    rise = (sorted_weight * times.unsqueeze(2)).cumsum(1) - threshold
    candidates = torch.where(up, rise, torch.zeros_like(rise)) / torch.where(up, slope, torch.ones_like(slope))
    after = torch.cat([times[:, 1:], torch.zeros_like(times[:, :1])], 1).unsqueeze(2)
    valid = up & spiked & (candidates <= times.unsqueeze(2)) & (candidates >= after)
    y = candidates.gather(1, valid.int().argmax(1, keepdim=True)).squeeze(1)
    return torch.where(valid.any(1) & (y > 0), y, torch.zeros_like(y))


def drawn(
    batch: int, fan_in: int, units: int, dtype: torch.dtype, *, seed: int = 0, grid: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs with silent ones among them (on a grid of times: with ties), weights of both signs that make about half fire."""
    source = torch.Generator().manual_seed(seed)
    x = torch.rand(batch, fan_in, generator=source, dtype=torch.float64)
    if grid is not None:
        x = (x * grid).round() / grid
    x = x * (torch.rand(batch, fan_in, generator=source) < 0.6)
    weight = torch.randn(units, fan_in, generator=source, dtype=torch.float64) * (6.0 / fan_in) ** 0.5
    return x.to(dtype).requires_grad_(), (weight + 2.0 / fan_in).to(dtype).requires_grad_()


def assert_band(y: torch.Tensor, low: float = 0.2, high: float = 0.9) -> None:
    share = float((y > 0).double().mean())
    assert low < share < high, f"{share:.2f} of the units fire: this test tests little"


def gradients(y: torch.Tensor, *by: torch.Tensor, error: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    if error is None:
        error = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(y.dtype)
    return torch.autograd.grad(y, by, error)


@pytest.mark.parametrize("grid", [None, 8], ids=["distinct", "ties"])
def test_it_is_the_simulated_neuron(grid: int | None) -> None:
    """Fired or not, and when, to a step of the simulation; crossings that do not last are among them."""
    steps, horizon, threshold = 200_000, 1.0, 1.0
    x, weight = (a.detach() for a in drawn(4, 12, 30, torch.float64, grid=grid))
    weight = weight * 2.0
    t = torch.linspace(0.0, horizon, steps + 1, dtype=torch.float64)
    want = torch.full((4, 30), torch.inf, dtype=torch.float64)
    lasting = torch.zeros(4, 30, dtype=torch.bool)
    for b in range(4):
        ramps = (t.unsqueeze(1) - (horizon - x[b])).clamp(min=0.0) * (x[b] > 0)
        above = ramps @ weight.t() >= threshold
        lasting[b] = above[-1]
        first = above.int().argmax(0)
        want[b] = torch.where(above.any(0), t[first], want[b])
    y = causal_ramp(x, weight, threshold=threshold, feedback=None, max_gain=None)
    assert_band(y)
    fired = y > 0
    assert torch.equal(fired, want < horizon)
    assert bool((fired & ~lasting).any())
    late = want[fired] - (horizon - y[fired])
    assert float(late.min()) > -1e-12
    assert float(late.max()) <= horizon / steps + 1e-12


@DTYPES
@pytest.mark.parametrize("block", [1, 7, BLOCK, 64])
@pytest.mark.parametrize("grid", [None, 5], ids=["distinct", "ties"])
def test_values_and_gradients_of_the_reference(grid: int | None, block: int, dtype: torch.dtype) -> None:
    x, weight = drawn(19, 40, 23, dtype, grid=grid)
    with torch.no_grad():
        x[3] = 0.0  # a sample without any spike
        x[5, 1:] = 0.0  # and one with a single spike
    want = reference(x, weight, 1.0)
    got = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None, block=block)
    assert_band(got)
    assert not bool((got[3] > 0).any())
    tolerance = {"rtol": 1e-9, "atol": 1e-9} if dtype == torch.float64 else {"rtol": 2e-3, "atol": 2e-4}
    assert torch.equal(got > 0, want > 0)
    torch.testing.assert_close(got, want, **tolerance)
    for a, b in zip(gradients(got, x, weight), gradients(want, x, weight), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 40),
    fan_in=st.integers(1, 40),
    units=st.integers(1, 20),
    block=st.sampled_from([1, 3, 16]),
    grid=st.sampled_from([None, 3, 20]),
    seed=st.integers(0, 1000),
)
def test_reference_in_any_size(batch: int, fan_in: int, units: int, block: int, grid: int | None, seed: int) -> None:
    x, weight = drawn(batch, fan_in, units, torch.float64, seed=seed, grid=grid)
    threshold = 0.7312  # no sum of grid times: a tie of potentials is no bit's business
    want = reference(x, weight, threshold)
    got = causal_ramp(x, weight, threshold=threshold, feedback=weight, max_gain=None, block=block)
    assert torch.equal(got > 0, want > 0)
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)
    for a, b in zip(gradients(got, x, weight), gradients(want, x, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_many_rows_and_small_weights_are_summed_in_groups() -> None:
    """The shape of a convolution's patches; the number of rows is no multiple of anything."""
    x, weight = drawn(1237, 9, 4, torch.float64)
    want = reference(x, weight, 1.0)
    got = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None)
    assert_band(got)
    for a, b in zip(gradients(got, x, weight), gradients(want, x, weight), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_the_first_crossing_counts_not_the_last() -> None:
    """Up through the threshold, down by an inhibitory input, up again: by hand."""
    x = torch.tensor([[1.0, 0.7, 0.3]], dtype=torch.float64)
    weight = torch.tensor([[4.0, -9.0, 20.0], [3.0, -9.0, 20.0]], dtype=torch.float64)
    y = causal_ramp(x, weight, threshold=1.0, feedback=None, max_gain=None)
    # Unit 0: 4·(1 − y) = 1. Unit 1 reaches 0.9 at 0.7, then falls; (3 − 6.3 + 6 − 1)/14 at last.
    torch.testing.assert_close(y, torch.tensor([[0.75, 1.7 / 14.0]], dtype=torch.float64))


@DTYPES
def test_units_at_the_edge(dtype: torch.dtype) -> None:
    """All in numbers that are exact in binary: touching counts, but not at the horizon, and no gradient is infinite."""
    x = torch.tensor([[1.0, 0.5]], dtype=dtype, requires_grad=True)
    rows = [
        [2.0, -8.0],  # reaches ϑ at the very moment the other input pulls it down: fires then
        [1.0, 0.0],  # reaches ϑ at the horizon: silent
        [1.0 + 2.0**-20, 0.0],  # a moment before: fires
        [2.0 - 2.0**-20, -8.0],  # a moment too late: silent
        [0.0, 0.0],
        [0.0, 4.0],
        [-1.0, -1.0],
    ]
    weight = torch.tensor(rows, dtype=dtype, requires_grad=True)
    y = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None)
    assert (y > 0).tolist() == [[True, False, True, False, False, True, False]]
    assert y[0, [0, 5]].tolist() == [0.5, 0.25]
    by_x, by_weight = gradients(y, x, weight, error=torch.ones_like(y))
    assert bool(by_x.isfinite().all())
    assert bool(by_weight.isfinite().all())
    silent = [1, 3, 4, 6]
    assert not bool(by_weight[silent].any())
    # The unit that fired at 0.5 does not see the input of that moment: ∂y/∂x = w/A = 1.
    assert by_weight[0].tolist() == [0.25, 0.0]


def test_gradients_are_finite_at_the_faintest_crossing() -> None:
    """V rises by as little as numbers allow: the gain is bounded by arithmetic, without a case of its own."""
    x = torch.tensor([[1.0, 0.5, 0.25]], requires_grad=True)
    weight = torch.tensor([[2.0 - 2.0**-23, -2.0 + 2.0**-21, 0.0]], requires_grad=True)
    y = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None)
    assert bool((y > 0).all())
    by_x, by_weight = gradients(y, x, weight, error=torch.ones_like(y))
    assert float(by_weight.abs().max()) > 1e6
    assert bool(by_x.isfinite().all())
    assert bool(by_weight.isfinite().all())


@pytest.mark.parametrize("seed", range(3))
def test_a_spike_lies_strictly_behind_the_last_of_its_inputs(seed: int) -> None:
    """Rounding must not carry it past: the causal set that the backward pass sees is the one that was summed.

    Steep slopes in float32 put crossings within a last place of an input. The row property then shows every loss.
    """
    source = torch.Generator().manual_seed(seed)
    x = (torch.rand(200, 30, generator=source) * 0.001 + 0.999).requires_grad_()
    weight = torch.randint(1, 4, (20, 30), generator=source) * 2.0**22
    y = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None)
    assert bool((y > 0).all())
    assert bool((y < x.max(1, keepdim=True).values).all())
    (by_x,) = gradients(y, x, error=torch.ones_like(y))
    torch.testing.assert_close(by_x.sum(1), torch.full((200,), 20.0))


@DTYPES
def test_all_derivatives_of_a_time_sum_to_one(dtype: torch.dtype) -> None:
    """Shift all inputs and the spike shifts along: Σ_j ∂t_i/∂t_j = 1, and 0 for silent units."""
    x, weight = drawn(1, 30, 12, dtype)
    y = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None)
    assert_band(y)
    for i in range(12):
        chosen = torch.zeros_like(y)
        chosen[0, i] = 1.0
        (by_x,) = gradients(y, x, error=chosen) if i == 11 else torch.autograd.grad(y, x, chosen, retain_graph=True)
        assert float(by_x.sum()) == pytest.approx(float(y[0, i] > 0), abs=1e-4 if dtype == torch.float32 else 1e-10)


def test_feedback_is_for_the_error_alone() -> None:
    """B ≠ W: the update does not change, the error is the formula written out; nothing depends on who wants a gradient."""
    x, weight = drawn(7, 20, 9, torch.float64)
    feedback = torch.randn(9, 20, dtype=torch.float64, requires_grad=True)
    y = causal_ramp(x, weight, threshold=1.0, feedback=feedback, max_gain=None)
    assert_band(y)
    error = torch.randn_like(y)
    by_x, by_weight = gradients(y, x, weight, error=error)
    own = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None)
    assert torch.equal(by_weight, gradients(own, x, weight, error=error)[1])
    want_x, want_weight = torch.zeros_like(x), torch.zeros_like(weight)
    for b in range(7):
        for i in range(9):
            cause = [j for j in range(20) if x[b, j] > y[b, i]]
            if y[b, i] > 0:
                g = error[b, i] / sum(weight[i, j].detach() for j in cause)
                for j in cause:
                    want_x[b, j] += g * feedback[i, j].detach()
                    want_weight[i, j] += g * (x[b, j] - y[b, i]).detach()
    torch.testing.assert_close(by_x, want_x)
    torch.testing.assert_close(by_weight, want_weight)
    alone = causal_ramp(x.detach(), weight, threshold=1.0, feedback=feedback, max_gain=None)
    assert torch.equal(gradients(alone, weight, error=error)[0], by_weight)
    alone = causal_ramp(x, weight.detach(), threshold=1.0, feedback=feedback, max_gain=None)
    assert torch.equal(gradients(alone, x, error=error)[0], by_x)
    assert causal_ramp(x.detach(), weight.detach(), threshold=1.0, feedback=feedback, max_gain=None).grad_fn is None


def test_without_feedback_no_error_leaves() -> None:
    x, weight = drawn(7, 20, 9, torch.float64)
    y = causal_ramp(x, weight, threshold=1.0, feedback=None, max_gain=None)
    assert_band(y)
    by_x, by_weight = torch.autograd.grad(y.sum(), (x, weight), allow_unused=True)
    assert by_x is None
    assert bool(by_weight.any())


def test_the_bound_acts_on_the_common_factor_alone() -> None:
    """y stays; each unit's derivatives shrink by one factor, min(1, bound·A), and so keep their direction."""
    x, weight = drawn(1, 25, 16, torch.float64)
    free = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None)
    assert_band(free)
    fired = (free > 0)[0]
    slope = (weight * (x > free.t())).sum(1).detach()
    limit = 1.0 / float(slope[fired].median())
    bound = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=limit)
    assert torch.equal(free, bound)
    factor = torch.where(fired, (limit * slope).clamp(max=1.0), torch.ones_like(slope))
    assert bool((factor < 1.0).any())
    assert bool((factor[fired] == 1.0).any())
    error = torch.randn_like(free)
    _, by_weight = gradients(free, x, weight, error=error)
    by_x_bound, by_weight_bound = gradients(bound, x, weight, error=error)
    torch.testing.assert_close(by_weight_bound, by_weight * factor.unsqueeze(1))
    scaled = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=None)
    torch.testing.assert_close(by_x_bound, gradients(scaled, x, error=error * factor)[0])


def _everything(x: torch.Tensor, weight: torch.Tensor, block: int = BLOCK) -> tuple[torch.Tensor, ...]:
    y = causal_ramp(x, weight, threshold=1.0, feedback=weight, max_gain=3.0, block=block)
    assert_band(y)
    return y.detach(), *gradients(y, x, weight)


def test_the_size_of_a_block_changes_no_number() -> None:
    for size in ((19, 40, 23), (700, 9, 5)):
        x, weight = drawn(*size, torch.float32)
        want = _everything(x, weight)
        for block in (1, 2, 7, 1000):
            assert all(torch.equal(a, b) for a, b in zip(_everything(x, weight, block), want, strict=True))


def test_the_scan_stops_when_all_have_fired() -> None:
    """And no number changes: an input behind the last spike is never looked at."""
    x = torch.linspace(1.0, 0.01, 60).expand(3, 60).clone()
    weight = torch.full((4, 60), 1.0)
    y = causal_ramp(x, weight, threshold=1.0, feedback=None, max_gain=None, block=4)
    assert bool((y > 0.5).all())
    weight[:, 50:] = torch.nan
    assert torch.equal(y, causal_ramp(x, weight, threshold=1.0, feedback=None, max_gain=None, block=4))


def test_a_nan_is_not_silence() -> None:
    x, weight = (a.detach() for a in drawn(3, 10, 4, torch.float64))
    x[:, 0], weight[1, 0] = 1.0, torch.nan
    y = causal_ramp(x, weight, threshold=1.0, feedback=None, max_gain=None)
    assert y.isnan().all(0).tolist() == [False, True, False, False]


def test_no_samples_no_numbers() -> None:
    weight = torch.ones(4, 5, requires_grad=True)
    y = causal_ramp(torch.zeros(0, 5), weight, threshold=1.0, feedback=None, max_gain=None)
    assert y.shape == (0, 4)
    assert not bool(gradients(y, weight)[0].any())


@needs_compiler
@quiet_compile
def test_compiled_equals_eager() -> None:
    """Bit for bit in both directions, for all sizes from the same kernels. (Small blocks compile faster.)"""
    for size in ((64, 50, 33), (500, 9, 5), (3, 20, 47)):
        x, weight = drawn(*size, torch.float32, grid=11)
        want = _everything(x, weight)
        with kernels(compiled=True) as really:
            assert really
            got = _everything(x, weight, block=3)
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
