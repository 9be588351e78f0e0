"""Settings and parts that make no sense are refused in one sentence with the reason, before a folder holds anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from aplysia.errors import AplysiaError
from aplysia.recipes import find
from aplysia.train.codec import override
from aplysia.train.folder import RunFolder
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.run import Run

OPZO, ZO = "rule=pseudo_zeroth_order", "rule=zeroth_order"
# What a recipe cannot know yet fails when its net is built.
CASES: dict[str, tuple[str, list[str], tuple[str, ...]]] = {
    "negative noise": ("digits-mlp", [OPZO, "rule.noise.alpha=-0.1"], ("rule.noise.alpha", "-0.1", "≥ 0")),
    "noise beside any rule": ("digits-mlp", ["rule.noise.alpha=-1"], ("rule.noise.alpha", "≥ 0")),
    "noise that is no number": ("digits-mlp", [OPZO, "rule.noise.alpha=nan"], ("rule.noise.alpha", "nan")),
    "infinite noise": ("digits-mlp", [OPZO, "rule.noise.alpha=inf"], ("rule.noise.alpha", "inf")),
    "momentum 1": ("digits-mlp", [OPZO, "rule.feedback.momentum=1"], ("rule.feedback.momentum", "[0, 1)")),
    "momentum nan": ("digits-mlp", [OPZO, "rule.feedback.momentum=nan"], ("rule.feedback.momentum", "nan")),
    "negative momentum": ("digits-mlp", [OPZO, "rule.feedback.momentum=-0.1"], ("rule.feedback.momentum", "[0, 1)")),
    "forward gradient, momentum 1": (
        "digits-mlp",
        ["rule=forward_gradient", "rule.feedback.momentum=1.0"],
        ("rule.feedback.momentum", "[0, 1)"),
    ),
    "baseline momentum 1": (
        "digits-mlp",
        [ZO, "rule.baseline=running_baseline", "rule.baseline.momentum=1"],
        ("rule.baseline.momentum", "[0, 1)"),
    ),
    "no cells": (
        "digits-mlp",
        [OPZO, "rule.feedback.form=pooled", "rule.feedback.form.size=0"],
        ("rule.feedback.form.size", "at least 1"),
    ),
    "no directions": (
        "digits-mlp",
        [OPZO, "rule.feedback.form=low_rank", "rule.feedback.form.directions=0"],
        ("rule.feedback.form.directions", "at least 1"),
    ),
    "negative start": (
        "digits-mlp",
        [OPZO, "rule.feedback.start=random", "rule.feedback.start.scale=-1"],
        ("rule.feedback.start.scale", "≥ 0"),
    ),
    "negative warm-up": (
        "digits-mlp",
        [OPZO, "rule.feedback.start=warm_up", "rule.feedback.start.batches=-1"],
        ("rule.feedback.start.batches", "at least 0"),
    ),
    "negative freeze": ("digits-mlp", [OPZO, "rule.feedback.freeze_after=-1"], ("rule.feedback.freeze_after", "none")),
    "no half life": (
        "digits-mlp",
        [OPZO, "rule.noise.amount=fading", "rule.noise.amount.half_life=0"],
        ("noise.amount.half_life", "at least 1"),
    ),
    "no floor": (
        "digits-mlp",
        [OPZO, "rule.noise.amount=fading", "rule.noise.amount.floor=0"],
        ("noise.amount.floor", "(0, 1]"),
    ),
    "zeroth order without noise": ("digits-mlp", [ZO, "rule.noise.alpha=0"], ("rule.noise.alpha", "noise alone")),
    "no local cells": (
        "digits-mlp",
        ["rule=local_loss", "rule.local=readouts", "rule.local.cells=0"],
        ("rule.local.cells", "at least 1"),
    ),
    "negative local weight": (
        "digits-mlp",
        ["rule.local=readouts", "rule.local.weight=-1"],
        ("rule.local.weight", "≥ 0"),
    ),
    "a law nobody knows": ("digits-mlp", [OPZO, "rule.noise.law=cauchy"], ("rule.noise.law", "gaussian", "rademacher")),
    "unknown intermediate layer": (
        "digits-mlp",
        [OPZO, "rule.intermediate=dense7"],
        ("rule.intermediate", "dense7", "dense1, dense2"),
    ),
    "the readout as intermediate layer": (
        "digits-mlp",
        [OPZO, "rule.intermediate=readout"],
        ("rule.intermediate", "dense1, dense2"),
    ),
    "unknown local layer": (
        "digits-mlp",
        ["rule.local=readouts", "rule.local.layers=conv1"],
        ("rule.local.layers", "conv1", "dense1, dense2"),
    ),
    "comparator with a hard reset": (
        "digits-mlp",
        [OPZO, "rule.noise.site=comparator", "neuron.reset=hard"],
        ("rule.noise.site", "soft reset", "wipe", "site=membrane"),
    ),
    "noise on first-spike nets": (
        "digits-ttfs",
        ["rule.noise.alpha=0.1"],
        ("stepped neurons", "spike time", "rule.noise.alpha=0"),
    ),
    "pseudo-zeroth order on first-spike nets": ("digits-ttfs", [OPZO], ("stepped neurons", "rule.noise.alpha=0")),
    "forward gradient on first-spike nets": (
        "digits-ttfs",
        ["rule=forward_gradient"],
        ("stepped neurons", "rule=symmetric"),
    ),
    "cells that do not divide": (
        "digits-mlp",
        [OPZO, "net=4C3-F10", "rule.feedback.form=pooled", "rule.feedback.form.size=3"],
        ("conv1", "3 cells", "8 × 8"),
    ),
    "nothing hidden": ("digits-mlp", [OPZO, "net=F10"], ("a hidden layer", "rule=symmetric")),
    "a loss known at the end": (
        "digits-mlp",
        [ZO, "loss=mean_output", "temporal=through_time"],
        ("sum over steps", "loss=stepwise"),
    ),
}


def started(name: str, settings: list[str], path: Path) -> None:
    """What `aplysia run` does with a recipe and its settings."""
    recipe: Recipe = override(find(name), [*settings, "epochs=1"], AXES)
    Run(recipe, RunFolder.create(path / "run", resume=False), torch.device("cpu")).execute()


@pytest.mark.parametrize("name", list(CASES))
def test_wrong_use_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    recipe, settings, words = CASES[name]
    with pytest.raises(AplysiaError) as caught:
        started(recipe, settings, tmp_path)
    said = str(caught.value)
    assert "\n" not in said
    assert re.fullmatch(r".+: expected .+, got .+; .+\.", said), said
    for word in words:
        assert word in said, said
    assert not list(tmp_path.rglob("*.json*"))


@pytest.mark.parametrize(
    "settings",
    [
        [OPZO],
        [OPZO, "rule.noise.alpha=0"],
        [OPZO, "rule.noise.site=comparator", "rule.noise.law=sphere"],
        [OPZO, "rule.noise.site=membrane", "neuron.reset=hard"],
        [OPZO, "net=4C3-F10", "rule.feedback.form=pooled", "rule.feedback.form.size=4"],
        [OPZO, "rule.intermediate=dense1", "rule.local=readouts", "rule.local.layers=dense2"],
        [ZO, "rule.noise.law=rademacher", "rule.baseline=running_baseline"],
    ],
    ids=" ".join,
)
def test_the_right_use_next_to_it_runs(settings: list[str], tmp_path: Path) -> None:
    """So that no refusal above is one of everything."""
    started("digits-mlp", [*settings, "train_samples=100"], tmp_path)
    assert (tmp_path / "run" / "summary.json").exists()
