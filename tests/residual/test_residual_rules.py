"""Rules on residual nets: what goes along a shortcut and what must not, what is counted, and that all of it trains."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from helpers import (
    RULES,
    Trainer,
    assert_alive,
    attach,
    close,
    each_main_rule,
    gradients,
    learnt,
    parameters,
)
from helpers import SCHEMES as EVERY_SCHEME
from residual_parts import GAIN, NEURON, SCHEMES, SHAPE, TEXT, Plain, batch, residual
from torch import Tensor

import aplysia
from aplysia.credit.contract import AbstractSpatial, Seen
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.temporal.trace import Trace
from aplysia.data.digits import Digits
from aplysia.errors import PairError
from aplysia.nets.initial import He
from aplysia.nets.net import Net
from aplysia.nets.noise import Activity, Comparator, Membrane, Noise
from aplysia.nets.route import Route
from aplysia.nets.zoo import build
from aplysia.ops.surrogate import Rectangle
from aplysia.train.alignment import measure
from aplysia.types import Claim, Held

FLAT = dataclasses.replace(NEURON, surrogate=Rectangle(width=1e3), detach_reset=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearLoss(StepwiseLoss):
    """Its error does not depend on the output."""

    def error(self, out: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        error = torch.tensor([1.0, -0.7, 0.4, -1.3], dtype=out.dtype).expand_as(out) / steps
        return (out * error).sum(), error


def _replace_above(net: Net, place: int) -> None:
    """Other weights, gains and skip gains in every layer above."""
    source = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for layer in net.all[place + 1 :]:
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=parameter.dtype))


@pytest.mark.parametrize(
    ("rule_name", "carries"),
    [
        ("FeedbackAlignment", False),
        ("DirectFeedback", False),
        ("Symmetric", True),
        ("SignSymmetric-UniformMagnitude", True),
    ],
)
def test_weights_and_skip_gains_above_enter_no_error_of_a_rule_without_transport(rule_name: str, carries: bool) -> None:
    """Flat surrogate, fixed output error: the update of each layer is the same to the bit, whatever stands above it."""
    x, target = batch()
    for place in range(len(residual(neuron=FLAT).hidden)):
        made = []
        for replaced in (False, True):
            net = residual(neuron=FLAT)
            assert_alive(net, x)
            rule = RULES[rule_name]()
            rule.attach(net, seed=5)
            if replaced:
                _replace_above(net, place)
            got = learnt(net, rule, Trace(), x, target, LinearLoss())
            made.append({k: v for k, v in got.items() if k.startswith(f"{net.all[place].name}.")})
        assert all(value.abs().max() > 0 for value in made[0].values())
        assert all(torch.equal(made[0][name], made[1][name]) for name in made[0]) == (not carries)


def test_a_direct_error_leaves_its_layer_on_neither_way() -> None:
    """With feedback to one layer alone, no other hidden layer has a gradient, though shortcuts pass all of them."""
    net, (x, target) = residual(), batch()
    assert_alive(net, x)
    rule = RULES["DirectFeedback"]()
    rule.attach(net, seed=5)
    for name in rule.tensors:
        if name != "block4b":
            rule.tensors[name].zero_()
    got = learnt(net, rule, Trace(), x, target)
    moved = {name for name, value in got.items() if value.abs().max() > 0}
    assert {name.split(".")[0] for name in moved} == {"block4b", "readout"}
    assert "block4b.shortcut.gain" in moved


def test_at_the_start_errors_reach_a_branch_by_random_feedback_alone() -> None:
    """Skip gains of 0 send nothing down the branch by the weights themselves; the gain itself learns at once."""
    net = build(TEXT, SHAPE, neuron=NEURON, standardise=True, gain=GAIN, seed=3).double()
    x, target = batch()
    assert_alive(net, 2 * x)  # type: ignore[operator]
    for rule_name, reached in (("Symmetric", False), ("FeedbackAlignment", True)):
        rule = RULES[rule_name]()
        rule.attach(net, seed=5)
        got = learnt(net, rule, Trace(), 2 * x, target)  # type: ignore[operator]
        assert got["block2b.shortcut.gain"].abs() > 0
        assert bool(got["block2a.weight"].any()) == reached
        assert got["conv1.weight"].any(), "the shortcut carries errors from the start"


def test_every_weight_with_an_error_slot_is_counted_once() -> None:
    net = residual()
    rule = RULES["Symmetric"]()
    rule.attach(net, seed=5)
    by_hand = 2 * 9 * 4 * 4 + (9 * 6 * 4 + 9 * 6 * 6 + 6 * 4) + 2 * 9 * 6 * 6 + (9 * 5 * 6 + 9 * 5 * 5 + 5 * 6) + 4 * 5
    assert sum(layer.weight.numel() for layer in net.fed_back) == by_hand
    assert rule.after(net, torch.optim.SGD(net.parameters(), lr=0.1), 0).words == by_hand
    alignment = RULES["FeedbackAlignment"]()
    alignment.attach(net, seed=5)
    assert sum(tensor.numel() for tensor in alignment.tensors.values()) == by_hand
    assert set(alignment.tensors) == {layer.name for layer in net.fed_back}


def test_random_feedback_has_the_law_of_a_branch_at_a_gain_of_1() -> None:
    net = build("64C3-64R3-AG-F10", (3, 8, 8), standardise=True, gain=GAIN)
    rule = RULES["FeedbackAlignment"]()
    rule.attach(net, seed=5)
    for name, factor in (("block2a", 1.0), ("block2b", 0.2)):
        # A standardised row of n weights has a square sum of 1 (its variance being unbiased, a part in n less).
        rows = rule.tensors[name].flatten(1).square().sum(1)
        torch.testing.assert_close(rows, torch.full((64,), factor**2), rtol=1e-2, atol=0.0)


def test_kolen_pollack_refuses_a_learnt_gain() -> None:
    with pytest.raises(PairError, match="skip gain in block2b"):
        RULES["KolenPollack"]().attach(build("4C3-4R3-F4", SHAPE), seed=0)


def _tangent(net: Net, seen: Seen, directions: list[Tensor], coefficients: Tensor) -> Tensor:
    """Σ_l ⟨∂(c·o)/∂a_l, z_l⟩ by backpropagation inside each step."""
    by_outs = torch.autograd.grad((seen.outs[-1] * coefficients).sum(), seen.outs[:-1])
    return sum((a * z).sum() for a, z in zip(by_outs, directions, strict=True))  # type: ignore[return-value]


def test_the_directional_derivative_of_forward_gradient_runs_through_shortcuts() -> None:
    net, (x, target) = residual(), batch()
    assert_alive(net, x)
    rule = RULES["ForwardGradient"]()
    rule.attach(net, seed=5)
    done = net(x, None, Route(through_time=False, slopes=True))
    seen = Seen(done, torch.zeros_like(done.outs[-1]), target, StepwiseLoss(), len(done.outs[-1]))
    source = torch.Generator().manual_seed(2)
    directions = [torch.randn(out.shape, generator=source, dtype=out.dtype) for out in done.outs[:-1]]
    coefficients = torch.randn(done.outs[-1].shape, generator=source, dtype=torch.float64)
    with torch.no_grad():
        got = (rule.response(net, seen, directions) * coefficients).sum()  # type: ignore[attr-defined]
    want = _tangent(net, seen, directions, coefficients)
    assert abs(float(want)) > 1e-3
    assert math.isclose(float(got), float(want), rel_tol=1e-10)


SITES = {"activity": Activity(), "membrane": Membrane(), "comparator": Comparator()}


@pytest.mark.parametrize("site", list(SITES))
@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("scheme", ["trace", "traceless"])
def test_noise_goes_along_shortcuts_and_is_heard_there_as_anywhere(site: str, traced: bool, scheme: str) -> None:
    net, (x, target) = residual(), batch()
    assert_alive(net, x)
    made = []
    for chunk in (1, 2, 5):
        rule = RULES["FeedbackAlignment"](noise=Noise(alpha=0.3, site=SITES[site], traced=traced))
        rule.attach(net, seed=5)
        made.append(learnt(net, rule, SCHEMES[scheme](chunk=chunk), x, target))
    down = {layer.name: rule.tensors[layer.name] for layer in net.fed_back}
    want = Plain(net, scheme, feedback=down, noise=rule.noise_source).gradients(x, target)
    for got in made:
        close(got, want)
    quiet = Plain(net, scheme, feedback=down).gradients(x, target)
    projection = "block3b.shortcut.projection.weight"
    assert (quiet[projection] - made[0][projection]).abs().max() > 1e-3 * quiet[projection].abs().max()


def digits(count: int) -> tuple[Tensor, Tensor]:
    split = Digits().load().train
    images = split.inputs[:count].float()
    return (images - images.mean()) / images.std(), split.labels[:count]


RULES_THAT_TRAIN = [
    "Symmetric",
    "FeedbackAlignment",
    "FrozenBackprop",
    "DirectFeedback",
    "PseudoZerothOrder",
    "ForwardGradient",
]


@pytest.mark.parametrize("rule_name", RULES_THAT_TRAIN)
def test_a_few_batches_of_digits_lower_the_loss_and_move_every_parameter(rule_name: str) -> None:
    net = build("8C3-8R3-16R3s2-F10", (1, 8, 8), standardise=True, gain=GAIN, seed=1)
    images, labels = digits(192)
    x = Held(images, 4)
    assert_alive(net, x)
    rule: AbstractSpatial = RULES[rule_name]()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    learner = aplysia.Learner(net, rule=rule, optimiser=optimiser, temporal=Trace())
    start, first, last = parameters(net), [], []
    for step in range(24):
        part = slice(64 * (step % 3), 64 * (step % 3 + 1))
        record = learner.update(Held(images[part], 4), labels[part])
        (first if step < 3 else last if step > 20 else []).append(float(record.loss))
    assert sum(last) < 0.5 * sum(first)
    end = parameters(net)
    still = [name for name in start if torch.equal(start[name], end[name])]
    assert not still
    assert_alive(net, x, 0.005)


@each_main_rule
@pytest.mark.parametrize("scheme_name", ["ThroughTime", "Trace-EveryStep"])
def test_every_rule_trains_a_residual_net_or_says_why_not(rule_name: str, scheme_name: str) -> None:
    net = residual()
    if rule_name.startswith("KolenPollack"):
        with pytest.raises(PairError, match="standardised"):
            RULES[rule_name]().attach(net, seed=0)
        return
    trainer = Trainer(net, attach(rule_name, net), EVERY_SCHEME[scheme_name](), lr=0.02)
    start = parameters(net)
    for seed in range(2):
        x, target = batch(4, seed=seed)
        assert_alive(net, x)
        trainer.rule.begin(trainer.steps)
        trainer.update(x, target)
    end = parameters(net)
    assert all(torch.isfinite(value).all() for value in end.values())
    frozen = Claim.HIDDEN_FROZEN in trainer.rule.claims
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert moved == ({"readout.weight", "readout.bias"} if frozen else set(start))


def test_alignment_is_measured_on_projections_and_left_out_where_it_is_not_defined() -> None:
    net = build(
        "4C3-6R3s2-AG-F4", SHAPE, neuron=NEURON, standardise=True, gain=GAIN, init=He(zero_readout=True)
    ).double()
    x, target = batch()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    learner = aplysia.Learner(net, rule=RULES["FeedbackAlignment"](), optimiser=optimiser)
    found = measure(learner, 2 * x, target)  # type: ignore[operator]
    assert list(found) == ["conv1", "block2a", "block2b", "block2s", "readout"]
    assert "drift" in found["block2s"]
    assert "drift" not in found["block2b"]
    assert "drift" not in found["readout"]
    assert all(math.isfinite(value) for row in found.values() for value in row.values())
    learner.update(2 * x, target)  # type: ignore[operator]
    found = measure(learner, 2 * x, target)  # type: ignore[operator]
    assert {"drift", "angle", "gradient_cosine"} <= set(found["block2b"]) & set(found["block2s"])


def test_weights_of_a_residual_net_can_be_saved_and_put_back() -> None:
    net, other = residual(), residual()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1.0)
    other.load_state_dict(net.state_dict())
    x, target = batch()
    assert_alive(net, x)
    assert torch.equal(net(x).outs[-1], other(x).outs[-1])
    kinds = {name.rsplit(".", 1)[-1] for name in net.state_dict()}
    assert kinds == {"weight", "bias", "weight_gain", "gain"}
    rule = RULES["Symmetric"]()
    rule.attach(net, seed=0)
    learnt(net, rule, Trace(), x, target)
    assert {f"layers.{name}" for name in gradients(net)} == set(net.state_dict())
