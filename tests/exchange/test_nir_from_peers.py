"""Nets built in snnTorch, SpikingJelly and Norse, written by their own exporters and read here: the same spikes, every one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from exchange_parts import alive, quiet, read_by, sequence
from torch import Tensor, nn

import aplysia
from aplysia.ops.scan import SoftReset

nir = pytest.importorskip("nir", reason="nir is not installed (extra 'nir')")
with quiet():
    pytest.importorskip("snntorch", reason="the peers are not installed (extra 'peers')")
    pytest.importorskip("spikingjelly", reason="the peers are not installed (extra 'peers')")
    pytest.importorskip("norse.torch", reason="the peers are not installed (extra 'peers')")


def spikes(x: Tensor) -> Tensor:
    return (torch.rand_like(x) < 0.3).float()


def snntorch_net(mechanism: str) -> nn.Sequential:
    import snntorch

    def leaky(*shape: int) -> nn.Module:
        beta, threshold = torch.full(shape, 0.8), torch.full(shape, 0.25)
        return snntorch.Leaky(beta=beta, threshold=threshold, reset_mechanism=mechanism, init_hidden=True)

    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        leaky(6, 8, 8),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, bias=False),
        leaky(8, 2, 2),
        nn.Flatten(),
        nn.Linear(32, 10),
        leaky(10),
    )


@pytest.mark.parametrize("mechanism", ["zero", "subtract"])
def test_a_net_of_snntorch(mechanism: str, tmp_path: Path) -> None:
    """Its writer says nothing of the reset; the default, a soft one a step later, has to be told."""
    x = spikes(torch.empty(12, 16, 1, 8, 8))
    with quiet():
        from snntorch.export_nir import export_to_nir

        net = snntorch_net(mechanism)
        nir.write(str(tmp_path / "net.nir"), export_to_nir(net, x[0, :1], ignore_dims=[0]))
        for part in net:
            getattr(part, "reset_mem", lambda: None)()
        want = sequence(net, x)
    reset = SoftReset(amount=0.25 / 0.8) if mechanism == "subtract" else None
    got = aplysia.from_nir(tmp_path / "net.nir", writer="snntorch", reset=reset)
    with torch.no_grad():
        have = got.net(x).outs
        silent = aplysia.from_nir(tmp_path / "net.nir", writer="snntorch").net(x).outs
    alive(got.net, have)
    assert torch.equal(have[-1], want)
    if mechanism == "subtract":
        assert not torch.equal(silent[-1], want)


@pytest.mark.parametrize("kind", ["lif", "lif-decayed", "if", "lif-away"])
def test_a_net_of_spikingjelly(kind: str, tmp_path: Path) -> None:
    """With a membrane that starts from, leaks to and resets to another value in the last case."""
    x = spikes(torch.empty(12, 16, 1, 8, 8))
    with quiet():
        from spikingjelly.activation_based import functional, layer, neuron
        from spikingjelly.activation_based.nir_exchange import export_to_nir

        def node() -> nn.Module:
            if kind == "if":
                return neuron.IFNode(v_threshold=0.5, v_reset=0.0)
            decayed, away = kind == "lif-decayed", 0.25 if kind == "lif-away" else 0.0
            return neuron.LIFNode(tau=2.0, decay_input=decayed, v_threshold=0.25 if decayed else 0.5, v_reset=away)

        net = nn.Sequential(
            layer.Conv2d(1, 6, 3, padding=1),
            node(),
            layer.AvgPool2d(2),
            layer.Flatten(),
            layer.Linear(96, 20),
            node(),
            layer.Linear(20, 10, bias=False),
        )
        with torch.no_grad():  # ties
            for part in net:
                if hasattr(part, "weight"):
                    part.weight.copy_((part.weight * 24).round() / 8)  # type: ignore[union-attr]
                if getattr(part, "bias", None) is not None:
                    part.bias.zero_()  # type: ignore[union-attr]
        nir.write(str(tmp_path / "net.nir"), export_to_nir(net, x[0, :1]))
        functional.reset_net(net)
        want = sequence(net, x)
    got = aplysia.from_nir(tmp_path / "net.nir", writer="spikingjelly")
    with torch.no_grad():
        have = got.net(x).outs
    alive(got.net, have)
    assert torch.equal(have[-1], want)
    if kind != "lif-away":
        with torch.no_grad():
            strict = aplysia.from_nir(tmp_path / "net.nir", dt=1e-4).net(x).outs
        assert not torch.equal(strict[-1], want)


def test_a_net_of_norse(tmp_path: Path) -> None:
    """Its writer's τ is too small by the factor dt, and its own reader does not take that back."""
    x = spikes(torch.empty(12, 16, 64))
    with quiet():
        import norse.torch as norse
        from norse.torch.utils.export_nir import to_nir as norse_to_nir

        def box(units: int, threshold: float) -> nn.Module:
            full = (torch.full((units,), value) for value in (200.0, 0.0, threshold))
            rate, leak, at = full
            return norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=rate, v_leak=leak, v_th=at))

        net = norse.SequentialState(nn.Linear(64, 40), box(40, 0.1), nn.Linear(40, 10), box(10, 0.05))
        nir.write(str(tmp_path / "net.nir"), norse_to_nir(net, x[0, :1]))
        outs, state = [], None
        with torch.no_grad():
            for step in x:
                out, state = net(step, state)
                outs.append(out)
        back, _ = read_by("norse", tmp_path / "net.nir", x, [], dt=1e-3) if _readable(tmp_path) else (None, {})
    want = torch.stack(outs)
    got = aplysia.from_nir(tmp_path / "net.nir", writer="norse")
    assert [round(layer.neuron.leak, 6) for layer in got.net.all] == [0.8, 0.8]  # type: ignore[attr-defined]
    with torch.no_grad():
        have = got.net(x).outs
    alive(got.net, have)
    assert torch.equal(have[-1], want)
    assert back is None or not torch.equal(back, want)


def _readable(folder: Path) -> bool:
    """Whether the package reads a file in which the batch's axis was left in Input."""
    try:
        nir.read(str(folder / "net.nir"))
    except ValueError:
        return False
    return True
