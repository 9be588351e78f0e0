"""Out and in again: weights bit for bit, spikes equal, whoever it was written for; what cannot be said is refused unwritten."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from exchange_parts import TEXTS, alive, bits, check_explained, differing, lif_net, tied

import aplysia
from aplysia.errors import AplysiaError, RecipeError, RunError
from aplysia.exchange.conventions import DIALECTS, above, below, leak_of, time_constant
from aplysia.exchange.fold import fold
from aplysia.exchange.nir_write import to_nir, write
from aplysia.exchange.stepper import Stepper
from aplysia.neurons.bitstream import Bitstream
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.scan import HardReset

nir = pytest.importorskip("nir", reason="nir is not installed (extra 'nir')")

LEAKS = (0.0, 0.5, 0.9, 1.0)


def same(a: Any, b: Any) -> None:
    assert a.state_dict().keys() == b.state_dict().keys()
    for name, tensor in a.state_dict().items():
        assert torch.equal(tensor, b.state_dict()[name]), name
        assert tensor.dtype == b.state_dict()[name].dtype


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(text: str, leak: float, dialect: str, tmp_path: Path) -> None:
    if dialect == "spikingjelly" and leak == 0.0:
        pytest.skip("refused, see below")
    net = lif_net(text, leak=leak)
    write(tmp_path / "net.nir", to_nir(net, reader=DIALECTS[dialect], steps=6, about={"name": "mine"}))
    got = aplysia.from_nir(tmp_path / "net.nir")
    same(net, got.net)
    assert [layer.neuron for layer in net.all] == [layer.neuron for layer in got.net.all]
    assert [layer.pools for layer in net.all] == [layer.pools for layer in got.net.all] or text == "8C3s2-AG-F10"
    assert (got.dt, got.steps, got.about["name"]) == (DIALECTS[dialect].dt, 6, "mine")
    x = bits(net)
    want, have = net(x), got.net(x)
    alive(net, want.outs)
    assert all(torch.equal(a, b) for a, b in zip(want.outs, have.outs, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("readout", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("leak", LEAKS)
def test_the_equations_of_nir_step_to_the_same_spikes(leak: float, readout: float, dtype: torch.dtype) -> None:
    """Measured on a runner that knows the equations only; with ties, which a strict inequality would tell apart."""
    net = lif_net("12C3-P2-F30-F10", leak=leak, threshold=0.5, readout=Integrator(leak=readout)).to(dtype)
    ties = leak in (0.0, 0.5, 1.0)  # whose products are exact in any order
    net = tied(net) if ties else net
    x = bits(net)
    want = net(x)
    alive(net, want.outs)
    if ties:
        current = torch.nn.functional.conv2d(x[0], net.all[0].weight, net.all[0].bias, padding=1)
        assert bool((current == 0.5).any()), "a membrane meets the threshold"
    seen = Stepper(to_nir(net), 1e-4, dtype=dtype).run(x, [f"{layer.name}_neuron" for layer in net.hidden])
    if ties or dtype == torch.float64:
        assert differing(net, want.outs, seen) == 0
        torch.testing.assert_close(seen["output"], want.outs[-1], rtol=1e-5, atol=1e-5)
    else:
        check_explained(net, x, want.outs, seen)


def test_a_bias_that_is_not_there_stays_away(tmp_path: Path) -> None:
    net = lif_net("8C3-A2-F20-F10", bias=False)
    write(tmp_path / "net.nir", to_nir(net))
    got = aplysia.from_nir(tmp_path / "net.nir").net
    assert all(layer.bias is None for layer in got.all)
    same(net, got)


def test_standardised_weights_and_gains_are_folded_and_dropout_vanishes() -> None:
    net = lif_net("8C3-A2-F20-F10", standardise=True, gain=2.74, dropout=0.3, seed=2)
    with torch.no_grad():
        for layer in net.hidden:
            assert layer.weight_gain is not None
            layer.weight_gain.uniform_(0.5, 1.5)
    plain = fold(net)
    got = aplysia.from_nir(to_nir(net)).net
    same(plain, got)
    assert all(layer.weight_gain is None and layer.gain == 1.0 and layer.dropout == 0.0 for layer in got.all)
    x = bits(net)
    want, have = net(x), got(x)
    alive(net, want.outs)
    for a, b in zip(want.outs[:-1], have.outs, strict=False):
        assert torch.equal((a > 0).float(), b)
    torch.testing.assert_close(have.outs[-1], want.outs[-1], rtol=1e-5, atol=1e-5)


def test_centred_weights_are_folded() -> None:
    net = lif_net("F40-F10", centre=True)
    same(fold(net), aplysia.from_nir(to_nir(net)).net)


def test_a_reset_to_another_value_and_other_steps_of_time() -> None:
    net = aplysia.build("F40-F10", (1, 8, 8), neuron=LIF(leak=0.7, threshold=0.4, reset=HardReset(value=-0.2)))
    got = aplysia.from_nir(to_nir(net, dt=2e-3))
    assert got.dt == 2e-3
    assert got.net.all[0].neuron == net.all[0].neuron


@pytest.mark.parametrize("dt", [1e-4, 1e-3, 0.7, 1.0])
def test_a_time_constant_gives_its_leak_back(dt: float) -> None:
    leaks = torch.rand(500, dtype=torch.float64).tolist()
    close = [leak_of(time_constant(leak, dt), dt) - leak for leak in leaks]
    assert max(abs(error) for error in close) <= 2.3e-16
    exact = [leak_of(time_constant(leak, dt), dt) == leak for leak in leaks if leak >= 0.8]
    assert all(exact)


def test_next_numbers() -> None:
    import numpy as np

    for dtype in (np.float32, np.float64):
        assert below(1.0, dtype) < 1.0 < above(1.0, dtype)
        assert above(below(0.3, dtype), dtype) == float(dtype(0.3))


def test_what_a_file_does_not_say_can_be_told(tmp_path: Path) -> None:
    graph = to_nir(lif_net("F40-F10", leak=0.5))
    graph.metadata = {}
    write(tmp_path / "net.nir", graph)
    with pytest.raises(RunError, match=r"expected dt, the seconds of a step.*got a file that does not say; pass dt="):
        aplysia.from_nir(tmp_path / "net.nir")
    got = aplysia.from_nir(tmp_path / "net.nir", dt=1e-4, steps=5)
    assert (got.dt, got.steps, got.about) == (1e-4, 5, {})
    half = aplysia.from_nir(tmp_path / "net.nir", dt=5e-5).net.all[0].neuron
    assert isinstance(half, LIF)
    assert half.leak == 0.75  # the same τ in finer steps; an input then counts half
    assert half.threshold == pytest.approx(0.6)


def test_an_edited_file_wins_over_its_notes() -> None:
    graph = to_nir(lif_net("F40-F10", leak=0.5))
    graph.nodes["dense1_neuron"].tau *= 2
    graph.nodes["dense1_neuron"].r *= 2
    graph.nodes["dense1_neuron"].v_threshold *= 2
    neuron = aplysia.from_nir(graph).net.all[0].neuron
    assert isinstance(neuron, LIF)
    assert neuron.leak == 0.75
    assert neuron.threshold == pytest.approx(0.6)


def reasons(net: Any, **options: Any) -> str:
    with pytest.raises(RunError) as refusal:
        to_nir(net, **options)
    return str(refusal.value)


def test_everything_that_nir_cannot_say_is_told_at_once() -> None:
    said = reasons(aplysia.build("64C7s2a3-8C3g2-8R3-F10", (1, 28, 28)))
    for part in (
        "conv1, conv2, block3a, block3b: a soft reset",
        "conv1: a pool of currents",
        "conv2: 2 groups",
        "block3b: a residual shortcut",
        "change these in the recipe and train again",
    ):
        assert part in said
    assert "Bitstream neurons, which are no primitive of NIR" in reasons(
        aplysia.build("F20-F10", (1, 8, 8), neuron=Bitstream())
    )
    assert "conv1: a maximum pool on the input" in reasons(lif_net("P2-8C3-F10"))
    assert "readout: a maximum pool behind an average" in reasons(lif_net("8C3-A2-P2-F10"))
    assert "dt=0, which is no time" in reasons(lif_net("F10"), dt=0.0)


def test_what_one_library_cannot_read_is_refused_for_it_alone() -> None:
    memory = lif_net("F20-F10", readout=Integrator(leak=0.5))
    for name in ("snntorch", "spikingjelly", "norse"):
        said = reasons(memory, reader=DIALECTS[name])
        assert f"a readout with leak 0.5, which {name} does not read" in said
        assert "leave out --for, which NIR itself can say" in said
        away = aplysia.build("F20-F10", (1, 8, 8), neuron=LIF(reset=HardReset(value=0.1)))
        assert f"a reset to 0.1, which {name} does not take over" in reasons(away, reader=DIALECTS[name])
    assert "leak 0, which spikingjelly refuses" in reasons(
        lif_net("F20-F10", leak=0.0), reader=DIALECTS["spikingjelly"]
    )
    assert "snntorch always reads with 0.0001" in reasons(lif_net("F20-F10"), reader=DIALECTS["snntorch"], dt=1e-3)
    with pytest.raises(RecipeError, match="did you mean 'snntorch'"):
        aplysia.from_nir(to_nir(memory), writer="snntorche")


def test_what_cannot_be_read_is_told_at_once() -> None:
    graph = to_nir(lif_net("F40-F30-F10"))
    graph.nodes["dense1_neuron"].tau[3] *= 2
    graph.nodes["dense2_neuron"].v_leak += 0.1
    with pytest.raises(RunError) as refusal:
        aplysia.from_nir(graph)
    assert "dense1_neuron: tau from" in str(refusal.value)
    assert "dense2_neuron: v_leak=0.1" in str(refusal.value)
    graph = to_nir(lif_net("F40-F10"))
    graph.edges.append(("dense1_neuron", "dense1"))
    with pytest.raises(RunError, match="dense1: 2 ways into it"):
        aplysia.from_nir(graph)
    graph = to_nir(lif_net("8C3-A2-F10"))
    graph.nodes["pool2"].stride = graph.nodes["pool2"].stride - 1
    with pytest.raises(RunError, match="pool2: windows of"):
        aplysia.from_nir(graph)


@pytest.mark.parametrize("content", [None, b"", b"not HDF5 at all", "truncated"])
def test_a_damaged_file_is_one_sentence(content: bytes | str | None, tmp_path: Path) -> None:
    file = tmp_path / "net.nir"
    if content == "truncated":
        write(file, to_nir(lif_net("F40-F10")))
        content = file.read_bytes()[:2000]
    if isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(RunError, match=r"expected a file of NIR, got (no such file|none that can be read)"):
        aplysia.from_nir(file)


def test_notes_that_are_damaged_or_newer() -> None:
    graph = to_nir(lif_net("F40-F10"))
    whole = json.loads(graph.metadata["aplysia"])
    graph.metadata["aplysia"] = "{"
    with pytest.raises(RunError, match="expected notes in JSON, got damage"):
        aplysia.from_nir(graph)
    graph.metadata["aplysia"] = json.dumps(whole | {"format": 2})
    with pytest.raises(RunError, match="expected format 1 or older, got format 2 of a newer Aplysia"):
        aplysia.from_nir(graph)


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="expected a place that can be written"):
        write(tmp_path / "none" / "net.nir", to_nir(lif_net("F10")))
    assert not list(tmp_path.iterdir())


def test_without_the_package_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    net = lif_net("F10")
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(
        AplysiaError, match=r"expected the package nir, got none installed; run pip install 'aplysia\[nir\]'"
    ):
        to_nir(net)
