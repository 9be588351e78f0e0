"""What one noisy pass tells: z·õᵀ/α has the mean and the variance that theory gives it, for maps whose Jacobian is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from zeroth_order_parts import (
    LAWS,
    Moments,
    assert_scores,
    each_law,
    feedback_over_time,
    jacobians,
    linear_net,
    opzo,
    same_input,
    z_scores,
)

from aplysia.credit.learned_feedback import EveryStep, MomentumFeedback
from aplysia.nets.net import Net
from aplysia.nets.noise import Noise
from aplysia.nets.zoo import build

ALPHA, STEPS, BATCH = 0.3, 4000, 25


def variances(net: Net, known: Moments, output: Tensor, alpha: float) -> dict[str, Tensor]:
    """Var of õ_j·z_i/α, `[m, n]` per layer of a linear net in which all layers are disturbed at once."""
    made, found = {}, jacobians(net)
    others = {name: torch.zeros(net.classes, 1, dtype=torch.float64) for name in found}
    for name, jacobian in found.items():
        for other in others:
            if other != name:
                others[other] = others[other] + jacobian.square().sum(1, keepdim=True)
    for name, jacobian in found.items():
        n = jacobian.shape[1]
        own = known.mixed(n) * (jacobian.square().sum(1, keepdim=True) - jacobian**2) + known.fourth(n) * jacobian**2
        made[name] = (output / alpha).square()[:, None] + own - jacobian**2 + others[name]
    return made


@each_law
@pytest.mark.parametrize("alpha", [ALPHA, 10 * ALPHA])
def test_linear_map_mean_and_variance(known: Moments, alpha: float) -> None:
    """E X = Aᵀ and Var X_ij = o_j²/α² + q·(‖A_j‖² − A_ji²) + (κ − 1)·A_ji² + Σ of the other layers' ‖A_j‖², for q = E z_i²z_k²
    and κ = E z⁴: +A_ji² for Gaussian, −A_ji² for Rademacher noise.

    100,000 passes of a net of three layers under noise in both hidden ones; 150 means. With little noise the output's level
    makes most of the variance, with much the law's moments do. The ratio of measured to true
    variance, pooled over a layer, has a standard error below 0.5 %. False alarms: 10⁻³.
    """
    net = linear_net("F20-F10-F5", 8)
    x = same_input(8, STEPS, BATCH)
    output = net.predict(x)[0][0]
    assert output.abs().max() > 0.3
    samples = feedback_over_time(net, opzo(alpha=alpha, law=known.law, antithetic=False), x)
    truth = variances(net, known, output, alpha)
    for name, jacobian in jacobians(net).items():
        assert jacobian.abs().max() > 0.2
        assert_scores(z_scores(samples[name], jacobian, truth[name] / BATCH), count=jacobian.numel())
        ratio = (samples[name].var(0) / (truth[name] / BATCH)).mean()
        assert 0.97 < ratio < 1.03, name


def test_the_variance_formula_tells_the_laws_apart() -> None:
    """The ± A_ji² of the formulas is within what the test above can see, where it matters: 20,000 passes, one unit.

    The measured variance of one entry with a large A_ji has a standard error of 1 to 2 %, the laws differ by 40 % or more.
    """
    net = linear_net("F2-F2", 3)
    with torch.no_grad():
        net.readout.weight.copy_(torch.tensor([[1.0, 0.2], [0.2, 1.0]]))
    x = same_input(3, 2000, 10)
    output = net.predict(x)[0][0]
    measured = {}
    for name in ("gaussian", "rademacher"):
        rule = opzo(alpha=5.0, law=LAWS[name].law, antithetic=False)
        measured[name] = 10 * feedback_over_time(net, rule, x)["dense1"].var(0)[0, 0]
        assert measured[name] == pytest.approx(float(variances(net, LAWS[name], output, 5.0)["dense1"][0, 0]), rel=0.1)
    assert measured["gaussian"] > 1.4 * measured["rademacher"]


def learnt_of(function: Callable[[Tensor], Tensor], known: Moments, alpha: float, n: int, count: int) -> Tensor:
    """M of a chunk with one update a step, for a map of n units to outputs: the library's draws and its running mean."""
    net = build(f"F{n}-F4", (2,)).double()
    source = Noise(law=known.law, antithetic=False).source(7, 0)
    assert source is not None
    batch = 20
    z = source.draw("dense1", 0, count // batch, torch.zeros(batch, n, dtype=torch.float64))
    feedback = MomentumFeedback(momentum=0.0, update=EveryStep())
    errors = torch.eye(4, dtype=torch.float64).expand(len(z), -1, -1)
    tensors = feedback.tensors(net, 4, 0)
    found = feedback.run(tensors, net.hidden, [z], [function(z) / alpha], [errors], step=0, steps=len(z), first=True)
    assert found["dense1"] is not None
    return found["dense1"]


@each_law
@pytest.mark.parametrize("alpha", [0.3, 2.0])
def test_quadratic_maps_are_unbiased_whatever_the_noise(known: Moments, alpha: float) -> None:
    """õ_j = vᵀQ_jv at v = x + αz: the mean is exactly 2·Q_jx, since odd moments vanish; 60,000 passes, 32 means.

    False alarms: 2·10⁻⁴.
    """
    source = torch.Generator().manual_seed(5)
    x = torch.randn(8, generator=source, dtype=torch.float64)
    q = torch.randn(4, 8, 8, generator=source, dtype=torch.float64)
    q = q + q.transpose(1, 2)
    samples = learnt_of(
        lambda z: torch.einsum("kbi,jil,kbl->kbj", x + alpha * z, q, x + alpha * z), known, alpha, 8, 60_000
    )
    assert_scores(z_scores(samples, 2.0 * q @ x), count=32)


@pytest.mark.parametrize("name", ["gaussian", "rademacher"])
def test_the_bias_of_cubic_maps_falls_with_the_square_of_the_noise(name: str) -> None:
    """õ_j = Σ_i c_ji·v_i³: E X = c·(3x² + κ·α²) for κ = E z⁴, so that halving α leaves a quarter of the bias.

    120,000 passes; over seeds the ratio is 4.001 ± 0.006. False alarms: 2·10⁻⁴, of the 32 means.
    """
    known = LAWS[name]
    source = torch.Generator().manual_seed(6)
    x = 0.3 * torch.rand(8, generator=source, dtype=torch.float64)
    c = 0.5 + torch.rand(4, 8, generator=source, dtype=torch.float64)
    bias = {}
    for alpha in (1.0, 0.5):
        samples = learnt_of(lambda z, a=alpha: ((x + a * z) ** 3) @ c.t(), known, alpha, 8, 120_000)
        assert_scores(z_scores(samples, c * (3 * x**2 + known.fourth(8) * alpha**2)), count=32)
        bias[alpha] = float(((samples.mean(0) - 3 * c * x**2) / c).mean())
    assert bias[1.0] / bias[0.5] == pytest.approx(4.0, abs=0.04)


def test_feedback_times_error_becomes_backpropagation_for_a_constant_jacobian() -> None:
    """cos(Mᵀe, Jᵀe) → 1 as λ → 1: 1 − cos falls as (1 − λ) does, tenfold a decade, for the layers of a linear net.

    Means over 50 looks, each three windows from the next; over seeds their ratio is 9.7 ± 0.7. False alarms: 10⁻⁴.
    """
    net = linear_net("F20-F10-F5", 8)
    error = torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    missing: dict[float, dict[str, float]] = {}
    for momentum in (0.8, 0.98):
        window = round(3 / (1 - momentum))
        # Antithetic pairs leave J alone in M, at every odd step.
        rule = opzo(momentum, alpha=ALPHA)
        found = feedback_over_time(net, rule, same_input(8, 52 * window, 40))
        missing[momentum] = {}
        for name, jacobian in jacobians(net).items():
            looks = torch.einsum("kmn,m->kn", found[name][2 * window + 1 :: window], error)
            cosines = torch.cosine_similarity(looks, (error @ jacobian).expand_as(looks), dim=1)
            missing[momentum][name] = float(1 - cosines.mean())
    for name in missing[0.8]:
        assert missing[0.98][name] < 0.02
        assert 6 < missing[0.8][name] / missing[0.98][name] < 14, name
