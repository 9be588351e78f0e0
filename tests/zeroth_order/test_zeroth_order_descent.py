"""Zeroth order against pseudo-zeroth order: unbiased both, of very different variance; and where a mean Jacobian fails."""

from __future__ import annotations

import itertools

import pytest
import torch
from helpers import assert_alive
from torch import Tensor
from zeroth_order_parts import LAWS, Moments, assert_scores, each_law, jacobians, linear_net, opzo, z_scores

from aplysia.credit.contract import AbstractSpatial, Seen
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.spatial.zeroth_order import (
    AbstractBaseline,
    NoBaseline,
    OthersBaseline,
    RunningBaseline,
    ZerothOrder,
)
from aplysia.credit.temporal.trace import Trace
from aplysia.nets.net import Net
from aplysia.nets.noise import Noise
from aplysia.nets.route import Route
from aplysia.nets.zoo import build
from aplysia.neurons.lif import LIF
from aplysia.ops.surrogate import Rectangle
from aplysia.train.learner import Learner
from aplysia.types import Held

ALPHA = 0.3
SQUARED = StepwiseLoss(mse_share=1.0)


def zeroth_order(baseline: AbstractBaseline, known: Moments) -> ZerothOrder:
    return ZerothOrder(noise=Noise(alpha=ALPHA, law=known.law, antithetic=False), baseline=baseline, scale=1.0)


def errors_of_steps(net: Net, rule: ZerothOrder, batch: int, steps: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Σ of a layer's errors over the batch, times T so that steps are samples, `[T, n]`; the clean output; the target."""
    value = torch.rand(8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x, target = Held(value.expand(batch, 8), steps), torch.full((batch,), 2)
    rule.attach(net, seed=9)
    done = net(x, None, Route(cut=True, noise=rule.noise_source))
    with torch.no_grad():
        error = SQUARED.error(done.outs[-1].detach(), target, steps)[1]
        seen = Seen(done, error, target, SQUARED, steps, 0, rule.noise_source)
        rule.observe(net, seen)
    made = {}
    for layer, out in zip(net.hidden, done.outs, strict=False):
        found = rule.seed_error(layer, out.detach(), error)
        assert found is not None
        made[layer.name] = found.sum(1) * steps
    return made, net.predict(Held(x.value[:1], 1))[0], target[:1]


@each_law
@pytest.mark.parametrize(
    "baseline", [NoBaseline(), RunningBaseline(momentum=0.0), OthersBaseline()], ids=["none", "run", "others"]
)
def test_zeroth_order_is_an_unbiased_gradient(known: Moments, baseline: AbstractBaseline) -> None:
    """E[(L(õ) − b)·z/α] = Jᵀ·∂L/∂o for a linear net with squared error, since odd moments vanish, whatever the baseline.

    100,000 passes under noise in both hidden layers, 30 means. False alarms: 2·10⁻⁴.
    """
    net = linear_net("F20-F10-F5", 8)
    samples, output, target = errors_of_steps(net, zeroth_order(baseline, known), batch=25, steps=4000)
    slope = SQUARED.error(output[None], target, 1)[1][0, 0]
    scores = [z_scores(samples[name], slope @ jacobian) for name, jacobian in jacobians(net).items()]
    assert slope.norm() > 0.1
    assert_scores(torch.cat(scores), count=30)


def test_a_baseline_takes_variance_away() -> None:
    """An output far from its target: the loss's level is most of what is multiplied by noise."""
    net = linear_net("F20-F10-F5", 8)
    with torch.no_grad():
        net.readout.bias.add_(3.0)  # type: ignore[union-attr]
    spread = {}
    for baseline in (NoBaseline(), RunningBaseline(), OthersBaseline()):
        samples, _, _ = errors_of_steps(net, zeroth_order(baseline, LAWS["gaussian"]), batch=25, steps=400)
        spread[type(baseline).__name__] = float(samples["dense1"].var(0).sum())
    assert spread["NoBaseline"] > 3 * spread["RunningBaseline"]
    assert spread["NoBaseline"] > 3 * spread["OthersBaseline"]


def gradient_variance(net: Net, rule: AbstractSpatial, batches: int = 30) -> float:
    """Σ Var of the first layer's weight gradient over random batches, weights frozen; M learns before and on."""
    learner = Learner(net, rule=rule, optimiser=torch.optim.SGD(net.parameters(), lr=0.0), seed=3)
    found = []
    for number in range(20 + batches):
        source = torch.Generator().manual_seed(number)
        x = Held(torch.rand(16, 8, generator=source, dtype=torch.float64) * 2, 4)
        learner.learn(x, (x.value.sum(1) > 8).long())
        if number >= 20:
            assert net.all[0].weight.grad is not None
            found.append(net.all[0].weight.grad.clone())
        learner.after()
    return float(torch.stack(found).var(0).sum())


def test_order_of_variance_in_a_spiking_net() -> None:
    """Zeroth order ≫ with antithetic noise and a baseline ≫ one sample of M > M with λ = .9 > λ = .99.

    The first over the last is 740 to 860 for 40 units and 1,400 to 2,200 for 160, over four seeds.
    """
    ratio = {}
    for n in (40, 160):
        made = {
            "plain": ZerothOrder(noise=Noise(antithetic=False), baseline=NoBaseline(), scale=1.0),
            "helped": ZerothOrder(scale=1.0),
            **{f"opzo {momentum}": opzo(momentum, alpha=0.2) for momentum in (0.0, 0.9, 0.99)},
        }
        spread = {}
        for name, rule in made.items():
            net = build(f"F{n}-F{n}-F2", (8,), seed=1).double()
            assert_alive(net, Held(torch.rand(16, 8, dtype=torch.float64) * 2, 4))
            spread[name] = gradient_variance(net, rule)
        order = list(spread.values())
        assert all(a > 2 * b for a, b in itertools.pairwise(order)), spread
        ratio[n] = spread["plain"] / spread["opzo 0.99"]
    assert ratio[160] > 1.2 * ratio[40]
    assert ratio[40] > 300


def two_clusters() -> tuple[Net, Held, Tensor]:
    """One unit that has to fire in both clusters, where its spike acts on the output with opposite signs.

    Layer 1: a unit that marks cluster A, one that marks B, and the one that is to learn, which starts below threshold. Layer 2:
    a unit for each cluster, whose potential is .7 when its marker fires and 1.3 when the learner does too. The output is the
    difference of the two, so that J in A is −J in B, with a derivative that is 0 outside half a threshold.
    """
    net = build("F3-F2-F2", (2,), neuron=LIF(leak=0.0, surrogate=Rectangle(width=1.0))).double()
    hidden, gated, readout = net.all
    with torch.no_grad():
        hidden.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.8, 0.8]]))
        gated.weight.copy_(torch.tensor([[1.2, 0.0, 0.6], [0.0, 1.2, 0.6]]))
        gated.bias.fill_(-0.5)  # type: ignore[union-attr]
        readout.weight.copy_(torch.tensor([[2.0, -2.0], [-2.0, 2.0]]))
    target = torch.arange(2).repeat(16)
    return net, Held(torch.eye(2, dtype=torch.float64).repeat(16, 1), 2), target


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_mean_jacobian_fails_where_jacobians_cancel_and_backpropagation_learns(seed: int) -> None:
    """J in one cluster is −J in the other, so E[J] = 0 and there is nothing to send the error through: the bias of the rule.

    Only the learner's weights are trained. Backpropagation solves the task. Pseudo-zeroth order, on the same data, moves them
    by what is left of the noise in M, and gets at most one of the clusters right by accident (a loss of ln 2/2 = .35);
    so it was for all of 19 seeds.
    """
    reached = {}
    for name, rule in {"bp": Symmetric(), "opzo": opzo(0.99, alpha=0.3)}.items():
        net, x, target = two_clusters()
        learner = Learner(
            net,
            rule=rule,
            temporal=Trace(),
            loss=StepwiseLoss(mse_share=0.0),
            optimiser=torch.optim.SGD([net.all[0].weight], lr=0.05),
            seed=seed,
        )
        for _ in range(200):
            learner.learn(x, target)
            net.all[0].weight.grad[:2] = 0.0  # type: ignore[index]
            learner.optimiser.step()
            learner.after()
            net.zero_grad(set_to_none=True)
        output = net.predict(x)[0]
        reached[name] = float(torch.nn.functional.cross_entropy(output, target))
        if name == "opzo":
            weights = rule.tensors["dense1"]
            assert weights[:, :2].norm() > 5 * weights[:, 2].norm(), "it did learn what there is to learn"
    assert reached["bp"] < 0.05
    assert reached["opzo"] > 0.3
