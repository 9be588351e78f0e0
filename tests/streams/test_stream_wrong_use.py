"""What streams cannot do is refused, with the reason and a way out."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stream_parts import learnt, rates, stream_net

from aplysia.credit.local import Readouts
from aplysia.credit.loss import StepwiseLoss, WinnerLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.credit.temporal.trace import Trace
from aplysia.data.encode import Direct
from aplysia.errors import PairError, RecipeError
from aplysia.nets.noise import Noise
from aplysia.nets.zoo import build
from aplysia.neurons.bitstream import Bitstream, Sigmoid
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.neurons.stream_memory import AbstractMemory, BlockMean, LeakyMean, Memoryless, RunningMean
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.stream import AbstractEngine, Bits, Counts, Expect
from aplysia.ops.winner import ClockedTies
from aplysia.recipes import find
from aplysia.train.learner import Learner
from aplysia.types import Held


@pytest.mark.parametrize("memory", [RunningMean(), Memoryless(), LeakyMean()], ids=lambda m: type(m).__name__)
def test_counts_need_neurons_that_see_the_mean_of_a_stream(memory: AbstractMemory) -> None:
    net, (x, target) = stream_net(memory=memory), rates()
    with pytest.raises(PairError, match=r"Counts.*dense1 with memory .*engine=bits"):
        learnt(net, Held(x, 8), target, engine=Counts())


def test_a_readout_with_a_path_is_named_too() -> None:
    net, (x, target) = build("F8-F4", (12,), neuron=Bitstream(memory=BlockMean()), readout=WinnerTakeAll()), rates()
    with pytest.raises(PairError, match="readout with memory RunningMean"):
        learnt(net, Held(x.float(), 8), target, engine=Counts())


@pytest.mark.parametrize("engine", [Counts(), Expect()], ids=["counts", "expect"])
def test_a_biased_circuit_has_no_counts_and_no_limit(engine: AbstractEngine) -> None:
    net, (x, target) = stream_net(memory=BlockMean(), circuit=ClockedTies()), rates()
    with pytest.raises(PairError, match=r"softmax.*ClockedTies.*circuit=race"):
        learnt(net, Held(x, 8), target, engine=engine)


def test_sigmoid_units_without_memory_have_no_limit_in_closed_form() -> None:
    net, (x, target) = stream_net(memory=Memoryless(), transfer=Sigmoid()), rates()
    with pytest.raises(RecipeError, match=r"transfer.*running_mean"):
        learnt(net, Held(x, 8), target, engine=Expect())


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("engine", [Bits(), Expect()], ids=["bits", "expect"])
def test_rates_that_are_no_probabilities_are_refused(value: float, engine: AbstractEngine) -> None:
    net, (x, target) = stream_net(), rates()
    x[2, 3] = value
    for use in (
        lambda: learnt(net, Held(x, 4), target, engine=engine),
        lambda: Coincidence(engine=engine).predict(net, Held(x, 4)),
    ):
        with pytest.raises(PairError, match=r"input of a stream net.*from 0 to 1"):
            use()


def test_steps_of_their_own_are_bits_or_refused() -> None:
    net, (x, target) = stream_net(), rates()
    frames = (x.expand(6, *x.shape) > 0.5).double()
    learnt(net, frames, target)
    frames[4, 1, 2] = 0.5
    with pytest.raises(PairError, match=r"bits, 0 or 1.*Held"):
        learnt(net, frames, target)


@pytest.mark.parametrize("steps", [0, -3])
def test_streams_of_no_length_are_refused(steps: int) -> None:
    with pytest.raises(RecipeError, match=r"stream_length.*at least 1"):
        replace(find("ssnn-digits"), steps=steps)


@pytest.mark.parametrize("chunk", [0, -1])
def test_chunks_of_no_length_are_refused(chunk: int) -> None:
    with pytest.raises(RecipeError, match=r"temporal\.chunk"):
        Coincidence(chunk=chunk)


@pytest.mark.parametrize("bits", [0, 4, 32])
def test_comparators_of_other_widths_are_refused(bits: int) -> None:
    with pytest.raises(RecipeError, match=r"random_bits.*8, 16 or 24"):
        Bits(random_bits=bits)


@pytest.mark.parametrize(
    ("text", "settings", "word"),
    [
        ("4C3-P2-F4", {}, "maximum pool"),
        ("4C3-F4", {"gain": 2.0}, "gain=2"),
        ("4C3-F4", {"dropout": 0.2}, "dropout=0.2"),
        ("4C3-F4", {"standardise": True}, "stored"),
        ("4C3-F4", {"centre": True}, "stored"),
        ("4C3-4R3-F4", {}, "shortcut"),
    ],
)
def test_parts_of_layers_without_meaning_are_refused(text: str, settings: dict[str, Any], word: str) -> None:
    with pytest.raises(RecipeError, match=word):
        build(text, (2, 8, 8), neuron=Bitstream(), **settings)


@pytest.mark.parametrize("settings", [{"slope": 0.0}, {"slope": float("nan")}, {"slope": -4.0}])
def test_a_sigmoid_rises(settings: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="slope"):
        Sigmoid(**settings)


@pytest.mark.parametrize("leak", [-0.1, 1.0, float("nan")])
def test_a_leak_lies_below_one(leak: float) -> None:
    with pytest.raises(RecipeError, match=r"leak.*running_mean"):
        LeakyMean(leak=leak)


def learner(**parts: Any) -> Learner:
    net = parts.pop("net", None) or stream_net()
    settings = {"rule": Symmetric(), "temporal": Coincidence(), "loss": WinnerLoss()} | parts
    return Learner(net, optimiser=torch.optim.SGD(net.parameters(), lr=0.1), **settings)


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ({"rule": Symmetric(local=Readouts())}, "local errors"),
        ({"rule": Symmetric(noise=Noise(alpha=0.2))}, "noise"),
        ({"temporal": Trace()}, "coincidence for streams"),
        ({"net": build("F5-F4", (12,))}, "stream neurons"),
    ],
    ids=["local", "noise", "temporal", "stepped net"],
)
def test_parts_that_do_not_go_with_streams_are_refused(parts: dict[str, Any], word: str) -> None:
    with pytest.raises(PairError, match=word):
        learner(**parts)


def test_a_net_of_two_kinds_is_refused() -> None:
    with pytest.raises(RecipeError, match="one kind"):
        build("F5-F4", (12,), neuron=Bitstream(), readout=Integrator())
    with pytest.raises(RecipeError, match="one kind"):
        build("F5-F4", (12,), neuron=LIF(), readout=WinnerTakeAll())


def test_a_recipe_names_all_wrong_partners_at_once() -> None:
    wrong = {"readout": Integrator(), "temporal": Trace(), "encoder": Direct(), "gain": 2.0, "normalise": True}
    with pytest.raises(RecipeError) as raised:
        replace(find("ssnn-digits"), **wrong)
    said = str(raised.value)
    for word in ("Integrator", "Trace", "Direct", "gain=2.0", "normalise=True"):
        assert word in said, word
    for cure in ("readout=winner_take_all", "temporal=coincidence", "encoder=stream", "gain=1.0", "normalise=false"):
        assert cure in said, cure
    with pytest.raises(RecipeError, match=r"StepwiseLoss on the readout WinnerTakeAll.*loss=winner"):
        replace(find("ssnn-digits"), loss=StepwiseLoss())
    with pytest.raises(RecipeError, match="Bitstream, which spikes"):
        replace(find("ssnn-digits"), readout=Bitstream())


@pytest.mark.parametrize(
    ("setting", "word"),
    [("temporal.engine=counts", "mean of a whole stream"), ("stream_length=0", "whole number of at least 1")],
)
def test_the_command_line_says_so_in_a_sentence(setting: str, word: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aplysia", "run", "ssnn-digits", "--epochs", "1", "--set", setting]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert word in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
