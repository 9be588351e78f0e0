"""Products in bf16: how far they are from float64's, what stays in float32, where they are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import gradients
from torch import Tensor
from typer.testing import CliRunner

import aplysia
from aplysia.cli import app
from aplysia.errors import RecipeError
from aplysia.neurons.bitstream import Bitstream
from aplysia.neurons.windowed import Windowed
from aplysia.ops.geometry import AbstractGeometry, Conv2d, Dense
from aplysia.ops.precision import Bfloat16, Float32, Narrow

# Half a unit in the last of bf16's 8 places.
ROUNDING = 2.0**-8
SHAPES = {
    "dense": (Dense(), (32, 96), (48, 96), (32, 48)),
    "conv": (Conv2d(2, 1), (8, 6, 9, 9), (12, 6, 3, 3), (8, 12, 5, 5)),
}
each_shape = pytest.mark.parametrize(("plain", "drive", "weight", "out"), SHAPES.values(), ids=SHAPES)


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spikes(shape: tuple[int, ...]) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(9)) < 0.3).float()


@each_shape
def test_spikes_through_whole_weights_are_exact(
    plain: AbstractGeometry, drive: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...]
) -> None:
    """Sums below 256 are whole numbers that bf16 holds."""
    w = torch.randint(-3, 4, weight, generator=torch.Generator().manual_seed(0)).float()
    exact = plain.forward(spikes(drive), w)
    assert exact.shape == out
    assert 3 < exact.abs().max() < 256
    assert torch.equal(Narrow(plain, torch.bfloat16).forward(spikes(drive), w), exact)


@each_shape
def test_all_three_products_are_off_by_roundings_of_their_operands(
    plain: AbstractGeometry, drive: tuple[int, ...], weight: tuple[int, ...], out: tuple[int, ...]
) -> None:
    """Each operand and the result are rounded once: at most three roundings of the sum of sizes."""
    x, w, delta = normal(drive, 0), normal(weight, 1), normal(out, 2)
    narrow = Narrow(plain, torch.bfloat16)

    def three(g: AbstractGeometry, kind: torch.dtype, size: bool) -> list[Tensor]:
        a, b, c = (t.to(kind).abs() if size else t.to(kind) for t in (x, w, delta))
        return [g.forward(a, b), g.error(c, b, a.shape), g.outer(c, a, b.shape)]

    for got, exact, size in zip(
        three(narrow, torch.float32, False),
        three(plain, torch.float64, False),
        three(plain, torch.float64, True),
        strict=True,
    ):
        assert got.dtype == torch.float32
        gap = (got - exact).abs()
        assert gap.max() > 0
        assert bool((gap <= 3.1 * ROUNDING * size).all())


def test_only_products_are_narrow() -> None:
    net = aplysia.build("4C3-A2-16R3-F24-F10", (1, 8, 8), precision=Bfloat16())
    assert isinstance(net.readout.precision, Float32)
    assert all(isinstance(layer.precision, Bfloat16) for layer in net.synapses if layer is not net.readout)
    rule = aplysia.rules.PseudoZerothOrder()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    learner = aplysia.Learner(net, rule=rule, optimiser=optimiser)
    images = aplysia.Held(4.0 * torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), 4)
    record = learner.learn(images, torch.arange(6))
    assert all(count > 0 for count in record.spikes[:-1])
    tensors = {**gradients(net), **rule.tensors, "logits": record.logits}
    assert {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()} == {torch.float32}
    done = net(images)
    assert {v.dtype for state in done.states for v in state.neuron or ()} == {torch.float32}


def test_gradients_point_where_those_of_float32_do() -> None:
    found = []
    for precision in (Float32(), Bfloat16()):
        net = aplysia.build("F128-F128-F10", (64,), precision=precision)
        learner = aplysia.Learner(net, rule=aplysia.rules.Symmetric(), optimiser=torch.optim.SGD(net.parameters()))
        x = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)) * 2.0
        record = learner.learn(aplysia.Held(x, 6), torch.arange(64) % 10)
        assert all(0.02 < float(n) / slots < 0.9 for n, slots in zip(record.spikes[:-1], record.slots, strict=False))
        found.append(gradients(net))
    for name, exact in found[0].items():
        cosine = torch.nn.functional.cosine_similarity(exact.flatten(), found[1][name].flatten(), dim=0)
        assert float(cosine) > 0.98, name
        assert not torch.equal(exact, found[1][name]) or "readout" in name


@pytest.mark.parametrize("neuron", [Windowed(), Bitstream()], ids=lambda neuron: neuron.kind)
def test_times_and_bits_are_refused(neuron: object) -> None:
    with pytest.raises(RecipeError, match="precision: expected float32 for"):
        aplysia.build("F16-F10", (64,), neuron=neuron, precision=Bfloat16())  # type: ignore[arg-type]


def test_a_run_in_bf16_says_so_and_its_counts_agree(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["run", "digits-mlp", "--set", "precision=bfloat16", "--set", "rule=direct_feedback", "--epochs", "2"]
    done = CliRunner().invoke(app, [*words, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads((out / "recipe.json").read_text())["precision"] == {
        "kind": "bfloat16",
        "events": True,
        "winograd": True,
    }
    assert json.loads((out / "summary.json").read_text())["test_accuracy"] > 0.5
    audited = CliRunner().invoke(app, ["audit", str(out)])
    assert audited.exit_code == 0, audited.output
    assert aplysia.load(out).net.hidden[0].precision == Bfloat16()
    refused = CliRunner().invoke(app, ["run", "digits-ttfs", "--set", "precision=bfloat16"])
    assert refused.exit_code != 0
    assert "precision=float32" in str(refused.exception)
