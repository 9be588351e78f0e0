"""First-spike nets as graphs that step: how far from the closed form, that it is due to time alone, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

import aplysia
from aplysia.errors import RunError
from aplysia.exchange.first_spike import to_nir
from aplysia.exchange.first_spike_steps import Grid, compare
from aplysia.exchange.nir_write import to_nir as stepped
from aplysia.exchange.nir_write import write
from aplysia.exchange.stepper import Stepper
from aplysia.nets.initial import PositiveMean
from aplysia.nets.net import Net
from aplysia.neurons.constant_slope import ConstantSlope
from aplysia.neurons.potential import End, Potential, Start
from aplysia.neurons.ramp import Ramp
from aplysia.neurons.windowed import Windowed

nir = pytest.importorskip("nir", reason="nir is not installed (extra 'nir')")

INIT = PositiveMean(mean=0.6, gain=1.0)


def net_of(text: str, *, window: float = 1.0, reading: object = None, spiking: bool = False, bias: bool = True) -> Net:
    readout = Windowed(window=window) if spiking else Potential(reading=reading or End(window=window))  # type: ignore[arg-type]
    neuron = Windowed(window=window, threshold=1.0)
    net = aplysia.build(text, (1, 8, 8), neuron=neuron, readout=readout, bias=bias, init=INIT, seed=1)
    with torch.no_grad():
        for layer in net.all:
            if layer.bias is not None:
                layer.bias.uniform_(-0.2, 0.2)
    return net.double().eval().requires_grad_(False)


def images(window: float = 1.0, batch: int = 12) -> Tensor:
    x = torch.rand(batch, 1, 8, 8, dtype=torch.float64)
    return torch.where(x < 0.2, torch.zeros_like(x), x) * window


def alive(net: Net, x: Tensor) -> None:
    for layer, out in zip(net.all, net(x.unsqueeze(0)).outs, strict=True):
        if layer.neuron.spiking:
            between = ((out > 0) & (out < layer.neuron.saturation)).double().mean()  # type: ignore[attr-defined]
            assert 0.1 < float(between) < 0.95


@pytest.mark.parametrize("window", [1.0, 2.0])
@pytest.mark.parametrize("text", ["F40-F30-F10", "6C3-P2-F20-F10", "6C3-A2-F20-F10", "P2-6C3-F10"])
def test_exact_inputs_give_spikes_within_half_a_step(text: str, window: float) -> None:
    """The first layer's inputs lie in the middle of their steps: then its spikes are known as well as steps can say."""
    net, per_window = net_of(text, window=window), 32
    graph, grid = to_nir(net, per_window)
    middle = (torch.arange(per_window) + 0.5) * grid.dt
    x = window - middle[torch.randint(0, per_window, (24, 1, 8, 8))].double()
    x[torch.rand_like(x) < 0.3] = 0.0
    alive(net, x)
    first = net.all[0]
    seen = Stepper(graph, grid.dt).run(grid.spikes(x), [f"{first.name}_neuron"])[f"{first.name}_neuron"]
    want, have = net(x.unsqueeze(0)).outs[0][0], grid.earliness(seen, 1)
    both = (want > 0) & (have > 0)
    assert float((want - have)[both].abs().max()) <= grid.dt / 2 + 1e-9
    assert not bool(((want > 0) != (have > 0)).any())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("text", ["F40-F30-F10", "6C3-P2-F20-F10"])
def test_the_error_falls_as_the_steps_get_shorter(text: str, bias: bool) -> None:
    net, x = net_of(text, bias=bias), images()
    alive(net, x)
    means = []
    for per_window in (16, 64, 256):
        rows, exact, steps = compare(net, *to_nir(net, per_window), x)
        means.append([row.mean for row in rows])
        assert rows[0].largest < 8.0 / per_window
    # A quarter each time in the first layer. Behind it a unit may come or go at the edge of its window, with all it drives.
    assert all(fine[0] < 0.35 * coarse[0] for coarse, fine in itertools.pairwise(means))
    assert all(fine < 0.25 * coarse for coarse, fine in zip(means[0], means[-1], strict=True))
    assert means[-1][-1] < 0.01
    assert torch.equal(exact.argmax(1), steps.argmax(1))
    torch.testing.assert_close(steps, exact, rtol=0.0, atol=0.1)


def test_a_potential_read_at_the_start_and_a_readout_that_spikes() -> None:
    x = images()
    for net in (net_of("F30-F10", reading=Start()), net_of("F30-F20-F10", spiking=True)):
        rows, exact, readings = compare(net, *to_nir(net, 256), x)
        assert rows[-1].mean < 0.01
        assert rows[-1].changed < 0.01
        assert exact.shape == readings.shape == (12, 10)


def test_a_unit_fires_once_and_in_its_window_alone() -> None:
    net, x = net_of("6C3-P2-F20-F10"), images()
    graph, grid = to_nir(net, 32)
    names = [f"{layer.name}_neuron" for layer in net.hidden]
    seen = Stepper(graph, grid.dt).run(grid.spikes(x), [*names, "pool2_first", "conv1_open", "conv1_close"])
    for place, name in enumerate(names, start=1):
        spikes = seen[name]
        assert float(spikes.sum(0).max()) == 1.0
        inside = spikes[place * 32 - 1 : (place + 1) * 32].sum()
        assert 0 < float(inside) == float(spikes.sum())
    assert float(seen["pool2_first"].sum(0).max()) == 1.0
    for name, step in (("conv1_open", 31), ("conv1_close", 64)):
        assert bool((seen[name].flatten(1).sum(1).nonzero().flatten() == step).all())
        assert float(seen[name].sum(0).min()) == 1.0


def test_units_that_fire_at_once_and_units_without_input() -> None:
    net = net_of("F3-F2", bias=True)
    with torch.no_grad():
        net.all[0].weight.zero_()
        net.all[0].weight[0] += 1.0  # far beyond the threshold when the window opens
        assert net.all[0].bias is not None
        net.all[0].bias.copy_(torch.tensor([0.0, 0.0, 0.5]))
    graph, grid = to_nir(net, 64)
    rows, _, _ = compare(net, graph, grid, images())
    seen = Stepper(graph, grid.dt).run(grid.spikes(images()), ["dense1_neuron"])["dense1_neuron"]
    assert bool((seen[63, :, 0] == 1.0).all())  # z is known, and above ϑ
    assert not bool(seen[..., 1:].any())
    assert rows[0].changed == 0.0


def test_the_file_holds_it_all(tmp_path: Path) -> None:
    net, x = net_of("6C3-P2-F20-F10"), images()
    graph, grid = to_nir(net, 32)
    write(tmp_path / "net.nir", graph)
    again = nir.read(str(tmp_path / "net.nir"))
    a, b = (Stepper(one, grid.dt).run(grid.spikes(x))["output"] for one in (graph, again))
    assert torch.equal(a, b)
    with pytest.raises(RunError, match="got the stepwise equivalent of a first-spike net"):
        aplysia.from_nir(tmp_path / "net.nir")


def test_impulses_and_earliness() -> None:
    grid = Grid(2.0, 4, 2)
    x = torch.tensor([[0.0, 2.0, 1.75, 0.3, 1e-9]])
    spikes = grid.spikes(x)
    assert spikes.shape == (8, 1, 5)
    assert spikes.nonzero()[:, [2, 0]].sort(0).values.tolist() == [[1, 0], [2, 0], [3, 3], [4, 3]]
    torch.testing.assert_close(grid.earliness(spikes, 0), torch.tensor([[0.0, 1.75, 1.75, 0.25, 0.25]]))


def test_what_has_no_stepwise_equivalent() -> None:
    slopes = aplysia.build("F20-F10", (1, 8, 8), neuron=ConstantSlope())
    ramps = aplysia.build("F20-F10", (1, 8, 8), neuron=Ramp(), bias=False)
    for net, said in (
        (slopes, "dense1: ConstantSlope neurons, where windowed ones step"),
        (ramps, "dense1: Ramp neurons"),
        (net_of("6C3-A2-P2-F10"), "readout: a maximum pool behind an average"),
        (net_of("F20-F10", reading=End(window=3.0)), "windows of 1, 3, where one clock counts all"),
    ):
        with pytest.raises(RunError, match=said):
            to_nir(net)
    with pytest.raises(RunError, match="got 1 steps a window"):
        to_nir(net_of("F20-F10"), per_window=1)
    with pytest.raises(RunError, match=r"dense1, readout: Windowed neurons, which are no primitive of NIR"):
        stepped(aplysia.build("F20-F10", (1, 8, 8), neuron=Windowed(), readout=Windowed()))
