"""Noise, learnt feedback and local errors in all their settings against the oracle, over several steps of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import SCHEMES, Trainer, assert_alive, gradients, oracle_learn, oracle_local, oracle_of, parameters
from oracles import SGD
from response_settings import LONE, MEMBRANE, NETS, SETTINGS, STEPS, fast, made

from aplysia.credit.learned_feedback import EveryStep, Random, WarmUp
from aplysia.credit.local import Readouts
from aplysia.credit.loss import MeanOutputLoss, StepwiseLoss
from aplysia.credit.spatial.zeroth_order import NoBaseline
from aplysia.errors import PairError
from aplysia.train.learner import Learner


def pairs() -> list[Any]:
    """Every setting on both nets; schemes take turns, so that every kind of setting meets through time and online."""
    found, schemes = [], list(SCHEMES)
    for n, setting in enumerate(SETTINGS):
        for net, shift in (("dense", 0), ("conv", 1)):
            scheme = schemes[(n + shift) % len(schemes)]
            found.append(pytest.param(setting, net, scheme, id=f"{setting}; {net}, {scheme}"))
    return found


def compare(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert got.keys() == want.keys()
    for name in want:
        torch.testing.assert_close(
            got[name], want[name], rtol=1e-9, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}"
        )


def train(rule: Any, net_name: str, scheme_name: str, *, oracle: Any = None) -> dict[str, torch.Tensor]:
    """Batches of five steps, in chunks of three (which cut antithetic pairs apart), beside the oracle.

    Args:
        oracle: settings the oracle has in place of the rule's.

    Returns:
        how far every trained parameter and every tensor of the rule has come.
    """
    case = NETS[net_name]
    net, scheme = case.net(), SCHEMES[scheme_name](chunk=3)
    rule.attach(net, seed=5)
    layers, by_hand = oracle_of(net, rule)
    by_hand.settings, by_hand.local = oracle or rule, oracle_local(oracle or rule)
    lr = 0.1 if net_name == "dense" else 0.003  # more would silence it
    trainer = Trainer(net, rule, scheme, lr=lr, momentum=0.9)
    optimiser = SGD(layers, by_hand, lr=lr, momentum=0.9)
    start = parameters(net) | {f"rule.{name}": t.detach().clone() for name, t in rule.tensors.items()}
    for batch in range(4):
        x, target = case.input(steps=STEPS, seed=batch)
        assert_alive(net, x)
        summed: dict[str, torch.Tensor] = {}

        def collect(of_step: dict[str, torch.Tensor]) -> None:
            for name, value in of_step.items():
                summed[name] = summed.get(name, 0.0) + value  # noqa: B023
            optimiser(of_step)

        caught: dict[str, torch.Tensor] = {}
        step = trainer.optimiser.step

        def catching() -> None:
            for name, value in gradients(net, rule).items():
                caught[name] = caught.get(name, 0.0) + value  # noqa: B023
            step()  # noqa: B023

        trainer.optimiser.step = catching  # type: ignore[method-assign, assignment]
        trainer.update(x, target)
        trainer.optimiser.step = step  # type: ignore[method-assign]
        if oracle is not None:
            oracle.begin(rule.step)
        want = oracle_learn(layers, by_hand, scheme, x, target, trainer.loss, apply=collect)
        collect(want.gradients)
        compare(caught, summed)
    now = parameters(net) | {f"rule.{name}": t.detach().clone() for name, t in rule.tensors.items()}
    compare(
        {name: now[name] for name in now if not name.startswith("rule.")},
        {f"{one.name}.{n}": p for one in layers for n in ("weight", "bias") if (p := getattr(one, n)) is not None},
    )
    for name, tensor in by_hand.tensors.items():
        torch.testing.assert_close(now[f"rule.{name}"], tensor, rtol=1e-9, atol=1e-12, equal_nan=True)
    return {name: (now[name] - start[name]).abs().double() for name in now}


@pytest.mark.parametrize(("setting", "net", "scheme_name"), pairs())
def test_training_equals_the_oracle(setting: str, net: str, scheme_name: str) -> None:
    rule = made(setting, net, scheme_name)
    moved = train(rule, net, scheme_name)
    for name, far in moved.items():
        if not name.startswith("rule."):
            # A layer without a readout of its own learns nothing of local errors alone.
            alone = setting == "local, one layer" and name.startswith(("dense1", "conv1"))
            assert (float(far.max()) > 1e-5) != alone, f"{name} has not moved: this test would show nothing"
    trained = {id(p) for p in rule.parameters()}
    assert all(
        (moved[f"rule.{n}"].max() > 1e-7) == (id(t) in trained) for n, t in rule.tensors.items() if "local/" in n
    )


def test_a_loss_known_only_at_the_end_is_refused_where_steps_are_learnt_from() -> None:
    """With chunks a classifier would else be given the loss of a part of the mean: another number for every chunk."""
    for rule, fits in (
        (made("opzo, classifier below", "dense"), False),
        (made("opzo, membrane", "dense"), True),
        (made("zo", "dense"), False),
    ):
        net = NETS["dense"].net()
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        parts: dict[str, Any] = {"temporal": SCHEMES["ThroughTime"](chunk=2), "loss": MeanOutputLoss()}
        if fits:
            Learner(net, rule=rule, optimiser=optimiser, **parts)
            continue
        with pytest.raises(PairError, match=r"a sum over steps.*MeanOutputLoss.*set loss=stepwise"):
            Learner(net, rule=rule, optimiser=optimiser, **parts)
        assert not rule.tensors


PLANTED: dict[str, tuple[str, dict[str, Any]]] = {
    "another α": ("bp, membrane", {"noise": replace(MEMBRANE, alpha=0.401)}),
    "noise heard": ("bp, activity, unheard, alone", {"noise": replace(LONE, traced=True)}),
    "1/α": ("opzo, no 1/α", {"scaled": True}),
    "another λ": ("opzo, membrane", {"feedback": fast(momentum=0.701)}),
    "no correction of the start": ("opzo, membrane", {"feedback": fast(start=Random())}),
    "in force at once": ("opzo, random start", {"feedback": fast(start=Random(scale=0.5), update=EveryStep())}),
    "never frozen": ("opzo, freezing", {"feedback": fast()}),
    "no rest": ("opzo, warm-up", {"feedback": fast(start=WarmUp(batches=1))}),
    "no classifier": ("opzo, classifier below", {"intermediate": ()}),
    "another baseline": ("zo, the others, comparator", {"baseline": NoBaseline()}),
    "another decay": ("dkp", {"decay": 0.201}),
    "another weight": ("local, transposed, 3 × 3 cells", {"local": Readouts(cells=3, decay=0.1, weight=0.501)}),
    "another return": (
        "local, learnt return, other loss",
        {"local": Readouts(decay=0.2, loss=StepwiseLoss(mse_share=1.0))},
    ),
}


@pytest.mark.parametrize("fault", list(PLANTED))
def test_the_oracle_can_fail(fault: str) -> None:
    """A setting that differs between the library and the oracle is seen."""
    setting, changed = PLANTED[fault]
    with pytest.raises(AssertionError):
        train(made(setting, "dense"), "dense", "Trace-AfterSequence", oracle=replace(made(setting, "dense"), **changed))
