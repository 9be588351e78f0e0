"""Gradients of first-spike nets against the oracle in spike times: every rule, every neuron, dense and convolutional."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from first_spike_nets import (
    CASES,
    CONV,
    DENSE,
    LONG,
    WINDOWED,
    Case,
    assert_fires,
    attach,
    close,
    each_case,
    learnt,
    lives_on_steps,
    oracle_learn,
    oracle_outs,
    outs,
    saturates,
)
from helpers import RULES
from torch import Tensor

from aplysia.credit.local import AbstractLocal, Fixed, Learnt, Readouts, Similarity
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.errors import PairError
from aplysia.nets.noise import AbstractSite, Activity, Comparator, Membrane, Noise
from aplysia.neurons.windowed import Windowed
from aplysia.train.learner import Learner


@each_case
def test_forward_is_the_oracles(case: Case) -> None:
    net, (x, _) = case.net(), case.input()
    assert_fires(net, x)
    assert not case.saturates or saturates(net, x)
    for layer, got, want in zip(net.all, outs(net, x), oracle_outs(net, x), strict=True):
        tolerance = 1e-12 * (LONG if case.window == 1.0 and not case.saturates else 1.0)
        torch.testing.assert_close(got, want, rtol=1e-11, atol=tolerance)
        if layer.neuron.spiking:
            assert torch.equal(got == 0, want == 0)


def pairs() -> list[Any]:
    """Every rule with every case; on all but two cases one variant of a rule that has many stands for the others."""
    few: dict[str, list[str]] = {}
    for name in RULES:
        if lives_on_steps(RULES[name]()):
            continue
        few.setdefault(name.split("-")[0], []).append(name)
    made = []
    for label, case in CASES.items():
        for variants in few.values():
            chosen = variants if label in ("dense", "conv") and len(variants) < 10 else variants[:1]
            made += [pytest.param(case, name, id=f"{label}, {name}") for name in chosen]
    return made


@pytest.mark.parametrize(("case", "rule_name"), pairs())
def test_every_rule_gives_the_oracles_gradients(case: Case, rule_name: str) -> None:
    net, (x, target) = case.net(), case.input()
    rule = attach(rule_name, net)
    assert_fires(net, x)
    for layer in net.fed_back:
        if layer.name in rule.tensors and rule.tensors[layer.name].shape == layer.weight.shape:
            apart = (rule.tensors[layer.name] - layer.effective_weight()).abs().max()
            assert apart > 0.01 * layer.effective_weight().abs().max(), f"feedback of {layer.name} is the weight"
    want = oracle_learn(net, rule, x, target, case.loss)
    close(learnt(net, rule, x, target, case.loss), want.gradients)
    record = SpikeTime().learn(net, x, target, case.loss, rule)
    assert math.isclose(float(record.loss), want.loss, rel_tol=1e-10)


STEPPING = [name for name in RULES if lives_on_steps(RULES[name]())]


def test_which_rules_live_on_steps() -> None:
    assert {name.split("-")[0] for name in STEPPING} == {"PseudoZerothOrder", "ZerothOrder", "ForwardGradient"}


@pytest.mark.parametrize("rule_name", STEPPING)
@pytest.mark.parametrize("case_name", ["dense", "conv", "constant slope, dense, bias"])
def test_rules_that_live_on_steps_are_refused_with_the_reason(case_name: str, rule_name: str) -> None:
    net, rule = CASES[case_name].net(), RULES[rule_name]()
    with pytest.raises(PairError, match=r"expected stepped neurons.*got \w+, a first-spike neuron; set .*neuron=lif"):
        rule.attach(net, seed=0)
    assert not rule.tensors
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(PairError, match="stepped neurons"):
        Learner(net, rule=RULES[rule_name](), temporal=SpikeTime(), loss=CASES[case_name].loss, optimiser=optimiser)


@pytest.mark.parametrize("site", [Activity(), Membrane(), Comparator()], ids=["activity", "membrane", "comparator"])
@pytest.mark.parametrize("rule_name", ["Symmetric", "DirectKolenPollack", "LocalLoss"])
def test_noise_is_refused_beside_any_rule(rule_name: str, site: AbstractSite) -> None:
    rule = RULES[rule_name](noise=Noise(site=site))
    with pytest.raises(PairError, match=r"spike time.*Windowed, a first-spike neuron.*set rule\.noise\.alpha=0"):
        rule.attach(DENSE.net(), seed=0)


LOCAL: dict[str, tuple[str, AbstractLocal]] = {
    "local, similarity": ("LocalLoss", Similarity(weight=0.5)),
    "local, learnt return": ("LocalLoss", Readouts(back=Learnt(), decay=0.1, cells=3)),
    "local, fixed readouts": ("LocalLoss", Readouts(learns=False, back=Fixed())),
    "bp, readouts": ("Symmetric", Readouts(weight=0.5)),
    "dkp, similarity": ("DirectKolenPollack", Similarity()),
}


@pytest.mark.parametrize(
    "case_name", ["dense, spiking readout", "conv, average pools, bias", "constant slope, conv, bias"]
)
@pytest.mark.parametrize("setting", list(LOCAL))
def test_local_errors_are_the_oracles(case_name: str, setting: str) -> None:
    case, (rule_name, local) = CASES[case_name], LOCAL[setting]
    net, (x, target) = case.net(), case.input()
    assert_fires(net, x)
    rule = attach(rule_name, net, local=local)
    want = oracle_learn(net, rule, x, target, case.loss)
    close(learnt(net, rule, x, target, case.loss), want.gradients)
    # and a weight that is off by one part in a thousand is seen
    rule.local = replace(local, weight=1.001 * local.weight)  # type: ignore[attr-defined, call-arg, type-var]
    with pytest.raises(AssertionError):
        close(learnt(net, rule, x, target, case.loss), want.gradients)


@pytest.mark.parametrize("case", [c for c in WINDOWED.values() if c.neuron.max_gain is not None])  # type: ignore[attr-defined]
def test_the_bound_on_the_gain_binds_in_these_cases(case: Case) -> None:
    net, (x, target) = case.net(), case.input()
    free = replace(case, neuron=replace(case.neuron, max_gain=None)).net()
    assert all(torch.equal(a, b) for a, b in zip(outs(net, x), outs(free, x), strict=True)), "the bound is not forward"
    bounded = learnt(net, attach("Symmetric", net), x, target, case.loss)
    unbounded = learnt(free, attach("Symmetric", free), x, target, case.loss)
    first = net.all[0].name
    assert not torch.allclose(bounded[f"{first}.weight"], unbounded[f"{first}.weight"], rtol=1e-3)


@pytest.mark.parametrize("change", ["threshold", "window", "weight", "feedback", "pool"])
def test_the_oracle_can_fail(change: str) -> None:
    """One part in a thousand is seen."""
    case = CONV
    net, (x, target) = case.net(), case.input()
    rule = attach("FeedbackAlignment", net)
    want = oracle_learn(net, rule, x, target, case.loss)
    with torch.no_grad():
        if change == "weight":
            net.hidden[1].weight.mul_(1.001)
        elif change == "feedback":
            rule.tensors[net.hidden[1].name].mul_(1.001)
        elif change == "pool":
            net.hidden[1].pools = CASES["conv, average pools, bias"].net().hidden[1].pools
        else:
            net.hidden[1].neuron = replace(net.hidden[1].neuron, **{change: 1.001})  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        close(learnt(net, rule, x, target, case.loss), want.gradients)


# ── plain autograd through times ─────────────────────────────────────────────────────────────────────────────────────


def plain_loss(case: Case, leaves: dict[str, Tensor], x: Tensor, target: Tensor) -> tuple[Tensor, list[Tensor]]:
    """A dense windowed net as anybody would write it, in times; also what tells one case of each unit from another."""
    neuron = case.neuron
    assert isinstance(neuron, Windowed)
    length, signs = neuron.window, []
    times = torch.where(x[0] > 0, length - x[0], torch.inf)
    names = sorted({name.rsplit(".", 1)[0] for name in leaves}, key=lambda n: (n == "readout", n))
    for name in names if case.readout.spiking else names[:-1]:
        w, b = leaves[f"{name}.weight"], leaves.get(f"{name}.bias", torch.zeros(()))
        fired = torch.isfinite(times)
        t = torch.where(fired, times, 0.0)
        slope = fired.double() @ w.T
        threshold = (case.readout if name == "readout" else neuron).threshold - b  # type: ignore[attr-defined]
        z = length * slope - t @ w.T
        crossing = (threshold - z) / (threshold / length + slope)
        times = torch.where(z >= threshold, 0.0, torch.where(z + length * slope > 0, crossing, torch.inf))
        signs += [z >= threshold, z + length * slope > 0]
    if case.readout.spiking:
        late = torch.where(torch.isfinite(times), times, length)
        return torch.nn.functional.cross_entropy(-late / case.loss.scale, target), signs  # type: ignore[attr-defined]
    fired = torch.isfinite(times)
    ramps = torch.where(fired, 2 * length - torch.where(fired, times, 0.0), 0.0)
    out = ramps @ leaves["readout.weight"].T + leaves.get("readout.bias", torch.zeros(()))
    c = case.loss.mse_share  # type: ignore[attr-defined]
    hot = torch.nn.functional.one_hot(target, out.shape[1]).double()
    return (1 - c) * torch.nn.functional.cross_entropy(out, target) + c * (out - hot).square().mean(), signs


PLAIN = {
    name: case
    for name, case in WINDOWED.items()
    if case.neuron.max_gain is None and name.startswith("dense") and not case.standardise  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("case", list(PLAIN.values()), ids=list(PLAIN))
def test_backpropagation_is_plain_autograd_through_spike_times(case: Case) -> None:
    net, (x, target) = case.net(), case.input()
    assert_fires(net, x)
    rule = attach("Symmetric", net)
    leaves = {
        f"{layer.name}.{n}": p.detach().clone().requires_grad_()
        for layer in net.all
        for n, p in layer.named_parameters()
    }
    value, signs = plain_loss(case, leaves, x, target)
    value.backward()
    got = learnt(net, rule, x, target, case.loss)
    close(got, {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None})

    # and by finite differences, where no unit passes from one case to another
    seen = 0
    for name, leaf in leaves.items():
        flat, by = leaf.detach().view(-1), got[name].view(-1)
        for place in by.abs().topk(3).indices.tolist():
            sides, same = [], True
            for step in (1e-6, -1e-6):
                before = float(flat[place])
                flat[place] += step
                at, there = plain_loss(case, leaves, x, target)
                same &= all(torch.equal(a, b) for a, b in zip(signs, there, strict=True))
                sides.append(float(at.detach()))
                flat[place] = before
            if same:
                seen += 1
                assert math.isclose((sides[0] - sides[1]) / 2e-6, float(by[place]), rel_tol=1e-5, abs_tol=1e-9)
    assert seen >= 3 * len(leaves) - 3


def test_a_net_without_a_route_is_differentiable_like_any_module() -> None:
    net, (x, target) = DENSE.net(), DENSE.input()
    assert_fires(net, x)
    value, _ = DENSE.loss.error(net(x).outs[-1].detach(), target, 1)
    out = net(x).outs[-1]
    DENSE.loss.value(out, target, 1).backward()
    got = {f"{layer.name}.weight": layer.weight.grad for layer in net.all}
    want = oracle_learn(net, None, x, target, DENSE.loss)
    close(got, want.gradients)  # type: ignore[arg-type]
    assert math.isclose(float(value), want.loss, rel_tol=1e-10)
