"""How much of M is kept, in which precision, and that only learning is noisy."""

from __future__ import annotations

import pytest
import torch
from helpers import CASES, DENSE, Case, assert_alive, gradients
from torch import Tensor
from torch.nn.functional import cross_entropy
from zeroth_order_parts import looked_at, opzo

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.learned_feedback import (
    AbstractForm,
    AbstractMoment,
    Dense,
    EverySequence,
    EveryStep,
    LowRank,
    MomentumFeedback,
    Pooled,
    Random,
)
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.forward_gradient import ForwardGradient
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.credit.spatial.zeroth_order import ZerothOrder
from aplysia.credit.temporal.trace import Trace
from aplysia.data.base import Split
from aplysia.data.encode import Direct
from aplysia.data.loader import Loader
from aplysia.nets.noise import Comparator, Membrane, Noise
from aplysia.nets.zoo import build
from aplysia.train.learner import Learner
from aplysia.train.trainer import evaluate
from aplysia.types import Held

CONV = Case("4C3-A2-6C3-P2-F4", (2, 8, 8), DENSE.neuron, weights=2.8)
CLASSES = 4


def learnt(
    form: AbstractForm, case: Case, moment: AbstractMoment | None = None
) -> tuple[PseudoZerothOrder, list[Tensor]]:
    """A rule with this form after two sequences, and the errors it sends at the last steps."""
    net = case.net()
    rule = opzo(0.9, alpha=0.2, feedback={"form": form, "update": moment or EveryStep()})
    for step in (0, 1):
        x, _ = case.input(seed=step)
        assert_alive(net, x)
        error = torch.randn(7, 3, CLASSES, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        seen = looked_at(net, rule, x, error, step=step)
    sent = [rule.seed_error(layer, out.detach(), error) for layer, out in zip(net.hidden, seen.outs, strict=False)]
    assert all(found is not None and found.abs().max() > 1e-3 for found in sent)
    return rule, [found for found in sent if found is not None]


@pytest.mark.parametrize("moment", [EveryStep(), EverySequence()], ids=["step", "sequence"])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_pooled_feedback_is_the_mean_over_cells_of_the_dense_one(size: int, moment: AbstractMoment) -> None:
    """Weight by weight, to rounding: the same draws make both. All positions of a cell get one error, a cell's weight."""
    dense, _ = learnt(Dense(), CONV, moment)
    pooled, sent = learnt(Pooled(size=size), CONV, moment)
    for layer, error in zip(CONV.net().hidden, sent, strict=True):
        channels, side, _ = layer.output_shape
        cell = side // size
        whole = dense.tensors[layer.name].view(CLASSES, channels, size, cell, size, cell)
        kept = pooled.tensors[layer.name]
        assert kept.shape == (CLASSES, channels * size * size)
        torch.testing.assert_close(kept, whole.mean((3, 5)).flatten(1), rtol=1e-10, atol=1e-13)
        parts = error.unflatten(3, (size, cell)).unflatten(5, (size, cell))
        assert torch.equal(parts, parts[:, :, :, :, :1, :, :1].expand_as(parts))
        assert size == 1 or not torch.equal(error[..., :1], error[..., -1:])


def test_a_pooled_feedback_keeps_dense_layers_whole() -> None:
    (one, errors), (other, expected) = learnt(Pooled(), DENSE), learnt(Dense(), DENSE)
    for layer in DENSE.net().hidden:
        assert torch.equal(one.tensors[layer.name], other.tensors[layer.name])
    assert all(torch.equal(a, b) for a, b in zip(errors, expected, strict=True))


@pytest.mark.parametrize("case", [DENSE, CONV], ids=["dense", "conv"])
@pytest.mark.parametrize("directions", [1, 3, 4, 16])
def test_low_rank_is_the_dense_feedback_seen_through_orthonormal_directions(directions: int, case: Case) -> None:
    """A = Pᵀ·M and the error is Mᵀ·P·Pᵀ·e, to rounding; with r ≥ m it is the dense one. PᵀP = 1."""
    dense, whole = learnt(Dense(), case)
    low, sent = learnt(LowRank(directions=directions), case)
    error = torch.randn(7, 3, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    project = low.tensors.get("projection", torch.eye(CLASSES, dtype=torch.float64))
    rank = min(directions, CLASSES)
    torch.testing.assert_close(project.t() @ project, torch.eye(rank, dtype=torch.float64))
    for layer, found, full in zip(case.net().hidden, sent, whole, strict=True):
        kept, want = low.tensors[layer.name], project.t() @ dense.tensors[layer.name]
        assert kept.shape == (rank, layer.units)
        torch.testing.assert_close(kept, want, rtol=1e-10, atol=1e-12)
        if rank == CLASSES:
            torch.testing.assert_close(found, full, rtol=1e-10, atol=1e-12)
        else:
            # At the last step, whose M is the one that is left: 14 updates from zero.
            last = (error[-1] @ project @ kept) / (1 - 0.9**14)
            torch.testing.assert_close(found[-1].flatten(1), last, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("moment", [EveryStep(), EverySequence()], ids=["step", "sequence"])
def test_memory_in_words(moment: AbstractMoment) -> None:
    """m·n dense, m·C·cells² pooled, r·n and the m·r projection of low rank; twice M where it changes once a sequence."""
    twice = 1 if moment.every_step else 2
    conv = [layer.output_shape for layer in CONV.net().hidden]
    assert conv == [(4, 8, 8), (6, 4, 4)]
    units = 4 * 64 + 6 * 16
    for form, words in (
        (Dense(), twice * CLASSES * units),
        (Pooled(), twice * CLASSES * 10),
        (Pooled(size=2), twice * CLASSES * 40),
        (LowRank(directions=3), twice * 3 * units + CLASSES * 3),
        (LowRank(directions=4), twice * CLASSES * units),
    ):
        rule, _ = learnt(form, CONV, moment)
        assert rule.memory_words(CONV.net()) == words
        assert sum(t.numel() for name, t in rule.tensors.items() if name not in ("updates", "gathered")) == words


@pytest.mark.parametrize("make", [PseudoZerothOrder, ForwardGradient], ids=["opzo", "forward gradient"])
@pytest.mark.parametrize("cast", [False, True], ids=["weights", "autocast"])
@pytest.mark.parametrize("moment", [EveryStep(), EverySequence()], ids=["step", "sequence"])
def test_in_half_precision_the_feedback_stays_in_full_and_small_steps_count(
    make: type[PseudoZerothOrder] | type[ForwardGradient], cast: bool, moment: AbstractMoment
) -> None:
    """bfloat16 has 8 bits: an increment of 1 − λ = 10⁻⁴ of M would vanish. M is kept in float32, and where it is so large that
    new samples do not matter, it has moved by 1 − λ^k."""
    net = build("F14-F12-F4", (10,), seed=3)
    with torch.no_grad():
        for layer in net.all:
            layer.weight.mul_(1.6)
    if not cast:
        net = net.bfloat16()
    dtype = torch.float32 if cast else torch.bfloat16
    rule = make(feedback=MomentumFeedback(momentum=0.9999, start=Random(scale=100.0), update=moment))
    learner = Learner(net, rule=rule, optimiser=torch.optim.SGD(net.parameters(), lr=0.0))
    before = {layer.name: rule.tensors[layer.name].clone() for layer in net.hidden}
    updates = 0
    for step in range(4):
        x = torch.rand(6, 8, 10, generator=torch.Generator().manual_seed(step)).to(dtype) * 1.5
        assert_alive(net, x)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast):
            learner.learn(x, torch.arange(8) % 4)
        assert all(
            torch.isfinite(p.grad).all() and p.grad.dtype == dtype for p in net.parameters() if p.grad is not None
        )
        assert net.hidden[0].weight.grad is not None
        assert net.hidden[0].weight.grad.any()
        learner.after()
        updates += 6 if moment.every_step else int(step > 0)
    for name, old in before.items():
        now = rule.tensors[name]
        assert now.dtype == torch.float32
        moved = (now - old) / old
        large = old.abs() > 50
        assert int(large.sum()) > 5
        assert float(moved[large].mean()) == pytest.approx(-(1 - 0.9999**updates), rel=0.2)
        assert torch.equal(old.bfloat16().lerp(torch.zeros_like(old).bfloat16(), 1e-4), old.bfloat16())


def test_the_feedback_of_a_double_net_is_double() -> None:
    rule, _ = learnt(Dense(), DENSE)
    assert rule.tensors["dense1"].dtype == torch.float64


@pytest.mark.parametrize(
    "make",
    [
        lambda: opzo(0.9, alpha=2.0),
        lambda: opzo(0.9, alpha=2.0, site=Membrane()),
        lambda: opzo(0.9, alpha=2.0, site=Comparator()),
        lambda: ZerothOrder(noise=Noise(alpha=2.0)),
    ],
    ids=["activity", "membrane", "comparator", "zeroth order"],
)
@pytest.mark.parametrize("case", [CASES["dense, soft, detached"], CONV], ids=["dense", "conv"])
def test_evaluation_is_without_noise(make: type[AbstractSpatial], case: Case) -> None:
    """Outputs, spikes and loss of a net that learns under strong noise are those of a bare pass of a net never disturbed."""
    net, clean, rule = case.net().float(), case.net().float(), make()
    x, target = case.input()
    assert isinstance(x, Tensor)
    learner = Learner(net, rule=rule, optimiser=torch.optim.SGD(net.parameters(), lr=0.0))
    noisy = learner.learn(x.float(), target)
    learner.after()
    assert_alive(clean, x.float())
    done = clean(x.float())
    output, spikes = net.predict(x.float())
    torch.testing.assert_close(output, done.outs[-1].mean(0), rtol=1e-6, atol=1e-6)
    assert torch.equal(spikes, done.spikes)
    assert not torch.allclose(noisy.logits, output, atol=1e-3)
    if case is CONV:
        images = (x[0] * 255).to(torch.uint8)
        loader = Loader(Split(images, target), shuffle=False, scale=1 / 255, batch_size=3, seed=0)
        answer = clean(Held(images.float() / 255, 5)).outs[-1].detach().mean(0)
        told = evaluate(learner, loader, Direct(), 5, 0)
        assert told["loss"] == pytest.approx(float(cross_entropy(answer, target)), rel=1e-6)
        assert evaluate(learner, loader, Direct(), 5, 0, noisy=True)["loss"] != pytest.approx(told["loss"], rel=1e-3)


def test_gradients_differ_from_those_of_a_clean_pass() -> None:
    """What the tests of evaluation rest on: the pass that learns is disturbed."""
    x, target = DENSE.input()
    made = []
    for alpha in (0.0, 0.5):
        net = DENSE.net()
        rule = opzo(alpha=alpha)
        rule.attach(net, seed=1)
        Trace().learn(net, x, target, StepwiseLoss(), rule)
        made.append(gradients(net)["readout.weight"])
    assert not torch.allclose(made[0], made[1])
