"""Parts that do not go together are refused in one sentence that names all of them, before anything is run or written."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from helpers import SCHEMES
from torch import Tensor

from aplysia.credit.loss import SpikeTimeLoss, StepwiseLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.data.encode import Direct, FirstSpike
from aplysia.errors import AplysiaError, PairError, RecipeError
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.zoo import build
from aplysia.neurons.base import AbstractFirstSpike
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.neurons.potential import Potential
from aplysia.neurons.windowed import Windowed
from aplysia.ops.geometry import Dense
from aplysia.ops.synapse import Connection
from aplysia.recipes import find
from aplysia.train.learner import Learner
from aplysia.train.recipe import Recipe

TTFS, LIFS = find("digits-ttfs"), find("digits-mlp")


def refused(make: Callable[[], Any], kind: type[AplysiaError] = RecipeError) -> str:
    """The sentence; one, with a place, an expectation and a way out."""
    with pytest.raises(kind) as caught:
        make()
    said = str(caught.value)
    assert "\n" not in said
    assert re.fullmatch(r".+: expected .+, got .+; .+\.", said)
    return said


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_a_scheme_that_steps_cannot_train_a_first_spike_net(scheme: str) -> None:
    net = build("F6-F3", (4,), neuron=Windowed())
    optimiser, rule = torch.optim.SGD(net.parameters(), lr=0.1), Symmetric()
    said = refused(lambda: Learner(net, rule=rule, optimiser=optimiser, temporal=SCHEMES[scheme]()), PairError)
    assert "stepped neurons" in said
    assert "Windowed" in said
    assert "temporal=spike_time" in said
    rule.attach(net, seed=0)  # nothing was attached by then
    assert "temporal=spike_time" in refused(lambda: replace(TTFS, temporal=SCHEMES[scheme]()))


def test_the_default_scheme_of_a_learner_is_refused_too() -> None:
    net = build("F6-F3", (4,), neuron=Windowed())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    assert "Trace" in refused(lambda: Learner(net, rule=Symmetric(), optimiser=optimiser), PairError)


def test_spike_time_cannot_train_a_net_that_steps() -> None:
    net = build("F6-F3", (4,), neuron=LIF())
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    said = refused(lambda: Learner(net, rule=Symmetric(), optimiser=optimiser, temporal=SpikeTime()), PairError)
    assert "first-spike neurons" in said
    assert "LIF" in said
    assert "temporal=trace" in refused(lambda: replace(LIFS, temporal=SpikeTime()))
    rule = Symmetric()
    rule.attach(net, seed=0)
    x, target = torch.rand(1, 2, 4), torch.tensor([0, 1])
    assert "first-spike neurons" in refused(lambda: SpikeTime().learn(net, x, target, StepwiseLoss(), rule), PairError)


ALL_WRONG: dict[str, tuple[Recipe, dict[str, Any], list[str]]] = {
    "everything of a net that steps": (
        TTFS,
        {
            "readout": Integrator(),
            "temporal": SCHEMES["ThroughTime"](),
            "encoder": Direct(),
            "steps": 4,
            "gain": 2.74,
            "dropout": 0.1,
            "normalise": True,
        },
        [
            "Integrator",
            "ThroughTime",
            "encoder Direct",
            "steps=4",
            "gain=2.74",
            "dropout=0.1",
            "normalise=True",
            "readout=potential",
            "temporal=spike_time",
            "encoder=first_spike",
            "steps=1",
            "gain=1.0",
            "dropout=0.0",
            "normalise=false",
        ],
    ),
    "only steps": (TTFS, {"steps": 2}, ["steps=2", "set steps=1."]),
    "only gain": (TTFS, {"gain": 0.5}, ["gain=0.5", "set gain=1.0."]),
    "only dropout": (TTFS, {"dropout": 0.2}, ["dropout=0.2", "set dropout=0.0."]),
    "only normalise": (TTFS, {"normalise": True}, ["normalise=True", "set normalise=false."]),
    "a first-spike neuron in a net that steps": (
        LIFS,
        {"neuron": Windowed()},
        [
            "Integrator",
            "readout=potential",
            "temporal=spike_time",
            "encoder=first_spike",
            f"steps={LIFS.steps}",
            "steps=1",
        ],
    ),
    "a neuron that steps in a first-spike net": (
        TTFS,
        {"neuron": LIF()},
        ["Potential", "readout=integrator", "temporal=trace", "encoder=direct"],
    ),
    "a first-spike encoder for neurons that step": (LIFS, {"encoder": FirstSpike()}, ["FirstSpike", "encoder=direct"]),
    "a spiking readout without its loss": (
        TTFS,
        {"readout": Windowed()},
        ["StepwiseLoss on the readout Windowed", "loss=spike_time"],
    ),
    "its loss without a spiking readout": (
        TTFS,
        {"loss": SpikeTimeLoss()},
        ["SpikeTimeLoss on the readout Potential", "loss=stepwise"],
    ),
    "its loss on a net that steps": (LIFS, {"loss": SpikeTimeLoss()}, ["SpikeTimeLoss", "loss=stepwise"]),
    "a spiking readout that steps": (LIFS, {"readout": LIF()}, ["LIF, which spikes", "readout=integrator"]),
    "a readout as neuron": (TTFS, {"neuron": Potential()}, ["a spiking neuron"]),
}


@pytest.mark.parametrize("name", list(ALL_WRONG))
def test_a_recipe_names_all_that_does_not_fit_at_once(name: str) -> None:
    recipe, changes, parts = ALL_WRONG[name]
    said = refused(lambda: replace(recipe, **changes))
    for part in parts:
        assert part in said, f"'{part}' is not in: {said}"


def test_what_is_right_is_not_named() -> None:
    said = refused(lambda: replace(TTFS, steps=2))
    assert not re.search(r"gain|dropout|normalise|readout|loss|temporal|encoder", said)
    replace(TTFS, readout=Windowed(), loss=SpikeTimeLoss())


@dataclass(frozen=True)
class Particular(AbstractFirstSpike):
    """A neuron in front of which spikes cannot be averaged."""

    spiking: ClassVar[bool] = True
    summary: ClassVar[str] = "for this test"
    averages: ClassVar[bool] = False

    @property
    def input_window(self) -> float | None:
        return 1.0

    @property
    def saturation(self) -> float | None:
        return None

    def drives(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    def respond(self, drives: tuple[Tensor, ...], connection: Connection) -> Tensor:
        return connection(drives[0], connection.bias).relu()


def test_an_average_pool_needs_a_neuron_that_knows_averages() -> None:
    said = refused(lambda: build("A2-F6-F3", (1, 4, 4), neuron=Particular()))
    assert "average pool" in said
    assert "Particular" in said
    build("P2-F6-F3", (1, 4, 4), neuron=Particular())
    build("A2-F6-F3", (1, 4, 4), neuron=Windowed())


def test_a_layer_names_all_that_first_spike_neurons_do_not_know() -> None:
    said = refused(lambda: build("A2-F6-F3", (1, 4, 4), neuron=Particular(), gain=2.0, dropout=0.25))
    for part in ("gain=2", "dropout=0.25", "average pool"):
        assert part in said


@pytest.mark.parametrize("kinds", [(LIF(), Potential()), (Windowed(), Integrator())])
def test_kinds_of_neurons_do_not_mix(kinds: tuple) -> None:
    said = refused(lambda: build("F6-F3", (4,), neuron=kinds[0], readout=kinds[1]))
    assert "stepped" in said
    assert "first-spike" in said
    layers = [Layer("a", Dense(), (4,), (6, 4), kinds[0]), Layer("b", Dense(), (6,), (3, 6), kinds[1])]
    assert "a: " in refused(lambda: Net(layers))


# ── on the command line ──────────────────────────────────────────────────────────────────────────────────────────────

REFUSED = {
    "temporal=through_time": ["ThroughTime", "temporal=spike_time"],
    "neuron.leak=0.5": ["leak"],
    "steps=4": ["steps=4", "set steps=1"],
}


@pytest.mark.parametrize("setting", list(REFUSED))
def test_wrong_use_is_one_sentence_and_leaves_nothing(tmp_path: Path, setting: str) -> None:
    command = [sys.executable, "-m", "aplysia", "run", "digits-ttfs", "--set", setting]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: ")
    assert sentence.endswith(".")
    for part in REFUSED[setting]:
        assert part in sentence
    assert not list(tmp_path.iterdir())
