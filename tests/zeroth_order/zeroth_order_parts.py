"""What the tests of zeroth-order training share: nets whose Jacobian is known, one pass under noise, z-scores.

Statistical tests have fixed seeds, so they never fail by chance; the rate each one states is how often it would fail under
another seed. |z| > 4.5 has the odds 7·10⁻⁶ for a normal number, so k of them are all below with odds of 1 − 7k·10⁻⁶.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers import perturb
from torch import Tensor

from aplysia.credit.contract import AbstractSeeded, Seen
from aplysia.credit.learned_feedback import EveryStep, MomentumFeedback, Random
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.nets.net import Input, Net, steps_of
from aplysia.nets.noise import AbstractLaw, Gaussian, Noise, Rademacher, Sphere
from aplysia.nets.route import Route
from aplysia.nets.zoo import build
from aplysia.neurons.integrator import Integrator
from aplysia.types import Held

LIMIT = 4.5


@dataclass(frozen=True)
class Moments:
    """A law and what is known of it, for n units.

    Attributes:
        law: of z.
        mixed: E z_i²·z_k², i ≠ k.
        fourth: E z_i⁴.
        eighth: E z_i⁸.
    """

    law: AbstractLaw
    mixed: Callable[[int], float]
    fourth: Callable[[int], float]
    eighth: Callable[[int], float]


LAWS = {
    "gaussian": Moments(Gaussian(), lambda n: 1.0, lambda n: 3.0, lambda n: 105.0),
    "rademacher": Moments(Rademacher(), lambda n: 1.0, lambda n: 1.0, lambda n: 1.0),
    "sphere": Moments(
        Sphere(),
        lambda n: n / (n + 2),
        lambda n: 3 * n / (n + 2),
        lambda n: 105 * n**3 / ((n + 2) * (n + 4) * (n + 6)),
    ),
}
each_law = pytest.mark.parametrize("known", list(LAWS.values()), ids=list(LAWS))


def linear_net(text: str, inputs: int, seed: int = 3) -> Net:
    """A net without spikes or memory: its outputs are a linear map of each layer's activity."""
    net = build(text, (inputs,), neuron=Integrator(), seed=seed).double()
    perturb(net, 1.0, seed)
    return net


def jacobians(net: Net) -> dict[str, Tensor]:
    """∂(output)/∂(activity) of each hidden layer of a linear net, `[m, n]`."""
    made, above = {}, torch.eye(net.classes, dtype=torch.float64)
    for layer, below in zip(reversed(net.all), reversed(net.hidden), strict=False):
        above = above @ layer.weight.detach()
        made[below.name] = above
    return made


def opzo(momentum: float = 0.0, *, feedback: dict[str, Any] | None = None, **noise: Any) -> PseudoZerothOrder:
    """The rule with M updated at every step."""
    settings = {"update": EveryStep(), "momentum": momentum} | (feedback or {})
    return PseudoZerothOrder(noise=Noise(**noise), feedback=MomentumFeedback(**settings))


def fixed_feedback(scale: float = 0.2) -> MomentumFeedback:
    """A random M that never learns."""
    return MomentumFeedback(start=Random(scale=scale), update=EveryStep(), freeze_after=0)


def same_input(inputs: int, steps: int, batch: int, seed: int = 0) -> Held:
    """One sample, given to the whole batch at all steps."""
    value = torch.rand(inputs, generator=torch.Generator().manual_seed(100 + seed), dtype=torch.float64)
    return Held(value.expand(batch, inputs).clone(), steps)


def looked_at(net: Net, rule: AbstractSeeded, x: Input, error: Tensor, *, step: int = 0) -> Seen:
    """One pass of a whole sequence under the rule's noise, and what the rule sees of it with this output error."""
    if not rule.tensors:
        rule.attach(net, seed=9)
    rule.begin(step)
    batch = len(x.value) if isinstance(x, Held) else x.shape[1]
    done = net(x, None, Route(cut=True, noise=rule.noise_source, slopes=rule.slopes))
    target = torch.zeros(batch, dtype=torch.int64)
    seen = Seen(done, error, target, StepwiseLoss(), steps_of(x), 0, rule.noise_source)
    with torch.no_grad():
        rule.observe(net, seen)
    return seen


def feedback_over_time(net: Net, rule: PseudoZerothOrder, x: Input, *, step: int = 0) -> dict[str, Tensor]:
    """M as the rule uses it at each step, `[K, m, n]` per layer: the errors it makes of m unit errors."""
    error = torch.eye(net.classes, dtype=torch.float64).expand(steps_of(x), -1, -1)
    seen = looked_at(net, rule, x, error, step=step)
    made = {}
    for layer, out in zip(net.hidden, seen.outs, strict=False):
        found = rule.seed_error(layer, out.detach(), error)
        assert found is not None
        made[layer.name] = found.flatten(2)
    return made


def z_scores(samples: Tensor, mean: Tensor | float, variance: Tensor | float | None = None) -> Tensor:
    """How many standard errors the mean over the first axis is from where it should be; variance of one sample."""
    spread = samples.var(0) if variance is None else torch.as_tensor(variance)
    return (samples.mean(0) - mean) / (spread / len(samples)).sqrt()


def assert_scores(scores: Tensor, *, count: int) -> None:
    """None of the expected number of scores is beyond the limit."""
    assert scores.numel() == count
    assert torch.isfinite(scores).all()
    assert scores.abs().max() < LIMIT, f"|z| = {float(scores.abs().max()):.2f}"
