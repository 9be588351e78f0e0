"""What the rules become at the ends of their settings: a clean pass, direct feedback, backpropagation, one step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import CASES, DENSE, Case, assert_alive, close, each_case, gradients, plain_autograd
from torch import Tensor
from zeroth_order_parts import fixed_feedback, opzo

from aplysia.credit.contract import AbstractSpatial, AbstractTemporal
from aplysia.credit.learned_feedback import MomentumFeedback
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.spatial.direct_kolen_pollack import DirectKolenPollack
from aplysia.credit.spatial.forward_gradient import ForwardGradient
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.spatial.zeroth_order import ZerothOrder
from aplysia.credit.temporal.online import EveryStep
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.credit.temporal.traceless import Traceless
from aplysia.nets.net import Input, Net, steps_of
from aplysia.nets.noise import Comparator, Membrane, Noise
from aplysia.nets.zoo import build
from aplysia.neurons.lif import LIF
from aplysia.train.learner import Learner

LOSS = StepwiseLoss(mse_share=0.3)
FAMILY: dict[str, Callable[[], AbstractSpatial]] = {
    "opzo": lambda: opzo(0.9, alpha=0.2),
    "opzo by sequence": PseudoZerothOrder,
    "zeroth order": ZerothOrder,
    "forward gradient": ForwardGradient,
    "direct kolen-pollack": lambda: DirectKolenPollack(noise=Noise(alpha=0.2)),
}
each_of_family = pytest.mark.parametrize("make", list(FAMILY.values()), ids=list(FAMILY))
each_scheme = pytest.mark.parametrize(
    "scheme", [Trace(chunk=3), Traceless(), ThroughTime()], ids=["trace", "traceless", "time"]
)


def run(case: Case, rule: AbstractSpatial, scheme: AbstractTemporal, *, batches: int = 3) -> tuple[Net, list[Tensor]]:
    """Some batches of training; the net afterwards, and the outputs on the way."""
    net = case.net()
    learner = Learner(
        net, rule=rule, temporal=scheme, loss=LOSS, optimiser=torch.optim.SGD(net.parameters(), lr=0.05), seed=2
    )
    outputs = []
    for number in range(batches):
        x, target = case.input(seed=number)
        assert_alive(net, x)
        outputs.append(learner.update(x, target).logits)
    return net, outputs


def one_batch(net: Net, rule: AbstractSpatial, scheme: AbstractTemporal, x: Input, target: Tensor) -> dict[str, Tensor]:
    """Gradients of a batch, summed where the scheme would apply them inside; the rule remembers what it learns."""
    net.zero_grad(set_to_none=True)
    scheme.learn(net, x, target, LOSS, rule, apply=lambda: None)
    return gradients(net)


def equal(one: tuple[Net, list[Tensor]], other: tuple[Net, list[Tensor]]) -> bool:
    """Bit for bit: outputs on the way and parameters at the end."""
    pairs = [*zip(one[1], other[1], strict=True), *zip(one[0].parameters(), other[0].parameters(), strict=True)]
    return all(torch.equal(a, b) for a, b in pairs)


@each_case
def test_without_noise_the_pass_is_the_clean_one(case: Case) -> None:
    """α = 0: outputs, spikes and states of backpropagation's pass, bit for bit; M stays zero, hidden layers as they are."""
    x, target = case.input()
    made = []
    for rule in (opzo(0.9, alpha=0.0), Symmetric()):
        net = case.net()
        assert_alive(net, x)
        rule.attach(net, seed=1)
        record = Trace().learn(net, x, target, LOSS, rule)
        made.append((record, gradients(net)))
        if isinstance(rule, PseudoZerothOrder):
            assert not any(rule.tensors[layer.name].any() for layer in net.hidden)
            assert all(not made[0][1][f"{layer.name}.weight"].any() for layer in net.hidden)
    (zero, own), (clean, reference) = made
    assert torch.equal(zero.logits, clean.logits)
    assert torch.equal(zero.spikes, clean.spikes)
    assert torch.equal(zero.loss, clean.loss)
    assert torch.equal(own["readout.weight"], reference["readout.weight"])


@each_case
@each_scheme
def test_a_fixed_random_feedback_is_direct_feedback(case: Case, scheme: AbstractTemporal) -> None:
    """M drawn as B is and never learnt: three training steps bit for bit, without noise and with the same noise in both."""
    for noise in (Noise(alpha=0.0), Noise(alpha=0.2)):
        mine = run(case, PseudoZerothOrder(noise=noise, feedback=fixed_feedback(scale=0.5)), scheme)
        theirs = run(case, DirectFeedback(noise=noise, scale=0.5), scheme)
        assert equal(mine, theirs)
        assert not equal(mine, run(case, DirectFeedback(noise=noise, scale=0.4), scheme))


@pytest.mark.parametrize("noise", [Noise(alpha=0.0), Noise(alpha=0.2), Noise(alpha=0.2, site=Membrane())])
def test_with_the_readouts_weights_the_last_hidden_layer_gets_backpropagations_error(noise: Noise) -> None:
    """M = W_o and a readout without memory: the update of the last hidden layer is backpropagation's under the same noise."""
    case = CASES["dense, soft, detached"]
    x, target = case.input()
    made = []
    for rule in (PseudoZerothOrder(noise=noise, feedback=fixed_feedback()), Symmetric(noise=noise)):
        net = case.net()
        assert_alive(net, x)
        rule.attach(net, seed=1)
        if isinstance(rule, PseudoZerothOrder):
            rule.load_tensors(rule.tensors | {"dense2": net.readout.weight.detach()})
        made.append(one_batch(net, rule, Trace(), x, target))
    for name in ("dense2.weight", "dense2.bias", "readout.weight", "readout.bias"):
        assert made[1][name].abs().max() > 1e-4
        torch.testing.assert_close(made[0][name], made[1][name], rtol=1e-12, atol=1e-15)
    assert not torch.allclose(made[0]["dense1.weight"], made[1]["dense1.weight"])


@each_of_family
def test_without_a_leak_traces_are_spikes_and_time_is_cut_anyway(make: Callable[[], AbstractSpatial]) -> None:
    """λ = 0: eligibility traces, none, and gradients through time make the same steps, bit for bit, under noise too."""
    case = Case("F14-F12-F4", (10,), LIF(leak=0.0), weights=2.0)
    traced = run(case, make(), Trace())
    assert equal(traced, run(case, make(), Traceless()))
    assert equal(traced, run(case, make(), ThroughTime()))
    remembering = Case("F14-F12-F4", (10,), LIF(leak=0.5), weights=2.0)
    assert not equal(run(remembering, make(), Trace()), run(remembering, make(), Traceless()))


@pytest.mark.parametrize("site", [Membrane(), Comparator()], ids=["membrane", "comparator"])
def test_one_step_under_noise_is_plain_autograd(site: Membrane | Comparator) -> None:
    """T = 1 and backpropagation: noise on a potential is a bias of that sample, and autograd of the net as anybody writes it
    gives the same gradients for a batch of one."""
    case = Case("F14-F4", (10,), LIF(leak=0.5), weights=2.0)
    for number in range(3):
        net = case.net()
        x, target = case.input(1, 1, seed=number)
        assert_alive(net, x)
        rule = Symmetric(noise=Noise(alpha=0.4, site=site))
        rule.attach(net, seed=number)
        source = rule.noise_source
        assert source is not None
        got = one_batch(net, rule, Trace(), x, target)
        shift = 0.4 * source.draw("dense1", 0, 1, torch.zeros(1, 14, dtype=torch.float64))[0, 0]
        with torch.no_grad():
            net.all[0].bias.add_(shift)  # type: ignore[union-attr]
        close(got, plain_autograd(net, x, target, LOSS))


@each_of_family
@pytest.mark.parametrize("kind", [Trace, Traceless])
def test_gradients_of_a_sequence_are_the_sum_of_those_of_its_steps(
    make: Callable[[], AbstractSpatial], kind: type[Trace] | type[Traceless]
) -> None:
    """One backward pass over a chunk is all steps one by one, in order: nothing runs back in time, and M at each step is that
    of the step. Up to the order of summation."""
    x, target = DENSE.input()
    made = []
    for scheme in (kind(), kind(update=EveryStep()), kind(chunk=1)):
        net = DENSE.net()
        assert_alive(net, x)
        rule = make()
        rule.attach(net, seed=1)
        for step in (0, 1):
            rule.begin(step)
            found = one_batch(net, rule, scheme, x, target)
        made.append(found)
    close(made[1], made[0])
    close(made[2], made[0])
    assert steps_of(x) == 7


def test_feedback_of_momentum_zero_by_sequence_is_that_of_the_sequence_before() -> None:
    """λ = 0 and one update a sequence: what was gathered over T steps is M in the next sequence, then forgotten."""
    net = build("F14-F4", (10,), neuron=LIF(leak=0.5)).double()
    rule = PseudoZerothOrder(noise=Noise(alpha=0.2), feedback=MomentumFeedback(momentum=0.0))
    rule.attach(net, seed=1)
    gathered = []
    for step in range(3):
        x, target = DENSE.input(seed=step)
        rule.begin(step)
        Trace(chunk=3).learn(net, x, target, LOSS, rule)
        if step:
            torch.testing.assert_close(rule.tensors["dense1"], gathered[-1], rtol=1e-12, atol=0.0)
        gathered.append(rule.tensors["pending/dense1"].clone())
    assert not torch.allclose(gathered[0], gathered[1])
