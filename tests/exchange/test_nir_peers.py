"""Files of ours in snnTorch, SpikingJelly and Norse: the same spikes, the same accuracy.

Tolerance: none in snnTorch and SpikingJelly, whose step rounds as ours does, and none for membranes that are exact in any
order. Norse adds (1 − λ)·(I − v) to v, which rounds in other places: a spike may differ where the membrane, in double
precision, has come within 1e-5 of the threshold, and behind such a spike. None did in these nets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from exchange_parts import (
    LIBRARIES,
    TEXTS,
    alive,
    bits,
    check_explained,
    differing,
    lif_net,
    quiet,
    read_by,
    tied,
    trained,
)
from torch import Tensor, nn

import aplysia
from aplysia.exchange.conventions import DIALECTS
from aplysia.exchange.nir_write import to_nir, write
from aplysia.nets.net import Net
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.scan import HardReset
from aplysia.train.load import Loaded
from aplysia.types import Held

nir = pytest.importorskip("nir", reason="nir is not installed (extra 'nir')")
with quiet():
    pytest.importorskip("snntorch", reason="the peers are not installed (extra 'peers')")
    pytest.importorskip("spikingjelly", reason="the peers are not installed (extra 'peers')")
    pytest.importorskip("norse.torch", reason="the peers are not installed (extra 'peers')")


def there(library: str, net: Net, x: Tensor, tmp_path: Path, *, reader: str = "") -> tuple[Tensor, dict[str, Tensor]]:
    """A net written for one library (or for `reader`) and run in it."""
    dialect = DIALECTS[reader or library]
    write(tmp_path / "net.nir", to_nir(net, reader=dialect, dt=DIALECTS[library].dt))
    watch = [f"{layer.name}_neuron" for layer in net.all if layer.neuron.spiking]
    return read_by(library, tmp_path / "net.nir", x, watch, dt=DIALECTS[library].dt)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("leak", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("text", TEXTS)
def test_the_same_spikes(text: str, leak: float, library: str, tmp_path: Path) -> None:
    if library == "spikingjelly" and leak == 0.0:
        pytest.skip("refused when it is written")
    net = lif_net(text, leak=leak)
    x = bits(net)
    want = net(x).outs
    alive(net, want)
    outs, seen = there(library, net, x, tmp_path)
    if library == "norse":
        check_explained(net, x, want, seen)
    else:
        assert differing(net, want, seen) == 0
    torch.testing.assert_close(outs, want[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("leak", [0.5, 1.0])
def test_a_membrane_that_meets_its_threshold_fires_everywhere(leak: float, library: str, tmp_path: Path) -> None:
    net = tied(lif_net("F40-F30-F10", leak=leak, threshold=0.5))
    x = bits(net)
    currents = torch.nn.functional.linear(x[0].flatten(1), net.all[0].weight)
    assert float((currents == 0.5).float().mean()) > 0.02
    want = net(x).outs
    alive(net, want)
    _, seen = there(library, net, x, tmp_path)
    assert differing(net, want, seen) == 0


@pytest.fixture(scope="module", params=["F64-F48-F10", "8C3-A2-F32-F10"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, dict[str, Any]]:
    return trained(tmp_path_factory.mktemp("runs") / "run", net=request.param)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_trained_net_has_the_same_test_accuracy(
    library: str, run: tuple[Loaded, dict[str, Any]], tmp_path: Path
) -> None:
    loaded, summary = run
    test = loaded.recipe.data.load(Path(), steps=6).test
    assert isinstance(test.inputs, Tensor)
    held = loaded.input(test.inputs)
    assert isinstance(held, Held)
    x = held.value.expand(held.steps, *held.value.shape)
    with torch.no_grad():
        want = loaded.net(x).outs
    alive(loaded.net, want)
    outs, seen = there(library, loaded.net, x, tmp_path)
    check_explained(loaded.net, x, want, seen)
    assert differing(loaded.net, want, seen) == 0
    accuracy = float((outs.mean(0).argmax(1) == test.labels).double().mean())
    assert accuracy == summary["test_accuracy"]
    assert accuracy > 0.8


# ── what goes wrong without the dialect, so that each of its parts is there for a reason ─────────────────────────────────


def plain_file(library: str, net: Net, x: Tensor, tmp_path: Path) -> tuple[int, list[Tensor]]:
    want = net(x).outs
    alive(net, want)
    _, seen = there(library, net, x, tmp_path, reader="nir")
    return differing(net, want, seen), want


def test_snntorch_reads_if_as_another_neuron(tmp_path: Path) -> None:
    net = lif_net("F40-F30-F10", leak=1.0)
    with pytest.raises(AssertionError, match="r != 1 not supported"):
        plain_file("snntorch", net, bits(net), tmp_path)
    write(tmp_path / "net.nir", to_nir(net, dt=1.0))  # R = 1/dt = 1
    with quiet():
        from snntorch.import_nir import import_from_nir

        module = import_from_nir(nir.read(str(tmp_path / "net.nir")))
        assert float(module.dense1_neuron.beta) == pytest.approx(0.9)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="must be Tensor, not tuple"):
            module(bits(net)[0])


def test_snntorch_has_a_step_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "net.nir", to_nir(lif_net("F40-F10", leak=0.5), dt=1e-3))
    with quiet():
        from snntorch.import_nir import import_from_nir

        module = import_from_nir(nir.read(str(tmp_path / "net.nir")))
    torch.testing.assert_close(module.dense1_neuron.beta, torch.full((40,), 0.95))  # type: ignore[arg-type]


def test_norse_ignores_the_scale_of_the_input_and_drops_average_pools(tmp_path: Path) -> None:
    net = lif_net("F40-F30-F10", leak=0.9)
    differ, want = plain_file("norse", net, bits(net), tmp_path)
    assert differ > 0.1 * want[0].numel()
    net = lif_net("8C3-A2-F10")
    write(tmp_path / "net.nir", to_nir(net, dt=1e-3))
    with quiet():
        import norse.torch

        module = norse.torch.from_nir(nir.read(str(tmp_path / "net.nir")), dt=1e-3)
    assert not any(isinstance(part, nn.AvgPool2d) for part in module.modules())


@pytest.mark.parametrize("library", ["snntorch", "norse"])
def test_a_threshold_is_strict_but_in_spikingjelly(library: str, tmp_path: Path) -> None:
    net = tied(lif_net("F40-F30-F10", leak=1.0 if library == "norse" else 0.5, threshold=0.5))
    x = bits(net)
    want = net(x).outs
    alive(net, want)
    _, seen = there(library, net, x, tmp_path, reader="spikingjelly")
    assert differing(net, want, seen) > 0
    _, seen = there("spikingjelly", net, x, tmp_path)
    assert differing(net, want, seen) == 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_none_reads_a_readout_that_remembers(library: str, tmp_path: Path) -> None:
    net = lif_net("F40-F10", readout=Integrator(leak=0.5))
    write(tmp_path / "net.nir", to_nir(net, dt=DIALECTS[library].dt))
    x = bits(net)
    with torch.no_grad():
        want = net(x).outs
    alive(net, want)
    if library != "norse":
        with pytest.raises(ValueError, match="Unknown node type"):
            read_by(library, tmp_path / "net.nir", x, [], dt=DIALECTS[library].dt)
        return
    outs, _ = read_by(library, tmp_path / "net.nir", x, [], dt=DIALECTS[library].dt)  # drops it
    assert outs.shape != want[-1].shape or not torch.allclose(outs, want[-1], atol=1e-2)


@pytest.mark.parametrize("library", LIBRARIES)
def test_none_reads_a_reset_to_another_value_as_we_do(library: str, tmp_path: Path) -> None:
    neuron = LIF(leak=0.5, threshold=0.3, reset=HardReset(value=-0.4))
    net = aplysia.build("F40-F10", (1, 8, 8), neuron=neuron).requires_grad_(False)
    x = bits(net)
    want = net(x).outs
    alive(net, want)
    plain = to_nir(net, dt=DIALECTS[library].dt)
    if library == "norse":
        plain.nodes["dense1_neuron"].r /= 2  # R = 1, as it takes it
        plain.nodes["dense1_neuron"].v_threshold /= 2
        plain.nodes["dense1_neuron"].v_reset /= 2
    write(tmp_path / "net.nir", plain)
    if library == "spikingjelly":
        with pytest.raises(ValueError, match="v_leak must equal v_reset"):
            read_by(library, tmp_path / "net.nir", x, [], dt=1e-4)
        return
    _, seen = read_by(library, tmp_path / "net.nir", x, ["dense1_neuron"], dt=DIALECTS[library].dt)
    assert differing(net, want, seen) > 0
    at_zero = lif_net("F40-F10")
    at_zero.load_state_dict(net.state_dict())
    assert differing(at_zero, at_zero(x).outs, seen) == 0


def test_spikingjelly_refuses_a_neuron_without_memory(tmp_path: Path) -> None:
    net = lif_net("F40-F10", leak=0.0)
    write(tmp_path / "net.nir", to_nir(net))
    with pytest.raises(ValueError, match="greater than 1"):
        read_by("spikingjelly", tmp_path / "net.nir", bits(net), [], dt=1e-4)
