"""Bytes of memory against what the library allocates on dense nets of LIF neurons."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import RULES, assert_alive, perturb
from torch import Tensor, nn

from aplysia.credit.contract import AbstractLoss
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.credit.temporal.traceless import Traceless
from aplysia.ledger.memory import Memory, memory, totals
from aplysia.nets.layer import Root
from aplysia.nets.net import Net
from aplysia.nets.route import Route
from aplysia.nets.zoo import build
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.train.optimise import SGD, AbstractOptimiser, Adam, AdamW
from aplysia.types import Held

BATCH, STEPS = 3, 4
SCHEMES = {
    "through time": ThroughTime(),
    "truncated": ThroughTime(truncation=2),
    "trace": Trace(chunk=4),
    "trace, step by step": Trace(chunk=1),
    "traceless": Traceless(chunk=2),
}


def net_of() -> Net:
    net = build("F14-F12-F4", (10,), neuron=LIF(leak=0.5), readout=Integrator(), seed=3)
    perturb(net, 1.6, 3)
    return net


def lines(net: Net, rule: Any, scheme: Any, *, held: bool) -> list[Memory]:
    return memory(net, rule, scheme.habits(STEPS), batch=BATCH, held=held)


class Watched(AbstractLoss):
    """The loss, asked once a window: what autograd has saved by then is what that window keeps."""

    per_step = True

    def __init__(self, windows: list[dict[int, int]]) -> None:
        self.windows = windows

    def value(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        return StepwiseLoss(mse_share=0.5).value(out, target, steps)

    def error(self, out: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        self.windows.append({})
        found = StepwiseLoss(mse_share=0.5).error(out, target, steps)
        self.windows[-1].clear()
        return found


def batch_of(held: bool) -> Any:
    source = torch.Generator().manual_seed(1)
    x = torch.rand(STEPS, BATCH, 10, generator=source)
    return Held(x[0].clone(), STEPS) if held else x


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("scheme_name", list(SCHEMES))
@pytest.mark.parametrize("rule_name", ["Symmetric", "FeedbackAlignment", "DirectFeedback"])
def test_saved_signals_are_those_of_autograd(
    rule_name: str, scheme_name: str, held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that are kept beside it, where errors are planted behind a neuron."""
    net, rule, scheme, x = net_of(), RULES[rule_name](), SCHEMES[scheme_name], batch_of(held)
    assert_alive(net, x)
    rule.attach(net, seed=1)
    owned = {t.untyped_storage().data_ptr() for t in (*net.parameters(), *rule.tensors.values())}
    windows: list[dict[int, int]] = [{}]

    def pack(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in owned:
            # Of a window of the input only that window counts, though it is a view of the whole.
            windows[-1][place] = max(windows[-1].get(place, 0), tensor.numel() * tensor.element_size())
        return tensor

    def root(currents: Any, slope: Tensor) -> Root:
        return Root(currents, pack(slope))

    monkeypatch.setattr("aplysia.nets.layer.Root", root)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        scheme.learn(net, x, torch.zeros(BATCH, dtype=torch.int64), Watched(windows), rule)
    seen = [sum(window.values()) for window in windows[:-1]]
    assert len(seen) == scheme.habits(STEPS).windows
    assert set(seen) == {totals(lines(net, rule, scheme, held=held))["saved"]}


@pytest.mark.parametrize("held", [False, True])
def test_states_and_traces_are_those_of_a_pass(held: bool) -> None:
    net, rule, scheme, x = net_of(), RULES["Symmetric"](), Trace(chunk=4), batch_of(held)
    rule.attach(net, seed=1)
    done = net(x, None, Route(eligibility=scheme.eligibility, through_time=False))
    states = sum(t.numel() * t.element_size() for state in done.states for t in state.neuron)
    carries = [state.carry for state in done.states if isinstance(state.carry, Tensor)]
    found = totals(lines(net, rule, scheme, held=held))
    assert found["state"] == states == BATCH * (14 + 12 + 4) * 4
    assert found["traces"] == sum(t.numel() * t.element_size() for t in carries)
    # In front of a readout without memory there is no trace, of a held input none is needed.
    assert found["traces"] == BATCH * (14 if held else 10 + 14) * 4


def test_feedback_and_the_rest_of_what_a_rule_owns() -> None:
    net = net_of()
    above = 4 * (12 * 14 + 4 * 12)
    stored = 4 * (14 * 10 + 14 + 12 * 14 + 12 + 4 * 12 + 4)
    expected = {
        "Symmetric": (0, 0),
        "FeedbackAlignment": (above, 0),
        "DirectFeedback": (4 * 4 * (14 + 12), 0),
        "KolenPollack": (above, above),  # the weights of the step before
    }
    for name, (feedback, rest) in expected.items():
        rule = RULES[name]()
        rule.attach(net, seed=1)
        found = totals(lines(net, rule, Trace(), held=False))
        assert (found["feedback"], found["rule"]) == (feedback, rest), name
        assert found["weights"] == found["gradients"] == stored
        assert feedback + rest == sum(t.numel() * t.element_size() for t in rule.tensors.values())


def test_only_what_learns_has_gradients() -> None:
    net, rule = net_of(), RULES["ReadoutOnly"]()
    rule.attach(net, seed=1)
    found = totals(lines(net, rule, Trace(chunk=1), held=False))
    assert found["gradients"] == 4 * (4 * 12 + 4)
    assert found["saved"] == 4 * BATCH * 12


@pytest.mark.parametrize("settings", [SGD(), SGD(momentum=0.0), Adam(), AdamW()])
def test_the_optimisers_state_is_what_it_keeps_after_a_step(settings: AbstractOptimiser) -> None:
    parameters = [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3))]
    optimiser = settings.build(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    kept = [t for state in optimiser.state.values() for t in state.values() if isinstance(t, Tensor)]
    assert sum(settings.state_bytes(p) or 0 for p in parameters) == sum(t.numel() * t.element_size() for t in kept)
