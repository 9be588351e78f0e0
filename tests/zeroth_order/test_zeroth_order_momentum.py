"""The running mean M: its mean and variance, the start at zero and elsewhere, and what antithetic steps cancel in it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from zeroth_order_parts import (
    assert_scores,
    feedback_over_time,
    fixed_feedback,
    jacobians,
    linear_net,
    looked_at,
    opzo,
    same_input,
)

from aplysia.credit.learned_feedback import EverySequence, MomentumFeedback, Random, WarmUp
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.nets.net import Net
from aplysia.nets.noise import Noise
from aplysia.nets.zoo import build
from aplysia.types import Held

ALPHA, BATCH = 0.3, 8


def one_hidden_layer(offset: float = 0.0) -> tuple[Net, Tensor, Held]:
    """A linear net of one hidden layer of 20 units and 5 outputs, J, and one sample for the whole batch."""
    net = linear_net("F20-F5", 8)
    with torch.no_grad():
        net.readout.bias.add_(offset)  # type: ignore[union-attr]
    return net, jacobians(net)["dense1"], same_input(8, 1, BATCH)


def parts_of_variance(net: Net, jacobian: Tensor, x: Held) -> tuple[Tensor, Tensor]:
    """Var of one Gaussian sample: (o_j/α)², what the output's level makes, and ‖A_j‖² + A_ji², what the slope makes."""
    level = (net.predict(x)[0][0] / ALPHA).square()[:, None].expand_as(jacobian)
    return level, jacobian.square().sum(1, keepdim=True) + jacobian**2


def spaced(momentum: float, *, antithetic: bool, looks: int, net: Net, x: Held) -> Tensor:
    """M at `looks` moments that are four windows apart, each behind a whole pair of steps, `[looks, m, n]`."""
    gap = 2 * round(2 / (1 - momentum))
    rule = opzo(momentum, alpha=ALPHA, antithetic=antithetic)
    found = feedback_over_time(net, rule, Held(x.value, (looks + 4) * gap))["dense1"]
    return found[4 * gap + 1 :: gap]


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_mean_and_variance_of_independent_draws(momentum: float) -> None:
    """E M = J and Var M = (1 − λ)/(1 + λ)·Var X/B in the long run: 600 looks, 100 means, one pooled variance of 60,000 numbers.

    Its standard error is below 1.2 %. False alarms: 10⁻³.
    """
    net, jacobian, x = one_hidden_layer()
    samples = spaced(momentum, antithetic=False, looks=600, net=net, x=x)
    level, slope = parts_of_variance(net, jacobian, x)
    truth = (1 - momentum) / (1 + momentum) * (level + slope) / BATCH
    # Looks are four windows apart: what is left of the one before, λ^(4/(1 − λ)) < 2 %, is within the margins.
    assert_scores((samples.mean(0) - jacobian) / (truth / len(samples)).sqrt(), count=100)
    assert 0.95 < (samples.var(0) / truth).mean() < 1.05


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_antithetic_steps_cancel_the_level_of_the_output(momentum: float) -> None:
    """At equal õ, with v = (o_j/α)² and w = ‖A_j‖² + A_ji², behind a whole pair of steps

        Var M = (1 − λ)²/(1 − λ⁴)·[ (1 − λ)²·v + (1 + λ)²·w ]/B

    against (1 − λ)/(1 + λ)·(v + w)/B of independent draws: v falls from the first order in (1 − λ) to the third, w doubles,
    since there are half as many draws. v is more than 20 times w here. 600 looks; standard error below
    1.2 %. False alarms: 10⁻³.
    """
    net, jacobian, x = one_hidden_layer(offset=4.0)
    samples = spaced(momentum, antithetic=True, looks=600, net=net, x=x)
    level, slope = parts_of_variance(net, jacobian, x)
    assert level.min() > 20 * slope.max()
    truth = (1 - momentum) ** 2 / (1 - momentum**4)
    truth = truth * ((1 - momentum) ** 2 * level + (1 + momentum) ** 2 * slope) / BATCH
    assert_scores((samples.mean(0) - jacobian) / (truth / len(samples)).sqrt(), count=100)
    assert 0.95 < (samples.var(0) / truth).mean() < 1.05
    plain = (1 - momentum) / (1 + momentum) * (level + slope) / BATCH
    assert (samples.var(0) / plain).max() < {0.5: 0.5, 0.9: 0.15}[momentum]


def test_over_a_whole_pair_the_level_cancels_to_rounding() -> None:
    """The mean over a sequence of one pair is the same whatever is added to the output, since the net has no memory."""
    made = []
    for offset in (0.0, 50.0):
        net, _, x = one_hidden_layer(offset)
        rule = PseudoZerothOrder(
            noise=Noise(alpha=ALPHA), feedback=MomentumFeedback(momentum=0.0, update=EverySequence())
        )
        error = torch.zeros(2, 5, 5, dtype=torch.float64)
        for step in (0, 1):  # what the first sequence gathers comes into force with the second
            looked_at(net, rule, Held(x.value, 2), error, step=step)
        made.append(rule.tensors["dense1"].clone())
    assert made[0].abs().max() > 0.1
    torch.testing.assert_close(made[1], made[0], rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_bias_of_a_start_at_zero(momentum: float) -> None:
    """E M_k = (1 − λ^k)·J as it is stored, and J as it is used: 100 entries after 1, 3 and 20 updates of 20,000 samples each.

    Var M_k = (1 − λ)²·(1 − λ^{2k})/(1 − λ²)·Var X/B. False alarms: 4·10⁻³ for both momenta. The correction itself is exact:
    stored over used is 1 − λ^k to rounding.
    """
    net, jacobian, x = one_hidden_layer()
    x = Held(x.value[:1].expand(20_000, -1), 1)
    level, slope = parts_of_variance(net, jacobian, x)
    for k in (1, 3, 20):
        rule = opzo(momentum, alpha=ALPHA, antithetic=False)
        used = feedback_over_time(net, rule, Held(x.value, k))["dense1"][-1]
        stored, short = rule.tensors["dense1"], 1 - momentum**k
        torch.testing.assert_close(stored / short, used, rtol=1e-12, atol=0.0)
        spread = (1 - momentum) ** 2 * (1 - momentum ** (2 * k)) / (1 - momentum**2) * (level + slope) / len(x.value)
        assert_scores((stored - short * jacobian) / spread.sqrt(), count=100)
        assert_scores((used - jacobian) * short / spread.sqrt(), count=100)


def test_a_random_start_is_forgotten_and_not_corrected() -> None:
    """E M_k = λ^k·M_0 + (1 − λ^k)·J: 100 entries after 5 updates of 20,000 samples. False alarms: 7·10⁻⁴."""
    net, jacobian, x = one_hidden_layer()
    x = Held(x.value[:1].expand(20_000, -1), 5)
    rule = opzo(0.8, feedback={"start": Random(scale=2.0)}, alpha=ALPHA, antithetic=False)
    rule.attach(net, seed=9)
    before = rule.tensors["dense1"].clone()
    used = feedback_over_time(net, rule, x)["dense1"][-1]
    assert torch.equal(used, rule.tensors["dense1"])
    level, slope = parts_of_variance(net, jacobian, x)
    spread = 0.2**2 * (1 - 0.8**10) / (1 - 0.8**2) * (level + slope) / len(x.value)
    assert before.abs().mean() > 0.2
    assert_scores((used - 0.8**5 * before - (1 - 0.8**5) * jacobian) / spread.sqrt(), count=100)


def test_a_frozen_feedback_stays_and_a_warm_up_waits() -> None:
    net, _, x = one_hidden_layer()
    error = torch.ones(1, 5, 5, dtype=torch.float64)
    frozen = PseudoZerothOrder(noise=Noise(alpha=ALPHA), feedback=fixed_feedback())
    waiting = opzo(0.9, feedback={"start": WarmUp(batches=2)}, alpha=ALPHA)
    frozen.attach(net, seed=0)
    waiting.attach(net, seed=0)
    before = frozen.tensors["dense1"].clone()
    for step in range(4):
        seen = looked_at(net, frozen, x, error, step=step)
        assert torch.equal(frozen.tensors["dense1"], before)
        looked_at(net, waiting, x, error, step=step)
        assert waiting.tensors["dense1"].abs().max() > 0
        given = waiting.seed_error(net.hidden[0], seen.outs[0].detach(), error)
        assert (given is None) == (step < 2)


def test_one_update_is_a_sample_and_nothing_else() -> None:
    """λ = 0 and T = 1: M is the mean of õ·zᵀ/α over the batch, plain pseudo-zeroth order, to rounding."""
    net = linear_net("F20-F10-F5", 8)
    rule = opzo(0.0, alpha=ALPHA)
    x = Held(torch.rand(BATCH, 8, dtype=torch.float64), 1)
    for step in (0, 1):
        seen = looked_at(net, rule, x, torch.ones(1, BATCH, 5, dtype=torch.float64), step=step)
        for layer, z in zip(net.hidden, seen.done.noise, strict=True):
            want = (
                sum(torch.outer(o, z_b) for o, z_b in zip(seen.outs[-1][0].detach(), z.all()[0], strict=True))
                / BATCH
                / ALPHA
            )
            torch.testing.assert_close(rule.tensors[layer.name], want, rtol=1e-12, atol=1e-14)


def test_without_the_division_feedback_is_alpha_times_the_jacobian() -> None:
    """The paper's practical form: one is the other times α, bit by bit of the same draws."""
    net, _, x = one_hidden_layer()
    plain, scaled = opzo(0.9, alpha=ALPHA), opzo(0.9, alpha=ALPHA)
    plain.scaled = False
    found = [feedback_over_time(net, rule, Held(x.value, 30))["dense1"] for rule in (plain, scaled)]
    torch.testing.assert_close(found[0], found[1] * ALPHA, rtol=1e-10, atol=1e-12)


def test_what_the_last_sequence_before_freezing_gathered_comes_into_force() -> None:
    """`freeze_after=1` with an M updated once a sequence: the first sequence is learnt from, and nothing after it."""
    feedback = MomentumFeedback(momentum=0.5, freeze_after=1)
    net = build("F6-F3", (4,)).double()
    tensors = feedback.tensors(net, 3, seed=0)
    seen = []
    for step in range(4):
        source = torch.Generator().manual_seed(step)
        z, d = (torch.randn(2, 5, n, generator=source, dtype=torch.float64) for n in (6, 3))
        feedback.run(tensors, net.hidden, [z], [d], [torch.zeros_like(d)], step=step, steps=2, first=True)
        seen.append((tensors["dense1"].clone(), int(tensors["updates"]), d, z))
    assert not seen[0][0].any()
    want = 0.5 * torch.einsum("kbm,kbn->mn", seen[0][2], seen[0][3]) / 10
    torch.testing.assert_close(seen[1][0], want)
    assert all(torch.equal(m, seen[1][0]) and updates == 1 for m, updates, _, _ in seen[1:])
