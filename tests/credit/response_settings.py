"""Every setting of noise, learnt feedback and local errors, on a dense and a convolutional net, for the tests of rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from helpers import CASES, RULES, Case

from aplysia.credit.learned_feedback import EveryStep, LowRank, MomentumFeedback, Pooled, Random, WarmUp
from aplysia.credit.local import Fixed, Learnt, Readouts, Similarity
from aplysia.credit.loss import StepwiseLoss
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
