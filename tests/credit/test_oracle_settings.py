"""Noise, learnt feedback and local errors in all their settings against the oracle, over several steps of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import (
    CASES,
    RULES,
    SCHEMES,
    Case,
    Trainer,
    assert_alive,
    gradients,
    oracle_learn,
    oracle_local,
    oracle_of,
    parameters,
)
from oracles import SGD

from aplysia.credit.learned_feedback import EveryStep, LowRank, MomentumFeedback, Pooled, Random, WarmUp
from aplysia.credit.local import Fixed, Learnt, Readouts, Similarity
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.zeroth_order import NoBaseline
from aplysia.nets.noise import Comparator, Fading, Membrane, Noise, Rademacher, Sphere
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.surrogate import Arctan

NETS = {
    "dense": Case(
        "F14-F12-F4",
        (10,),
        LIF(leak=0.8, threshold=0.7, surrogate=Arctan(alpha=1.5), detach_reset=False),
        readout=Integrator(leak=0.6),
        gain=1.3,
    ),
    "conv": CASES["conv, soft, attached, average and max pool, groups, stride"],
}


def fast(**settings: Any) -> MomentumFeedback:
    """A mean that moves within a few steps."""
    return MomentumFeedback(**({"momentum": 0.7} | settings))


STEPS = 5

ACTIVITY = Noise(alpha=0.3)
MEMBRANE = Noise(alpha=0.4, site=Membrane())
COMPARATOR = Noise(alpha=0.4, site=Comparator())
LONE = Noise(alpha=0.3, antithetic=False, traced=False)
OZO, FG, DKP, ZO = "PseudoZerothOrder", "ForwardGradient", "DirectKolenPollack", "ZerothOrder-"

# Rule and settings; a name of a layer stands as its number, since it differs between the nets.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    # noise beside rules that do not live on it
    "bp, activity": ("Symmetric", {"noise": ACTIVITY}),
    "bp, activity, unheard, alone": ("Symmetric", {"noise": LONE}),
    "bp, membrane": ("Symmetric", {"noise": MEMBRANE}),
    "bp, comparator": ("Symmetric", {"noise": COMPARATOR}),
    "bp, comparator, alone": ("Symmetric", {"noise": replace(COMPARATOR, antithetic=False)}),
    "frozen, activity": ("FrozenBackprop", {"noise": ACTIVITY}),
    "direct, activity": ("DirectFeedback", {"noise": ACTIVITY}),
    "direct, comparator, rademacher": ("DirectFeedback", {"noise": replace(COMPARATOR, law=Rademacher())}),
    # pseudo-zeroth order
    "opzo, as shipped": (OZO, {}),
    "opzo, no 1/α": (OZO, {"noise": ACTIVITY, "feedback": fast(), "scaled": False}),
    "opzo, unheard, alone": (OZO, {"noise": LONE, "feedback": fast()}),
    "opzo, membrane": (OZO, {"noise": MEMBRANE, "feedback": fast()}),
    "opzo, comparator, fading": (
        OZO,
        {"noise": replace(COMPARATOR, amount=Fading(half_life=2, floor=0.3)), "feedback": fast()},
    ),
    "opzo, rademacher, every step": (
        OZO,
        {"noise": replace(ACTIVITY, law=Rademacher()), "feedback": fast(update=EveryStep())},
    ),
    "opzo, sphere, memoryless": (OZO, {"noise": replace(ACTIVITY, law=Sphere()), "feedback": fast(momentum=0.0)}),
    "opzo, random start, every step": (OZO, {"feedback": fast(start=Random(scale=0.5), update=EveryStep())}),
    "opzo, random start": (OZO, {"feedback": fast(start=Random(scale=0.5))}),
    "opzo, random start, no noise": (OZO, {"noise": Noise(alpha=0.0), "feedback": fast(start=Random(scale=0.5))}),
    "opzo, warm-up": (OZO, {"feedback": fast(start=WarmUp(batches=2))}),
    "opzo, warm-up, every step, freezing": (
        OZO,
        {"feedback": fast(start=WarmUp(batches=1), update=EveryStep(), freeze_after=3)},
    ),
    "opzo, freezing": (OZO, {"feedback": fast(freeze_after=2)}),
    "opzo, pooled": (OZO, {"feedback": fast(form=Pooled())}),
    "opzo, pooled by four, every step": (OZO, {"feedback": fast(form=Pooled(size=2), update=EveryStep())}),
    "opzo, low rank": (OZO, {"feedback": fast(form=LowRank(directions=2))}),
    "opzo, low rank, random start, every step": (
        OZO,
        {"feedback": fast(form=LowRank(directions=3), start=Random(scale=0.5), update=EveryStep())},
    ),
    "opzo, classifier below": (OZO, {"feedback": fast(), "intermediate": (0,)}),
    "opzo, classifier on top, no 1/α, low rank": (
        OZO,
        {"feedback": fast(form=LowRank(directions=2)), "intermediate": (1,), "scaled": False},
    ),
    "opzo, two classifiers, warm-up, comparator": (
        OZO,
        {"noise": COMPARATOR, "feedback": fast(start=WarmUp(batches=2)), "intermediate": (0, 1)},
    ),
    "opzo, classifier, readouts": (
        OZO,
        {"feedback": fast(), "intermediate": (0,), "local": Readouts(weight=0.5, back=Learnt(), decay=0.1)},
    ),
    # zeroth order
    "zo": (ZO + "NoBaseline", {"scale": 0.3}),
    "zo, running baseline, membrane": (ZO + "RunningBaseline", {"scale": 0.5, "noise": MEMBRANE}),
    "zo, the others, comparator": (ZO + "OthersBaseline", {"scale": 0.5, "noise": COMPARATOR}),
    "zo, the others, unheard, fading": (
        ZO + "OthersBaseline",
        {"scale": 0.5, "noise": replace(LONE, amount=Fading(half_life=1, floor=0.2))},
    ),
    # forward gradient
    "forward, every step": (FG, {"feedback": fast(update=EveryStep())}),
    "forward, memoryless, rademacher": (FG, {"feedback": fast(momentum=0.0), "law": Rademacher()}),
    "forward, pooled, sphere": (FG, {"feedback": fast(form=Pooled()), "law": Sphere()}),
    "forward, low rank, freezing": (FG, {"feedback": fast(form=LowRank(directions=2), freeze_after=3)}),
    "forward, noise of its own net": (FG, {"feedback": fast(), "noise": replace(ACTIVITY, alpha=0.6, traced=False)}),
    # direct Kolen-Pollack
    "dkp": (DKP, {"rate": 0.7, "decay": 0.2}),
    "dkp, activity": (DKP, {"rate": 0.7, "decay": 0.2, "noise": ACTIVITY}),
    "dkp, unheard, readouts": (DKP, {"noise": LONE, "local": Readouts(back=Fixed())}),
    # local errors
    "local, fixed readouts, transposed": ("LocalLoss", {"local": Readouts(learns=False)}),
    "local, fixed readouts, fixed return": ("LocalLoss", {"local": Readouts(learns=False, back=Fixed())}),
    "local, fixed readouts, learnt return": ("LocalLoss", {"local": Readouts(learns=False, back=Learnt())}),
    "local, transposed, 3 × 3 cells": ("LocalLoss", {"local": Readouts(cells=3, decay=0.1, weight=0.5)}),
    "local, fixed return, 1 cell": ("LocalLoss", {"local": Readouts(back=Fixed(), cells=1)}),
    "local, learnt return, other loss": (
        "LocalLoss",
        {"local": Readouts(back=Learnt(), decay=0.2, cells=16, loss=StepwiseLoss(mse_share=1.0))},
    ),
    "local, one layer": ("LocalLoss", {"local": Readouts(layers=(1,))}),  # type: ignore[arg-type]
    "local, similarity": ("LocalLoss", {"local": Similarity(weight=0.7)}),
    "local, similarity, membrane": ("LocalLoss", {"local": Similarity(), "noise": MEMBRANE}),
    "bp, readouts": ("Symmetric", {"local": Readouts(back=Learnt(), decay=0.1)}),
    "bp, one readout, activity": ("Symmetric", {"local": Readouts(layers=(0,)), "noise": ACTIVITY}),  # type: ignore[arg-type]
    "frozen, similarity": ("FrozenBackprop", {"local": Similarity()}),
    "frozen, readouts": ("FrozenBackprop", {"local": Readouts(learns=False, back=Fixed())}),
    "direct, readouts": ("DirectFeedback", {"local": Readouts(weight=0.3)}),
    "direct, similarity": ("DirectFeedback", {"local": Similarity(weight=2.0)}),
}


def made(setting: str, net: str, scheme_name: str = "Trace-AfterSequence") -> Any:
    """The rule of a setting, with the names of this net's layers and the steps of this scheme."""
    kind, settings = SETTINGS[setting]
    names = [layer.name for layer in NETS[net].net().hidden]
    settings = dict(settings)
    if "intermediate" in settings:
        settings["intermediate"] = tuple(names[n] for n in settings["intermediate"])
    if getattr(settings.get("local"), "layers", ()):
        settings["local"] = replace(settings["local"], layers=tuple(names[n] for n in settings["local"].layers))
    feedback = settings.get("feedback")
    if feedback is not None and feedback.freeze_after and "EveryStep" in scheme_name:
        settings["feedback"] = replace(feedback, freeze_after=STEPS * feedback.freeze_after)
    return RULES[kind](**settings)


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
