"""Residual nets under every scheme and kind of rule against the same net in plain torch."""

from __future__ import annotations

import pytest
import torch
from helpers import RULES, assert_alive, close, gradients
from residual_parts import NEURON, SCHEMES, STEM, TEXT, Plain, batch, residual
from torch import Tensor

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.loss import StepwiseLoss
from aplysia.nets.net import Input, Net, steps_of
from aplysia.neurons.lif import LIF
from aplysia.ops.surrogate import Arctan

each_scheme = pytest.mark.parametrize("scheme", list(SCHEMES))
each_input = pytest.mark.parametrize("held", [False, True], ids=["steps", "held"])

CHAINED = ["FeedbackAlignment", "FrozenBackprop", "CopyOnce", "SignSymmetric-UniformMagnitude", "WeightMirror"]


def rule_on(name: str, net: Net) -> AbstractSpatial:
    rule = RULES[name]()
    rule.attach(net, seed=5)
    return rule


def learnt(
    net: Net, rule: AbstractSpatial, scheme: str, x: Input, target: Tensor, **settings: int
) -> dict[str, Tensor]:
    net.zero_grad(set_to_none=True)
    SCHEMES[scheme](**settings).learn(net, x, target, StepwiseLoss(mse_share=0.3), rule)
    return gradients(net)


@pytest.mark.parametrize("text", [TEXT, STEM])
@each_input
def test_outputs_are_those_of_the_plain_net(text: str, held: bool) -> None:
    net, (x, _) = residual(text), batch(held=held)
    assert_alive(net, x)
    plain = Plain(net, "through_time")
    with torch.no_grad():
        want = [plain.step(x.value if held else x[t]) for t in range(steps_of(x))]  # type: ignore[union-attr,index]
        torch.testing.assert_close(net(x).outs[-1], torch.stack(want), rtol=1e-12, atol=1e-12)
    shortcuts = [layer.shortcut for layer in net.all if layer.shortcut is not None]
    assert all(abs(float(shortcut.scale.detach())) > 0.2 for shortcut in shortcuts), (
        "branches that do not count show nothing"
    )


@pytest.mark.parametrize("text", [TEXT, STEM])
@each_input
@each_scheme
def test_backpropagation_is_exact_skip_gains_included(text: str, held: bool, scheme: str) -> None:
    net, (x, target) = residual(text), batch(held=held)
    assert_alive(net, x)
    want = Plain(net, scheme).gradients(x, target)
    assert any(name.endswith("shortcut.gain") for name in want)
    close(learnt(net, rule_on("Symmetric", net), scheme, x, target), want)


@each_scheme
def test_another_neuron_is_exact_too(scheme: str) -> None:
    net, (x, target) = residual(neuron=LIF(leak=0.9, surrogate=Arctan(alpha=1.5))), batch()
    assert_alive(net, x)
    close(learnt(net, rule_on("Symmetric", net), scheme, x, target), Plain(net, scheme).gradients(x, target))


@each_scheme
@pytest.mark.parametrize("rule_name", CHAINED)
def test_errors_go_down_the_branch_by_the_feedback_and_along_the_shortcut_unchanged(
    rule_name: str, scheme: str
) -> None:
    net, (x, target) = residual(), batch(held=True)
    rule = rule_on(rule_name, net)
    with torch.no_grad():  # so that copies are old
        for layer in net.synapses:
            layer.weight.add_(0.3 * layer.weight.std() * torch.randn_like(layer.weight))
    assert_alive(net, x)
    down = {layer.name: rule.slot(layer, layer.effective_weight().detach()) for layer in net.fed_back}
    assert all(tensor is not None and tensor.abs().max() > 1e-3 for tensor in down.values())
    want = Plain(net, scheme, feedback=down).gradients(x, target)  # type: ignore[arg-type]
    got = learnt(net, rule, scheme, x, target)
    close(got, want)
    exact = Plain(net, scheme).gradients(x, target)
    assert (got["conv1.weight"] - exact["conv1.weight"]).abs().max() > 1e-2 * exact["conv1.weight"].abs().max()


@each_scheme
def test_direct_errors_stay_in_their_layer_with_both_its_synapses(scheme: str) -> None:
    net, (x, target) = residual(), batch()
    assert_alive(net, x)
    rule = rule_on("DirectFeedback", net)
    direct = {layer.name: rule.tensors[layer.name] for layer in net.hidden}
    want = Plain(net, scheme, direct=direct).gradients(x, target)
    assert "block3b.shortcut.projection.weight" in want
    close(learnt(net, rule, scheme, x, target), want)


@each_scheme
@each_input
@pytest.mark.parametrize(
    "rule_name", ["Symmetric", "FeedbackAlignment", "DirectFeedback", "PseudoZerothOrder", "LocalLoss"]
)
def test_chunks_of_1_2_and_all_steps_give_the_same(scheme: str, held: bool, rule_name: str) -> None:
    net, (x, _) = residual(), batch(5, held=held)
    assert_alive(net, x)
    made = []
    for chunk in (1, 2, 5):
        rule = rule_on(rule_name, net)
        for step in range(2):  # what is learnt of feedback comes into force in the second batch
            rule.begin(step)
            made.append(learnt(net, rule, scheme, *batch(5, held=held, seed=step), chunk=chunk))
    for got in made[3::2]:
        close(got, made[1])


def test_one_step_of_a_trace_is_backpropagation() -> None:
    net, (x, target) = residual(), batch(1)
    assert_alive(net, 2 * x)
    rule = rule_on("Symmetric", net)
    close(learnt(net, rule, "trace", 2 * x, target), learnt(net, rule, "through_time", 2 * x, target))


def test_a_truncated_window_equals_its_parts() -> None:
    """Nothing but membranes passes from window to window: shortcuts remember nothing."""
    net, (x, target) = residual(neuron=NEURON), batch(6)
    assert_alive(net, x)
    rule = rule_on("Symmetric", net)
    whole = learnt(net, rule, "through_time", x, target, truncation=3)
    again = learnt(net, rule, "through_time", x, target, truncation=3, chunk=2)
    close(again, whole)
    untruncated = learnt(net, rule, "through_time", x, target)
    assert (untruncated["conv1.weight"] - whole["conv1.weight"]).abs().max() > 1e-3 * whole["conv1.weight"].abs().max()


@pytest.mark.parametrize("wrong", ["alpha", "beta", "source", "order of time"])
def test_the_plain_net_can_fail(wrong: str) -> None:
    net, (x, target) = residual(), batch()
    rule = rule_on("Symmetric", net)
    want = Plain(net, "through_time").gradients(x, target)
    by_name = {layer.name: layer for layer in net.all}
    shortcut = by_name["block4b"].shortcut
    assert shortcut is not None
    if wrong == "beta":
        shortcut.beta *= 1.0 + 1e-6
    elif wrong == "alpha":
        shortcut.alpha *= 1.0 + 1e-6
    elif wrong == "source":
        shortcut.source, by_name["block4a"].carried = "block4a", True
    else:
        x = x.flip(0)  # type: ignore[union-attr]
    with pytest.raises(AssertionError):
        close(learnt(net, rule, "through_time", x, target), want)
