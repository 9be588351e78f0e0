"""Centred weights: Ŵ = W − mean over each unit's inputs, a linear map that every rule meets as it meets the weight."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
import torch.nn.functional as F
from helpers import DENSE, Trainer, assert_alive

from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.credit.spatial.frozen import FrozenBackprop
from aplysia.credit.spatial.kolen_pollack import KolenPollack
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.trace import Trace
from aplysia.errors import RecipeError
from aplysia.nets.net import Net
from aplysia.nets.zoo import build
from aplysia.recipes import find
from aplysia.train.codec import override
from aplysia.train.recipe import AXES


def made(centre: bool = True) -> Net:
    case = dataclasses.replace(DENSE, text="F14-F12-F10-F4")
    net = build(case.text, case.input_shape, neuron=case.neuron, centre=centre, seed=3).double()
    with torch.no_grad():
        for layer in net.hidden:
            layer.weight.mul_(2.0).add_(0.1)
            assert layer.bias is not None
            layer.bias.add_(0.3)
    return net


def test_forward_and_gradients_are_those_of_weights_less_their_mean() -> None:
    """Against plain autograd through the subtraction, on a net of the same numbers."""
    net, other = made(), made(centre=False)
    x, target = DENSE.input(steps=4)
    assert_alive(net, x)
    leaves = [layer.weight.detach().clone().requires_grad_() for layer in net.all]
    with torch.no_grad():
        for layer, leaf in zip(other.hidden, leaves, strict=False):
            layer.weight.copy_(leaf - leaf.mean(1, keepdim=True))
    loss = StepwiseLoss()
    Trace().learn(net, x, target, loss, attached(Symmetric(), net))
    Trace().learn(other, x, target, loss, attached(Symmetric(), other))
    for layer, plain, leaf in zip(net.hidden, other.hidden, leaves, strict=False):
        (want,) = torch.autograd.grad(leaf - leaf.mean(1, keepdim=True), leaf, plain.weight.grad)
        torch.testing.assert_close(layer.weight.grad, want, rtol=1e-10, atol=1e-12)
        assert layer.weight.grad is not None
        assert float(layer.weight.grad.sum(1).abs().max()) < 1e-12
    assert torch.equal(net.readout.effective_weight(), net.readout.weight)


def test_a_convolution_is_centred_over_all_its_taps() -> None:
    net = build("3C3-F4", (2, 6, 6), centre=True).double()
    layer, x = net.all[0], torch.rand(5, 2, 6, 6, dtype=torch.float64)
    mean = layer.weight.flatten(1).mean(1).view(-1, 1, 1, 1)
    assert torch.equal(layer.effective_weight(), layer.weight - mean)
    assert float(mean.detach().abs().max()) > 0.01
    interior = F.conv2d(torch.ones_like(x), layer.effective_weight())
    assert float(interior.detach().abs().max()) < 1e-12


def attached(rule, net):  # type: ignore[no-untyped-def]
    rule.attach(net, seed=5)
    return rule


def test_random_feedback_is_centred_too_and_a_copy_is_of_what_acts() -> None:
    for rule in (FeedbackAlignment(), FrozenBackprop(), KolenPollack()):
        net = made()
        attached(rule, net)
        for layer in net.fed_back[:-1]:
            assert float(rule.tensors[layer.name].sum(1).abs().max()) < 1e-5


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_kolen_pollack_feedback_becomes_the_weight_that_acts(optimiser: str) -> None:
    """W − B ← (1 − κ)·(W − B) with both sides centred, whatever the optimiser makes of the gradients."""
    net = made()
    rule = attached(KolenPollack(decay=2.0), net)
    trainer = Trainer(net, rule, Trace(), lr=0.05)
    if optimiser == "adam":
        trainer.optimiser = torch.optim.Adam(net.parameters(), lr=0.05)
    gaps = []
    for step in range(3):
        x, target = DENSE.input(steps=4, seed=step)
        assert_alive(net, x)
        with torch.no_grad():
            gaps.append([layer.effective_weight() - rule.tensors[layer.name] for layer in net.fed_back])
        trainer.update(x, target)
    for before, after in itertools.pairwise(gaps):
        for a, b in zip(before, after, strict=True):
            torch.testing.assert_close(b, 0.9 * a, rtol=1e-9, atol=1e-12)


def test_a_unit_of_one_input_is_refused_and_a_recipe_can_ask_for_it() -> None:
    with pytest.raises(RecipeError, match="more than one input"):
        build("F3-F2", (1,), centre=True)
    recipe = override(find("fbp-fmnist"), ["centre=true"], AXES)
    assert recipe.centre
