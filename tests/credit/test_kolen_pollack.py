"""The law of Kolen-Pollack, W − B ← (1 − lr·decay)·(W − B), and the optimisers for which it fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from helpers import DENSE, assert_alive

from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.kolen_pollack import KolenPollack
from aplysia.credit.temporal.trace import Trace
from aplysia.errors import PairError, RecipeError

Make = Callable[[list], torch.optim.Optimizer]

LAWFUL: dict[str, Make] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1),
    "SGD with momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "SGD with Nesterov momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "AdamW without decay": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0),
}


class TrustRatio(torch.optim.SGD):
    """A toy of LARS: the step is scaled by the norm of the weight."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad * p.norm() / (p.grad.norm() + 1e-12), alpha=group["lr"])


UNLAWFUL: dict[str, Make] = {
    "SGD with weight decay": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=5e-4),
    "Adam with weight decay": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=1e-2),
    "AdamW with weight decay": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-2),
    "a trust ratio": lambda p: TrustRatio(p, lr=0.1),
    "weight decay with a rate that is still 0 (warm-up)": lambda p: torch.optim.SGD(p, lr=0.0, weight_decay=5e-4),
    "weight decay with a small rate": lambda p: torch.optim.SGD(p, lr=1e-6, weight_decay=1e-5),
}


@pytest.mark.parametrize("make", LAWFUL.values(), ids=list(LAWFUL))
def test_the_difference_shrinks_by_one_factor_a_step(make: Make) -> None:
    net, rule = DENSE.net(), KolenPollack(decay=0.5)
    optimiser = make(list(net.parameters()))
    rule.check_optimiser(net, optimiser)
    rule.attach(net, seed=1)
    factor = 1.0 - optimiser.param_groups[0]["lr"] * 0.5
    start = {layer.name: (layer.weight - rule.tensors[layer.name]).detach().clone() for layer in net.fed_back}
    weights = [layer.weight.detach().clone() for layer in net.fed_back]
    for step in range(60):
        x, target = DENSE.input(steps=4, seed=step)
        if step == 0:
            assert_alive(net, x)
        Trace().learn(net, x, target, StepwiseLoss(), rule)
        optimiser.step()
        rule.after(net, optimiser, step)
        optimiser.zero_grad()
        for layer in net.fed_back:
            difference = layer.weight.detach() - rule.tensors[layer.name]
            torch.testing.assert_close(difference, start[layer.name] * factor ** (step + 1), rtol=0, atol=1e-12)
    for layer, before in zip(net.fed_back, weights, strict=True):
        assert (layer.weight - before).abs().max() > 1e-2  # it did train
        assert start[layer.name].abs().max() > 0.1  # and there was something to shrink


def test_a_schedule_of_the_rate_is_followed() -> None:
    net, rule = DENSE.net(), KolenPollack(decay=0.5)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.2)
    rule.attach(net, seed=1)
    want = {layer.name: (layer.weight - rule.tensors[layer.name]).detach().clone() for layer in net.fed_back}
    for step, lr in enumerate([0.2, 0.1, 0.05, 0.0]):
        optimiser.param_groups[0]["lr"] = lr
        x, target = DENSE.input(steps=3, seed=step)
        Trace().learn(net, x, target, StepwiseLoss(), rule)
        optimiser.step()
        rule.after(net, optimiser, step)
        for layer in net.fed_back:
            want[layer.name] *= 1.0 - lr * 0.5
            torch.testing.assert_close(layer.weight - rule.tensors[layer.name], want[layer.name], rtol=0, atol=1e-12)


def test_without_decay_the_difference_stays() -> None:
    net, rule = DENSE.net(), KolenPollack(decay=0.0)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.2)
    rule.attach(net, seed=1)
    start = [(layer.weight - rule.tensors[layer.name]).detach().clone() for layer in net.fed_back]
    x, target = DENSE.input(steps=3)
    Trace().learn(net, x, target, StepwiseLoss(), rule)
    optimiser.step()
    rule.after(net, optimiser, 0)
    for layer, before in zip(net.fed_back, start, strict=True):
        torch.testing.assert_close(layer.weight - rule.tensors[layer.name], before, rtol=0, atol=1e-13)


@pytest.mark.parametrize("make", UNLAWFUL.values(), ids=list(UNLAWFUL))
def test_an_optimiser_that_looks_at_the_weight_is_refused(make: Make) -> None:
    net = DENSE.net()
    with pytest.raises(PairError, match="depends on"):
        KolenPollack().check_optimiser(net, make(list(net.parameters())))


def test_one_bad_group_among_good_ones_is_refused() -> None:
    net = DENSE.net()
    groups = [
        {"params": [net.all[0].weight]},
        {"params": [layer.weight for layer in net.fed_back], "weight_decay": 0.1},
    ]
    with pytest.raises(PairError):
        KolenPollack().check_optimiser(net, torch.optim.SGD(groups, lr=0.1))


def test_standardised_weights_and_negative_decay_are_refused() -> None:
    net = DENSE.net()
    net.hidden[1].weight_gain = torch.nn.Parameter(torch.ones(len(net.hidden[1].weight), dtype=torch.float64))
    with pytest.raises(PairError, match="dense2"):
        KolenPollack().attach(net, seed=0)
    with pytest.raises(RecipeError):
        KolenPollack(decay=-0.1)
