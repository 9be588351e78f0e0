"""What every scheme for time owes, whatever the rule."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from helpers import CASES, DENSE, SCHEMES, assert_alive, attach, each_main_rule, each_scheme, gradients, learnt

from aplysia.credit.loss import MeanOutputLoss, StepwiseLoss
from aplysia.errors import PairError
from aplysia.nets.net import Net, Pass


@each_scheme
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_apply_is_called_between_steps_exactly_where_it_is_announced(scheme_name: str, steps: int) -> None:
    net, scheme, calls = DENSE.net(), SCHEMES[scheme_name](), []
    x, target = DENSE.input(steps)
    rule = attach("Symmetric", net)

    def apply() -> None:
        assert net.readout.weight.grad is not None
        calls.append(1)

    scheme.learn(net, x, target, StepwiseLoss(), rule, apply=apply)
    assert len(calls) == (steps - 1 if scheme.updates_inside else 0)


@each_scheme
def test_apply_is_needed_exactly_where_it_is_announced(scheme_name: str) -> None:
    net, scheme = DENSE.net(), SCHEMES[scheme_name]()
    x, target = DENSE.input()
    rule = attach("Symmetric", net)
    if scheme.updates_inside:
        with pytest.raises(PairError, match="apply"):
            scheme.learn(net, x, target, StepwiseLoss(), rule)
    else:
        scheme.learn(net, x, target, StepwiseLoss(), rule)
        assert gradients(net)


@each_scheme
def test_a_late_loss_is_taken_only_by_a_scheme_that_waits_for_the_end(scheme_name: str) -> None:
    """Measured: the scheme hands the loss all T outputs at once."""
    net, scheme, seen = DENSE.net(), SCHEMES[scheme_name](chunk=2), []
    x, target = DENSE.input()
    rule = attach("Symmetric", net)

    class Watching(StepwiseLoss):
        def error(self, out: torch.Tensor, target: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
            seen.append((len(out), steps))
            return super().error(out, target, steps)

    scheme.learn(net, x, target, Watching(), rule, apply=lambda: None)
    assert sum(n for n, _ in seen) == 7
    assert {steps for _, steps in seen} == {7}
    if len(seen) == 1:
        scheme.check(net, MeanOutputLoss(), rule)
    else:
        with pytest.raises(PairError):
            scheme.check(net, MeanOutputLoss(), rule)


@each_main_rule
@each_scheme
def test_a_record_counts_what_happened(rule_name: str, scheme_name: str) -> None:
    case = CASES["conv, soft, attached, average and max pool, groups, stride"]
    net, (x, target) = case.net(), case.input()
    assert_alive(net, x)
    rule = attach(rule_name, net)
    mean, spikes = net.predict(x, noise=rule.noise_source)
    record = SCHEMES[scheme_name]().learn(net, x, target, StepwiseLoss(), rule, apply=lambda: None)
    torch.testing.assert_close(record.logits, mean, rtol=1e-12, atol=1e-12)
    assert torch.equal(record.spikes, spikes)
    assert record.slots == [7 * 3 * math.prod(layer.output_shape) for layer in net.all]
    assert not record.logits.requires_grad
    assert not record.loss.requires_grad
    assert record.loss.shape == ()


@each_main_rule
@each_scheme
def test_two_batches_in_a_row_are_independent(rule_name: str, scheme_name: str) -> None:
    """No state of one sequence, and no trace, is left for the next."""
    net = DENSE.net()
    rule, scheme = attach(rule_name, net), SCHEMES[scheme_name]()
    first, second = DENSE.input(seed=0), DENSE.input(seed=1, batch=2)
    alone = learnt(net, rule, scheme, *second)
    learnt(net, rule, scheme, *first)
    after = learnt(net, rule, scheme, *second)
    assert all(torch.equal(alone[k], after[k]) for k in alone)


def reachable(x: object) -> list[torch.Tensor]:
    """The tensors that something holds, and their gradients."""
    if isinstance(x, torch.Tensor):
        return [x, *reachable(x.grad)] if x.is_leaf else [x]
    if isinstance(x, dict | list | tuple):
        return [t for part in (x.values() if isinstance(x, dict) else x) for t in reachable(part)]
    return []


@pytest.mark.parametrize(
    ("rule_name", "scheme_name", "chunk"),
    [
        ("Symmetric", "Trace-AfterSequence", 3),
        ("Symmetric", "Trace-EveryStep", 3),
        ("Symmetric", "Traceless-AfterSequence", 3),
        ("Symmetric", "ThroughTime-truncated", 3),
        ("PseudoZerothOrder", "Trace-AfterSequence", 1),
        ("PseudoZerothOrder", "Trace-EveryStep", 1),
        ("PseudoZerothOrder", "ThroughTime-truncated", 3),
        ("ForwardGradient", "Trace-AfterSequence", 1),
        ("ZerothOrder-RunningBaseline", "Trace-AfterSequence", 1),
        ("DirectKolenPollack", "Trace-AfterSequence", 1),
        ("LocalLoss", "Trace-AfterSequence", 1),
    ],
)
def test_memory_does_not_grow_with_the_sequence(
    rule_name: str, scheme_name: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At no time are the outputs, or the noise, of more than two windows alive, nor does the rule hold more after longer."""
    net = DENSE.net()
    rule, scheme = attach(rule_name, net), SCHEMES[scheme_name](chunk=chunk)
    outs: list[weakref.ref[torch.Tensor]] = []
    noise: list[weakref.ref[torch.Tensor]] = []
    most = []
    forward = Net.forward

    def watching(self: Net, *arguments: object) -> Pass:
        most.append(sum(ref() is not None for ref in outs))
        assert sum(ref() is not None for ref in noise) <= 2
        done = forward(self, *arguments)  # type: ignore[arg-type]
        outs.append(weakref.ref(done.outs[0]))
        noise.extend(weakref.ref(z.draws) for z in done.noise[:1])
        return done

    monkeypatch.setattr(Net, "forward", watching)
    held = []
    for steps in (12, 24):
        scheme.learn(net, *DENSE.input(steps=steps), StepwiseLoss(), rule, apply=lambda: None)
        held.append(sum(t.untyped_storage().nbytes() for t in reachable(vars(rule))))
    assert len(most) >= 12
    assert max(most) <= 2
    assert held[0] == held[1]


@each_scheme
def test_a_scheme_says_where_it_comes_from(scheme_name: str) -> None:
    scheme = SCHEMES[scheme_name]()
    assert scheme.summary
    assert scheme.paper.year >= 1980
