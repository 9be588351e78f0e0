"""How the error of a gradient falls with the length N of the streams."""

from __future__ import annotations

import pytest
import torch
from stream_parts import (
    artificial,
    assert_scores,
    assert_streams_alive,
    by_autograd,
    rates,
    relative,
    repeated,
    slope,
    stream_net,
    z_scores,
)

from aplysia.neurons.bitstream import Sigmoid
from aplysia.neurons.stream_memory import AbstractMemory, BlockMean, RunningMean
from aplysia.ops.stream import AbstractEngine, Bits, Counts
from aplysia.types import Held

# Not of slope 4, where a derivative bit stands for a slope of 1 and its scale for nothing.
SMOOTH = Sigmoid(slope=6.0)
PATHS = {
    "running mean, bits": (RunningMean(), Bits()),
    "block mean, bits": (BlockMean(), Bits()),
    "block mean, counts": (BlockMean(), Counts()),
}
each_path = pytest.mark.parametrize(("memory", "engine"), PATHS.values(), ids=PATHS)


@each_path
def test_errors_fall_as_the_root_of_the_length(memory: AbstractMemory, engine: AbstractEngine) -> None:
    """Slope −½ in log N for all weights of a net with sigmoid units, whose derivative is smooth; N = 32 … 512, 12 runs.

    The slope's own deviation over seeds is .035 or less, the bound four of these. With a running mean, whose first steps are
    noisy, part of the error is a bias, of the same order.
    """
    net, (x, target) = stream_net(memory=memory, transfer=SMOOTH), rates(batch=6)
    assert_streams_alive(net, Held(x, 64))
    truth, lengths = by_autograd(net, x, target), [32, 128, 512]
    runs = {n: repeated(net, Held(x, n), target, engine, 12) for n in lengths}
    for name in ("dense1.weight", "readout.weight"):
        errors = [relative(runs[n][name], truth[name]) for n in lengths]
        assert slope(lengths, errors) == pytest.approx(-0.5, abs=0.15), f"{name}: {errors}"


@pytest.mark.parametrize(("memory", "engine"), [PATHS["running mean, bits"], PATHS["block mean, counts"]])
def test_so_do_those_of_a_readout_above_clipped_units(memory: AbstractMemory, engine: AbstractEngine) -> None:
    """No derivative bit stands between the readout's weights and their error."""
    net, (x, target) = stream_net(memory=memory), rates(batch=6)
    assert_streams_alive(net, Held(x, 64))
    truth, lengths = by_autograd(net, x, target), [32, 128, 512]
    runs = [repeated(net, Held(x, n), target, engine, 12)["readout.weight"] for n in lengths]
    errors = [relative(made, truth["readout.weight"]) for made in runs]
    assert slope(lengths, errors) == pytest.approx(-0.5, abs=0.15), errors


def test_block_means_leave_no_bias_in_the_gradient_of_smooth_units() -> None:
    """To the order of 1/N: the mean of 300 gradients of 512 steps is the limit's. False alarms: 2·10⁻³ for 276 entries."""
    net, (x, target) = stream_net(memory=BlockMean(), transfer=SMOOTH), rates(batch=6)
    truth = by_autograd(net, x, target)
    made = repeated(net, Held(x, 4096), target, Counts(), 300)
    scores = torch.cat([z_scores(made[name], truth[name]).flatten() for name in truth])
    assert_scores(scores, count=12 * 16 + 16 + 16 * 4 + 4)


def test_clipped_units_fall_as_the_fourth_root_of_the_length_by_the_law_of_their_derivative_bits() -> None:
    """Slope −¼ in log N for weights below clipped-linear units, and the constant too.

    The membrane of a unit is N(m, s²/N), s² = Σ w²·x(1 − x), so its derivative bit 1[0 < m < 1] is the wrong one with
    probability P = Φ(−|m − edge|·√N/s). Membranes are spread evenly around an edge, at a density ρ say, so the share of wrong
    bits is the integral ρ·∫ Φ(−|v|·√N/s) dv, which is proportional to N^−½; each puts an error of g·x into the gradient
    whatever N is. With Δ_j the weights' gradient of unit j, errors of samples b being independent,

        E‖Δ_j − G_j‖² = Σ_b P(1 − P)·(g·x)² + (Σ_b ±P·g·x)²     ~ N^−½,

    and its root falls as N^−¼. All else (rates, winners, coincidences) adds of the order of N^−1 to the square.
    """
    net, (x, target) = stream_net("F64-F4", (20,), memory=BlockMean()), rates((20,), batch=256)
    assert_streams_alive(net, Held(x, 64))
    truth = by_autograd(net, x, target)["dense1.weight"]
    with torch.no_grad():
        (m,), logits = artificial(net, x)
        error = (torch.softmax(logits, 1) - torch.nn.functional.one_hot(target, 4)) / len(x)
        g = error @ net.readout.weight
        s = (x * (1.0 - x) @ net.hidden[0].weight.square().t()).sqrt()
    inside, edge = (m > 0.0) & (m < 1.0), torch.minimum(m.abs(), (m - 1.0).abs())
    lengths, errors, foretold = [2**k for k in (10, 12, 14, 16, 18)], [], []
    for n in lengths:
        made = repeated(net, Held(x, n), target, Counts(), 16)["dense1.weight"]
        wrong = torch.special.ndtr(-edge * n**0.5 / s)
        spread = ((wrong * (1.0 - wrong) * g * g).t() @ x.square()).sum()
        offset = ((torch.where(inside, -wrong, wrong) * g).t() @ x).square().sum()
        errors.append(relative(made, truth))
        foretold.append(float((spread + offset).sqrt() / truth.norm()))
    assert slope(lengths, foretold) == pytest.approx(-0.25, abs=0.02), foretold
    assert slope(lengths, errors) == pytest.approx(-0.25, abs=0.05), errors
    assert errors[-1] == pytest.approx(foretold[-1], rel=0.1)
    # What the bits leave of the squared error falls as 1/N.
    rest = [e * e - f * f for e, f in zip(errors[:3], foretold[:3], strict=True)]
    assert min(rest) > 0.0
    assert slope(lengths[:3], rest) == pytest.approx(-1.0, abs=0.3), rest
