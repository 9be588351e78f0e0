"""A learner inside a user's own loop: gathered gradients, states, autocast, schedulers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import aplysia
from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.local import Learnt, Readouts, Similarity
from aplysia.errors import RunError
from aplysia.nets.noise import Noise
from aplysia.types import Held

LEARNERS: dict[str, Callable[[], AbstractSpatial]] = {
    "symmetric": aplysia.rules.Symmetric,
    "frozen": lambda: aplysia.rules.FrozenBackprop(interval=2),
    "kolen_pollack": aplysia.rules.KolenPollack,
    "direct_kolen_pollack": aplysia.rules.DirectKolenPollack,
    "pseudo_zeroth_order": lambda: aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.2)),
    "local readouts": lambda: aplysia.rules.LocalLoss(local=Readouts(back=Learnt())),
    "similarity": lambda: aplysia.rules.Symmetric(local=Similarity()),
    "intermediate": lambda: aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.2), intermediate=("dense2",)),
    "zeroth_order": aplysia.rules.ZerothOrder,
    "forward_gradient": aplysia.rules.ForwardGradient,
}
each_rule = pytest.mark.parametrize("rule", LEARNERS)


def batch(seed: int) -> tuple[Held, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return Held(torch.rand(8, 6, generator=source) * 3, 4), torch.randint(0, 3, (8,), generator=source)


def learner_of(rule: str, seed: int = 3, lr: float = 0.05) -> aplysia.Learner:
    net = aplysia.mlp(6, [12, 12], 3, seed=seed)
    return aplysia.Learner(net, rule=LEARNERS[rule](), optimiser=torch.optim.SGD(net.parameters(), lr=lr))


def gradients(learner: aplysia.Learner) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in learner.net.named_parameters() if p.grad is not None}


@each_rule
def test_going_on_from_a_state_is_going_on(rule: str) -> None:
    whole, first = learner_of(rule), learner_of(rule)
    for step in range(6):
        whole.update(*batch(step))
    for step in range(3):
        first.update(*batch(step))
    saved = copy.deepcopy((first.net.state_dict(), first.optimiser.state_dict(), first.state_dict()))
    second = learner_of(rule, seed=8)
    second.net.load_state_dict(saved[0])
    second.optimiser.load_state_dict(saved[1])
    second.load_state_dict(saved[2])
    for step in range(3, 6):
        second.update(*batch(step))
    for name, p in whole.net.state_dict().items():
        assert torch.equal(p, second.net.state_dict()[name]), name
    for name, tensor in whole.rule.tensors.items():
        # A baseline that has not begun is NaN.
        torch.testing.assert_close(tensor, second.rule.tensors[name], rtol=0.0, atol=0.0, equal_nan=True)
    assert (whole.steps, whole.cost) == (second.steps, second.cost)


def test_a_state_is_a_copy_and_another_one_is_refused() -> None:
    learner = learner_of("direct_kolen_pollack")
    state = learner.state_dict()
    kept = {name: tensor.clone() for name, tensor in state["rule"].items()}
    learner.update(*batch(0))
    assert all(torch.equal(kept[name], tensor) for name, tensor in state["rule"].items())
    with pytest.raises(RunError, match=r"Learner\.load_state_dict: expected what state_dict"):
        learner.load_state_dict(learner.net.state_dict())


@pytest.mark.parametrize("rule", ["symmetric", "frozen", "direct_kolen_pollack"])
def test_gradients_of_several_batches_add_up(rule: str) -> None:
    single = []
    for seed in (0, 1):
        alone = learner_of(rule)
        alone.learn(*batch(seed))
        single.append(gradients(alone))
    both = learner_of(rule)
    both.learn(*batch(0))
    both.learn(*batch(1))
    for name, gradient in gradients(both).items():
        assert gradient.any()
        assert torch.allclose(gradient, single[0][name] + single[1][name], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("rule", ["pseudo_zeroth_order", "zeroth_order"])
def test_batches_of_one_step_draw_different_noise(rule: str) -> None:
    learner = learner_of(rule, lr=0.0)
    x, y = batch(0)
    first, second = learner.learn(x, y).logits, learner.learn(x, y).logits
    learner.after()
    third = learner.learn(x, y).logits
    assert torch.equal(learner_of(rule).learn(x, y).logits, first)
    for a, b in ((first, second), (second, third), (first, third)):
        assert not torch.equal(a, b)


def test_directions_differ_between_batches_of_one_step() -> None:
    learner = learner_of("forward_gradient", lr=0.0)
    x, y = batch(0)
    tensors = []
    for _ in range(2):
        before = {name: tensor.clone() for name, tensor in learner.rule.tensors.items()}
        learner.learn(x, y)
        tensors.append({name: tensor - before[name] for name, tensor in learner.rule.tensors.items()})
    assert any(not torch.allclose(tensors[0][name], tensors[1][name], rtol=1e-3) for name in tensors[0])


@each_rule
def test_under_autocast_what_a_rule_remembers_stays_in_float32(rule: str) -> None:
    learner = learner_of(rule)
    for step in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            record = learner.learn(*batch(step))
        learner.optimiser.step()
        learner.after()
        assert record.loss.isfinite()
    floats = [tensor for tensor in learner.rule.tensors.values() if tensor.is_floating_point()]
    assert all(tensor.dtype == torch.float32 for tensor in floats)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in learner.net.parameters())


def test_a_scheduler_of_torch_s_sets_the_rate() -> None:
    learner, plain = learner_of("symmetric", lr=0.1), learner_of("symmetric", lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(learner.optimiser, 0.5)
    for step in range(3):
        learner.update(*batch(step))
        schedule.step()
        for group in plain.optimiser.param_groups:
            group["lr"] = 0.1 * 0.5**step
        plain.update(*batch(step))
    for a, b in zip(learner.net.parameters(), plain.net.parameters(), strict=True):
        assert torch.equal(a, b)
