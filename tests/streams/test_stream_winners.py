"""Winner-take-all: the odds of a softmax, exactly one winner a step, and what the biased circuit does instead."""

from __future__ import annotations

import pytest
import torch
from stream_parts import CPU, assert_scores, chi_square, drawn, rates, stream_net, z_scores
from torch import Tensor

from aplysia.credit.loss import WinnerLoss
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.errors import RecipeError
from aplysia.ops.stream import Counts, Expect
from aplysia.ops.winner import AbstractCircuit, Clocked, ClockedTies, Race
from aplysia.rng import generator
from aplysia.types import Held

LOGITS = torch.tensor([1.0, 0.0, -1.0, 2.0, 0.5], dtype=torch.float64)
P = torch.softmax(LOGITS, 0)
# P(χ² > x) = exp(−x/2)·(1 + x/2) for 4 degrees of freedom: 10⁻⁵ here.
CHI = 28.47
EXACT = {
    "race": Race(),
    **{f"clocked, bias {bias}": Clocked(bias=bias) for bias in (-4.0, -1.5, 0.5, 2.0)},
}
TIES = [ClockedTies(bias=bias) for bias in (-1.0, 1.0, 2.0, 3.0)]


def winners(circuit: AbstractCircuit, *, steps: int = 20, batch: int = 1000) -> Tensor:
    return circuit.draw(LOGITS.expand(steps, batch, 5), generator(CPU, 7, "winner"))


@pytest.mark.parametrize("circuit", EXACT.values(), ids=EXACT)
def test_the_winner_has_the_odds_of_a_softmax(circuit: AbstractCircuit) -> None:
    """χ² of 20,000 winners, and of the pairs of successive ones. False alarms: 2·10⁻⁵."""
    won = winners(circuit)
    assert circuit.softmax
    assert chi_square(won.sum((0, 1)), P) < CHI
    # A shared number between steps or samples would show in how often one class wins twice.
    again = (won[1:] * won[:-1]).sum(-1).flatten()
    beside = (won[:, 1:] * won[:, :-1]).sum(-1).flatten()
    twice = float(P.square().sum())
    assert_scores(z_scores(torch.stack([again[:18_000], beside[:18_000]], 1), twice, twice * (1.0 - twice)), count=2)


def test_a_constant_that_all_units_share_changes_nothing() -> None:
    """However large: ±700 would overflow rates exp(m)."""
    for shift in (-700.0, 700.0):
        for circuit in (Race(), Clocked()):
            won = circuit.draw((LOGITS + shift).expand(20, 1000, 5), generator(CPU, 7, "winner"))
            assert torch.equal(won, winners(circuit))


def test_counted_wins_are_multinomial() -> None:
    """χ² of all wins, variance N·p(1 − p) and covariance −N·p·p′ of 4,000 counts of 30. False alarms: 10⁻⁴."""
    steps, runs = 30, 4000
    won = drawn(steps, 5, engine=Counts()).winners(LOGITS.expand(1, runs, 5), Race())[0] * steps
    assert torch.equal(won, won.round())
    assert torch.equal(won.sum(-1), torch.full((runs,), float(steps), dtype=torch.float64))
    assert chi_square(won.sum(0), P) < CHI
    centred = won - steps * P
    covariance = steps * (torch.diag(P) - P[:, None] * P)
    assert_scores(z_scores(centred[:, :, None] * centred[:, None, :], covariance), count=25)


def test_ties_broken_at_random_are_biased_and_the_more_so_the_larger_the_bias() -> None:
    """Largest error of a probability: .15, .24 and .31 at b = 1, 2, 3, as measured elsewhere; beyond what chance gives."""
    errors = []
    for circuit in TIES:
        won = winners(circuit)
        assert not circuit.softmax
        assert chi_square(won.sum((0, 1)), P) > CHI
        errors.append(float((won.mean((0, 1)) - P).abs().max()))
    assert errors == sorted(errors)
    assert errors[1:] == pytest.approx([0.15, 0.24, 0.31], abs=0.015)


def test_the_biased_circuit_has_the_odds_its_law_gives() -> None:
    """P(k) = Σ over sets S of who fires that hold k, of P(S)/|S|, over P(S ≠ ∅). χ², false alarms: 10⁻⁵."""
    for circuit in TIES:
        p = torch.sigmoid(LOGITS - LOGITS.max() + circuit.bias)
        odds = torch.zeros_like(p)
        for chosen in range(1, 32):
            inside = torch.tensor([bool(chosen >> k & 1) for k in range(5)])
            odds += inside * torch.where(inside, p, 1.0 - p).prod() / inside.sum()
        assert chi_square(winners(circuit).sum((0, 1)), odds / odds.sum()) < CHI


@pytest.mark.parametrize("circuit", [Race(), Clocked(), ClockedTies()], ids=lambda c: type(c).__name__)
def test_exactly_one_unit_wins_each_step(circuit: AbstractCircuit) -> None:
    won = winners(circuit)
    assert set(won.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(won.sum(-1), torch.ones(won.shape[:-1], dtype=won.dtype))


def test_error_spikes_are_disjoint_and_their_mean_is_softmax_minus_label() -> None:
    """e⁺ and e⁻ hold one spike each where another class won and none where the label did. False alarms: 10⁻⁴."""
    won, target = winners(Race()), torch.arange(1000) % 5
    value, error = WinnerLoss().error(won, target, 20)
    plus, minus = error.clamp_min(0.0), (-error).clamp_min(0.0)
    assert set(error.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert not (plus * minus).any()
    missed = 1.0 - won.gather(-1, target.expand(20, -1).unsqueeze(-1)).squeeze(-1)
    assert torch.equal(plus.sum(-1), missed)
    assert torch.equal(minus.sum(-1), missed)
    y = torch.nn.functional.one_hot(target, 5).double()
    assert torch.equal(plus, won * (1.0 - y))
    assert torch.equal(minus, y * (1.0 - won))
    assert float(value) == pytest.approx(float(missed.mean()))
    for label in range(5):
        seen = error[:, target == label].flatten(0, 1)
        assert_scores(z_scores(seen, P - y[label], P * (1.0 - P)), count=5)


@pytest.mark.parametrize("circuit", [Race(), Clocked()], ids=["race", "clocked"])
def test_a_net_answers_with_the_shares_of_its_wins(circuit: AbstractCircuit) -> None:
    """Logits are log((n + ½)/(N + C/2)) of Multinomial(N, softmax(b)) wins; 400 samples of 50 steps. False alarms: 4·10⁻⁵."""
    net = stream_net("F6-F5", circuit=circuit)
    with torch.no_grad():
        net.readout.weight.zero_()
        assert net.readout.bias is not None
        net.readout.bias.copy_(LOGITS)
    x, _ = rates(batch=400)
    logits, spikes = Coincidence().predict(net, Held(x, 50))
    wins = logits.exp() * 52.5 - 0.5
    torch.testing.assert_close(wins, wins.round(), rtol=0.0, atol=1e-9)
    assert float(spikes[-1]) == 400 * 50 == float(wins.round().sum())
    assert_scores(z_scores(wins, 50 * P, 50 * P * (1.0 - P)), count=5)
    endless, _ = Coincidence(engine=Expect()).predict(net, Held(x, 50))
    torch.testing.assert_close(endless, P.log().expand(400, 5))


@pytest.mark.parametrize("circuit", [Clocked(bias=-60.0), Clocked(bias=60.0), ClockedTies(bias=-60.0)])
def test_a_bias_that_gives_no_winner_is_refused(circuit: AbstractCircuit) -> None:
    with pytest.raises(RecipeError, match=r"readout\.circuit\.bias.*-1\.5"):
        circuit.draw(torch.zeros(1, 2, 3), generator(CPU, 1))


@pytest.mark.parametrize("kind", [Clocked, ClockedTies])
def test_a_bias_that_is_no_number_is_refused(kind: type) -> None:
    with pytest.raises(RecipeError, match="bias"):
        kind(bias=float("nan"))
