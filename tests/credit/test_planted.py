"""Errors planted at the currents, behind the neurons, are those that go in at the outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from helpers import ALL_SCHEMES, RULES, SURROGATES, assert_alive, assert_rate, close, gradients, normal, ripen
from response_settings import NETS, SETTINGS, made
from torch import Tensor

from aplysia.credit.contract import AbstractSeeded
from aplysia.credit.local import NoLocal
from aplysia.credit.loss import StepwiseLoss
from aplysia.nets import layer as layers
from aplysia.nets.zoo import build
from aplysia.neurons.base import AbstractStepped, State
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.scan import AbstractReset, HardReset, SoftReset
from aplysia.ops.surrogate import AbstractSurrogate

STEPS = 5  # odd, so that a pair of steps is cut


def gradients_of(setting: str, net_name: str, chunk: int) -> dict[str, Tensor]:
    """Of two batches, with dropout; weights stay."""
    case = NETS[net_name]
    net = case.net()
    for layer in net.hidden:
        layer.dropout = 0.3
    assert_alive(net, case.input(STEPS)[0])
    rule = made(setting, net_name)
    rule.attach(net, seed=5)
    scheme, source = ALL_SCHEMES["Trace-AfterSequence"](chunk=chunk), torch.Generator().manual_seed(4)
    for step in range(2):
        rule.begin(step)
        x, target = case.input(STEPS, seed=step)
        scheme.learn(net, x, target, StepwiseLoss(), rule, generator=source, apply=lambda: None)
    return gradients(net, rule)


def seeded(setting: str) -> bool:
    kind, settings = SETTINGS[setting]
    return isinstance(RULES[kind](), AbstractSeeded) and isinstance(settings.get("local", NoLocal()), NoLocal)


@pytest.mark.parametrize("net_name", list(NETS))
@pytest.mark.parametrize("setting", [s for s in SETTINGS if seeded(s)])
def test_they_are_those_at_the_outputs(setting: str, net_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    roots: list[Any] = []

    def root(*of: Any) -> layers.Root:
        roots.append(of)
        return planted(*of)

    planted = layers.Root
    monkeypatch.setattr(layers, "Root", root)
    got = gradients_of(setting, net_name, 2)
    # Two batches of three chunks, and two hidden layers.
    assert len(roots) == 12
    monkeypatch.setattr(AbstractSeeded, "plants", False)
    close(got, gradients_of(setting, net_name, 2))
    assert len(roots) == 12


def test_where_errors_pass_through_states_they_go_in_at_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "Root", lambda *_: pytest.fail("planted behind the neurons"))
    case = NETS["dense"]
    net, (x, target) = case.net(), case.input(STEPS)
    rule = RULES["DirectFeedback"]()
    rule.attach(net, seed=5)
    ALL_SCHEMES["ThroughTime"]().learn(net, x, target, StepwiseLoss(), rule)
    assert len(gradients(net)) == 6


@pytest.mark.parametrize("reset", [SoftReset(amount=0.3), HardReset(value=-0.4)], ids=repr)
@pytest.mark.parametrize("surrogate", list(SURROGATES.values()), ids=list(SURROGATES))
def test_slopes_of_lif_neurons_are_those_of_autograd(surrogate: AbstractSurrogate, reset: AbstractReset) -> None:
    neuron = LIF(leak=0.7, threshold=0.8, surrogate=surrogate, reset=reset, detach_reset=False)
    currents, v = normal(11, 5, 4).double() + 0.5, normal(5, 4, seed=1).double()
    spikes, (after,), slopes, _ = neuron.scan_sloped(currents, (v,))
    assert_rate(spikes)
    want, (want_after,), want_slopes, _ = AbstractStepped.scan_sloped(neuron, currents, (v,))
    assert torch.equal(spikes, want)
    assert torch.equal(after, want_after)
    assert torch.equal(slopes, want_slopes)
    begun, written = neuron.scan_sloped(currents, None), neuron.scan_sloped(currents, neuron.init(currents[0]))
    assert torch.equal(begun.out, written.out)
    assert torch.equal(begun.slopes, written.slopes)
    assert torch.equal(begun.state[0], written.state[0])
    assert not any(t.requires_grad for t in (spikes, after, slopes, want, want_after, want_slopes))


@pytest.mark.parametrize("leak", [0.0, 0.7])
def test_slopes_of_a_neuron_without_a_form_of_its_own(leak: float) -> None:
    neuron, currents = Integrator(leak=leak), normal(4, 3, 2)
    out, _, slopes, fired = neuron.scan_sloped(currents.requires_grad_(), neuron.init(currents[0]))
    assert torch.equal(out, neuron.scan(currents, neuron.init(currents[0]), through_time=False)[0])
    assert torch.equal(slopes, torch.ones(4, 3, 2))
    assert fired is None
    slopes.zero_()
    assert bool((out != 0).all()), "slopes are the caller's to write to"


@dataclass(frozen=True)
class Inhibited(AbstractStepped):
    """Units that hold each other back within a step, so that no slope of theirs says what one does to another."""

    spiking: ClassVar[bool] = False
    summary: ClassVar[str] = ""
    decay: ClassVar[float] = 0.0  # type: ignore[misc]

    def init(self, current: Tensor) -> State:
        return ()

    def scan(self, currents: Tensor, state: State, *, through_time: bool) -> tuple[Tensor, State]:
        return torch.tanh(currents - currents.mean(-1, keepdim=True)), ()


def test_what_is_not_pointwise_gets_its_error_at_the_output() -> None:
    net = build("F14-F4", (10,), neuron=Inhibited())
    rule, x, target = RULES["DirectFeedback"](), normal(3, 5, 10), torch.arange(5) % 4
    rule.attach(net, seed=5)
    ALL_SCHEMES["Trace-AfterSequence"]().learn(net, x, target, StepwiseLoss(), rule)
    weight = net.hidden[0].weight.detach().clone().requires_grad_()
    out = Inhibited().scan(x @ weight.t(), (), through_time=False)[0]
    error = StepwiseLoss().error(out.detach() @ net.readout.weight.detach().t(), target, 3)[1]
    (want,) = torch.autograd.grad(out, weight, error @ rule.tensors[net.hidden[0].name])
    torch.testing.assert_close(net.hidden[0].weight.grad, want)


@pytest.mark.parametrize("rule_name", ["DirectFeedback", "PseudoZerothOrder", "LocalLoss", "ForwardGradient"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_frozen_layer_learns_nothing_and_the_others_as_ever(rule_name: str, place: int) -> None:
    found = []
    for held in (False, True):
        case = NETS["dense"]
        net, (x, target) = case.net(), case.input(STEPS)
        assert_alive(net, x)
        for parameter in net.all[place].parameters():
            parameter.requires_grad_(not held)
        rule = RULES[rule_name]()
        rule.attach(net, seed=5)
        ripen(rule)
        ALL_SCHEMES["Trace-AfterSequence"](chunk=2).learn(net, x, target, StepwiseLoss(), rule)
        found.append(gradients(net))
    name = net.all[place].name
    free, frozen = found
    assert not any(key.startswith(f"{name}.") for key in frozen)
    close(frozen, {key: gradient for key, gradient in free.items() if not key.startswith(f"{name}.")})
