"""Every spatial rule on streams: it trains, as the same rule on the artificial net would, or it is refused with a reason."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import RULES, close, each_rule, gradients
from stream_parts import (
    CONV,
    CONV_SHAPE,
    LIMIT,
    activation,
    assert_streams_alive,
    current,
    learnt,
    rates,
    repeated,
    stream_net,
)
from torch import Tensor

from aplysia.credit.contract import AbstractSeeded, AbstractSpatial
from aplysia.credit.loss import WinnerLoss
from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.credit.spatial.frozen import FrozenBackprop
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence, Constant
from aplysia.errors import PairError
from aplysia.nets.net import Net
from aplysia.neurons.stream_memory import BlockMean
from aplysia.ops.stream import Bits, Counts, Expect
from aplysia.train.learner import Learner
from aplysia.types import Claim, Held

NETS = {"dense": ("F16-F14-F4", (12,)), "conv": (CONV, CONV_SHAPE)}
each_net = pytest.mark.parametrize("text", NETS.values(), ids=NETS)


def learner(name: str, net: Net, engine: Expect | Bits, lr: float = 0.3) -> Learner:
    """Skips a rule that is refused, with the reason; what may be refused is counted below."""
    optimiser = torch.optim.SGD(net.parameters(), lr=lr)
    temporal = Coincidence(engine=engine)
    try:
        return Learner(net, rule=RULES[name](), temporal=temporal, loss=WinnerLoss(), optimiser=optimiser, seed=5)
    except PairError as refused:
        pytest.skip(str(refused))


def by_hand(net: Net, rule: AbstractSpatial, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The rule's gradients on the artificial net: B in place of W on the way down, or errors planted in cut layers."""
    net.zero_grad(set_to_none=True)
    outs: list[Tensor] = []
    for layer in net.all:
        below = x.detach() if rule.cuts else x
        value = current(layer, below.detach(), layer.weight, layer.bias)
        if below.requires_grad:
            feedback = rule.slot(layer, layer.effective_weight())
            assert feedback is not None
            through = current(layer, below, feedback.detach(), None)
            value = value + (through - through.detach())
        x = value if layer is net.readout else activation(layer, value)
        outs.append(x)
    error = (torch.softmax(outs[-1], 1) - F.one_hot(target, net.classes)).detach()
    total = F.cross_entropy(outs[-1], target)
    if rule.cuts:
        assert isinstance(rule, AbstractSeeded)
        for layer, out in zip(net.hidden, outs[:-1], strict=True):
            planted = rule.seed_error(layer, out.detach().unsqueeze(0), error.unsqueeze(0))
            if planted is not None:
                total = total + (out * planted.detach().squeeze(0)).sum() / len(target)
    total.backward()
    return gradients(net)


@each_rule
@each_net
def test_a_rule_in_the_limit_is_the_rule_on_the_artificial_net(
    rule_name: str, text: tuple[str, tuple[int, ...]]
) -> None:
    """To rounding in float64, over five updates with the rule's own upkeep in between."""
    net, (x, target) = stream_net(*text), rates(text[1], batch=6)
    assert_streams_alive(net, Held(x, 32))
    trained, losses = learner(rule_name, net, Expect()), []
    for _ in range(5):
        want = by_hand(net, trained.rule, x, target)
        net.zero_grad(set_to_none=True)
        losses.append(float(trained.learn(Held(x, 6), target).loss))
        close(gradients(net), want)
        trained.optimiser.step()
        trained.after()
    assert losses[-1] < losses[0]


@each_rule
def test_a_rule_trains_by_bits(rule_name: str) -> None:
    """50 updates on 24 samples: the last ten losses are below the first ten, and hidden weights have moved where they may."""
    net, (x, target) = stream_net("F16-F14-F4"), rates(batch=24)
    trained = learner(rule_name, net, Bits(), lr=0.2)
    before = [layer.weight.detach().clone() for layer in net.hidden]
    losses = [float(trained.update(Held(x, 16), target).loss) for _ in range(50)]
    assert sum(losses[-10:]) < 0.95 * sum(losses[:10])
    moved = [not torch.equal(layer.weight, old) for layer, old in zip(net.hidden, before, strict=True)]
    assert moved == [Claim.HIDDEN_FROZEN not in type(trained.rule).claims] * 2


def refusal(name: str) -> str | None:
    net = stream_net()
    try:
        Learner(
            net,
            rule=RULES[name](),
            temporal=Coincidence(),
            loss=WinnerLoss(),
            optimiser=torch.optim.SGD(net.parameters(), lr=0.1),
        )
    except PairError as refused:
        return str(refused)
    return None


def test_no_rule_is_refused_but_for_noise_tangents_or_local_errors() -> None:
    refused = {name: why for name in RULES if (why := refusal(name)) is not None}
    assert len(refused) < len(RULES) / 2
    for name, why in refused.items():
        assert any(word in why for word in ("noise", "tangent", "local errors")), f"{name}: {why}"
        assert any(word in why for word in ("set ", "use ")), f"{name} names no way out: {why}"
    kinds = {type(RULES[name]()).__name__ for name in RULES if name not in refused}
    assert {"Symmetric", "FeedbackAlignment", "FrozenBackprop", "SignSymmetric", "KolenPollack"} <= kinds
    assert {"CopyOnce", "DirectFeedback", "WeightMirror", "ReadoutOnly"} <= kinds


def test_what_a_rule_learns_of_its_own_is_averaged_as_weights_are() -> None:
    """The readout is fed straight from the last hidden layer, so its gradient is what the rule's B learns from, transposed."""
    net, (x, target) = stream_net(), rates()
    for engine in (Expect(), Bits()):
        trained = learner("DirectKolenPollack", net, engine)
        trained.learn(Held(x, 16), target)
        (feedback,), rule = trained.rule.parameters(), trained.rule
        decay = rule.rate * rule.decay * feedback.detach()  # type: ignore[attr-defined]
        assert feedback.grad is not None
        assert net.readout.weight.grad is not None
        torch.testing.assert_close(feedback.grad, rule.rate * net.readout.weight.grad + decay)  # type: ignore[attr-defined]
        net.zero_grad(set_to_none=True)


@pytest.mark.parametrize("text", ["F16-F4", "F16-F14-F4"])
def test_frozen_at_every_step_is_symmetric_bit_for_bit(text: str) -> None:
    """Under bits, over ten updates, ceilings included; and at Φ = 4 it is not."""
    made = []
    for rule in (Symmetric(), FrozenBackprop(interval=1), FrozenBackprop(interval=4)):
        net, (x, target) = stream_net(text), rates(batch=12)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.2)
        trained = Learner(net, rule=rule, temporal=Coincidence(), loss=WinnerLoss(), optimiser=optimiser)
        for _ in range(10):
            trained.update(Held(x, 16), target)
        made.append([p.detach().clone() for p in net.parameters()] + list(trained.temporal.memory.values()))
    assert all(torch.equal(a, b) for a, b in zip(made[0], made[1], strict=True))
    assert not torch.equal(made[0][0], made[2][0])


@pytest.mark.parametrize("engine", [Bits(), Counts()], ids=["bits", "counts"])
def test_random_feedback_by_spikes_has_the_mean_of_random_feedback(engine: Bits | Counts) -> None:
    """At a distance from the clip: block means of 1,024 steps, 40 batches, 120 weights. False alarms: 4·10⁻³ (Student's t)."""
    net, (x, target) = stream_net("F10-F4", memory=BlockMean(), weights=0.3), rates(batch=4)
    rule = FeedbackAlignment()
    rule.attach(net, seed=3)
    want = by_hand(net, rule, x, target)
    made = repeated(net, Held(x, 1024), target, engine, 40, rule=rule, ceiling=Constant(gamma=4.0))
    truth = want["dense1.weight"]
    scores = (made["dense1.weight"].mean(0) - truth) / (made["dense1.weight"].var(0) / 40).sqrt()
    assert scores.abs().max() < LIMIT + 1.0
    symmetric, _ = learnt(net, Held(x, 8), target, engine=Expect())
    assert (symmetric["dense1.weight"] - truth).norm() > 0.3 * truth.norm()
