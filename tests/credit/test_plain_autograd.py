"""Backpropagation through the slots against a net anybody would write: a loop over time and plain autograd."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers import (
    DENSE,
    SURROGATES,
    Case,
    assert_alive,
    attach,
    close,
    each_case,
    gradients,
    learnt,
    plain_autograd,
    plain_outputs,
)

from aplysia.credit.loss import MeanOutputLoss, StepwiseLoss
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.credit.temporal.traceless import Traceless
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.scan import HardReset, SoftReset


@each_case
@pytest.mark.parametrize("truncation", [None, 3])
def test_through_time_equals_plain_autograd(case: Case, truncation: int | None) -> None:
    net, (x, target) = case.net(), case.input()
    assert_alive(net, x)
    loss, scheme = StepwiseLoss(mse_share=0.3), ThroughTime(truncation=truncation)
    got = learnt(net, attach("Symmetric", net), scheme, x, target, loss)
    close(got, plain_autograd(net, x, target, loss, truncation=truncation))


@pytest.mark.parametrize("surrogate", SURROGATES.values(), ids=list(SURROGATES))
@pytest.mark.parametrize("reset", [SoftReset(), SoftReset(amount=0.4), HardReset(), HardReset(value=-0.2)], ids=repr)
@pytest.mark.parametrize("detached", [True, False])
def test_every_surrogate_and_reset_equals_plain_autograd(surrogate: object, reset: object, detached: bool) -> None:
    neuron = LIF(leak=0.8, threshold=0.9, surrogate=surrogate, reset=reset, detach_reset=detached)  # type: ignore[arg-type]
    case = dataclasses.replace(DENSE, neuron=neuron)
    net, (x, target) = case.net(), case.input(steps=11)  # more than one block of the scan
    assert_alive(net, x)
    loss = StepwiseLoss()
    close(learnt(net, attach("Symmetric", net), ThroughTime(), x, target, loss), plain_autograd(net, x, target, loss))


def test_a_net_without_a_route_is_differentiable_like_any_module() -> None:
    net, (x, target) = DENSE.net(), DENSE.input()
    assert_alive(net, x)
    loss = MeanOutputLoss()
    value = torch.nn.functional.cross_entropy(net(x).outs[-1].mean(0), target)
    value.backward()
    close(gradients(net), plain_autograd(net, x, target, loss))


@each_case
def test_predict_is_the_mean_of_the_plain_outputs(case: Case) -> None:
    net, (x, _) = case.net(), case.input(steps=11)
    assert_alive(net, x)
    outs, _ = plain_outputs(net, x)
    for chunk in (1, 4, 8, 11):
        mean, _ = net.predict(x, chunk=chunk)
        torch.testing.assert_close(mean, torch.stack(outs).mean(0).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("readout", [Integrator(), Integrator(leak=0.7)], ids=["no memory", "leaky"])
def test_without_a_leak_trace_and_traceless_are_exact(readout: Integrator) -> None:
    """With λ = 0 nothing is remembered, so an online scheme loses nothing; a readout's own memory is exact with a trace."""
    case = dataclasses.replace(DENSE, neuron=dataclasses.replace(DENSE.neuron, leak=0.0), readout=readout, weights=2.2)
    net, (x, target) = case.net(), case.input()
    assert_alive(net, x)
    rule, loss = attach("Symmetric", net), StepwiseLoss()
    exact = plain_autograd(net, x, target, loss)
    trace, traceless = learnt(net, rule, Trace(), x, target, loss), learnt(net, rule, Traceless(), x, target, loss)
    if readout.leak == 0.0:
        close(learnt(net, rule, ThroughTime(), x, target, loss), exact)
        close(trace, exact)
        close(traceless, exact)
    else:
        weight = "readout.weight"
        close({weight: trace[weight]}, {weight: exact[weight]})
        assert not torch.allclose(traceless[weight], exact[weight], rtol=1e-3)


def test_with_a_leak_the_three_schemes_differ() -> None:
    net, (x, target) = DENSE.net(), DENSE.input()
    assert_alive(net, x)
    rule, loss = attach("Symmetric", net), StepwiseLoss()
    made = [
        learnt(net, rule, scheme, x, target, loss)["dense1.weight"] for scheme in (ThroughTime(), Trace(), Traceless())
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (made[a] - made[b]).abs().max() > 1e-2 * made[a].abs().max()


@each_case
def test_one_step_of_a_trace_is_backpropagation(case: Case) -> None:
    net, (x, target) = dataclasses.replace(case, weights=1.6 * case.weights).net(), case.input(steps=1)
    if case.standardise or case.neuron.leak > 0.7:
        x = x._replace(value=2 * x.value) if isinstance(x, tuple) else 2 * x
    assert_alive(net, x)
    rule, loss = attach("Symmetric", net), StepwiseLoss()
    exact = plain_autograd(net, x, target, loss)
    close(learnt(net, rule, Trace(), x, target, loss), exact)
    close(learnt(net, rule, Traceless(), x, target, loss), exact)
