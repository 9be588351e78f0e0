"""Inference metrics: by hand, and equal to NeuroBench's own on the same net built of snnTorch's parts.

NeuroBench pins packages that no other test needs, so it is no dependency: install it without its own (`pip install --no-deps
--target DIR neurobench`) and set NEUROBENCH_PATH=DIR; else what needs it is skipped.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aplysia.errors import PairError
from aplysia.ledger.neurobench import inference_metrics
from aplysia.nets.net import Net
from aplysia.nets.zoo import build
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.neurons.windowed import Windowed
from aplysia.ops.geometry import Conv2d
from aplysia.ops.scan import HardReset
from aplysia.types import Held

BATCH, STEPS = 4, 5
NETS = {
    # snnTorch takes the threshold off again in the next step where a membrane of twice the threshold is still above it: with a
    # soft reset weights must be small enough that none gets there.
    "dense": ("F14-F12-F4", (10,), LIF(leak=0.5), 0.9),
    "dense, hard reset": ("F14-F12-F4", (10,), LIF(leak=0.8, reset=HardReset()), 2.0),
    "convolutions and pools": ("4C3-P2-6C3s2p1g2-A2-F4", (2, 8, 8), LIF(leak=0.75, reset=HardReset()), 3.0),
}


def net_of(name: str) -> Net:
    text, shape, neuron, scale = NETS[name]
    net = build(text, shape, neuron=neuron, readout=Integrator(), seed=3)
    with torch.no_grad():
        for layer in net.all:
            # A fifth of the weights is pruned, so that connections are sparse too.
            source = torch.Generator().manual_seed(5)
            layer.weight.mul_(scale * (torch.rand(layer.weight.shape, generator=source) > 0.2))
    return net


def batch_of(net: Net, *, spikes: bool) -> Tensor:
    source = torch.Generator().manual_seed(1)
    x = torch.rand(STEPS, BATCH, *net.input_shape, generator=source)
    return (x < 0.4).float() if spikes else x * (x > 0.3)


class Peer(nn.Module):
    """The same net of torch's and snnTorch's parts, as NeuroBench takes it: one step in, spikes and membrane out."""

    def __init__(self, net: Net, leaky: Any) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for layer in net.all:
            for pool in layer.pools:
                assert pool.size is not None
                kind = nn.AvgPool2d if type(pool).__name__ == "AveragePool" else nn.MaxPool2d
                parts.append(kind(pool.size))
            parts.append(self._weights(layer))
            if layer.neuron.spiking:
                neuron: Any = layer.neuron
                reset = "zero" if isinstance(neuron.reset, HardReset) else "subtract"
                options = {"init_hidden": True, "reset_mechanism": reset, "reset_delay": False}
                parts.append(leaky(beta=neuron.leak, threshold=neuron.threshold, **options))
        self.parts = nn.ModuleList(parts)

    def _weights(self, layer: Any) -> nn.Module:
        out, fan_in, *kernel = layer.weight.shape
        if isinstance(layer.geometry, Conv2d):
            g = layer.geometry
            made: Any = nn.Conv2d(fan_in * g.groups, out, kernel, g.stride, g.padding, groups=g.groups)
        else:
            made = nn.Linear(fan_in, out)
        made.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
        return made

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        for part in self.parts:
            x = part(x.flatten(1) if isinstance(part, nn.Linear) else x)
        return x, None


@pytest.fixture(scope="module")
def bench() -> Any:
    """NeuroBench's modules, or a skip that says why."""
    if path := os.environ.get("NEUROBENCH_PATH"):
        sys.path.append(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models = pytest.importorskip(
            "neurobench.models.snntorch_models", reason="NeuroBench is not installed", exc_type=ImportError
        )
        static = pytest.importorskip(
            "neurobench.metrics.static", reason="NeuroBench is not installed", exc_type=ImportError
        )
        workload = pytest.importorskip(
            "neurobench.metrics.workload", reason="NeuroBench is not installed", exc_type=ImportError
        )
        import snntorch
    return models, static, workload, snntorch


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("spikes", [False, True], ids=["currents", "spikes"])
@pytest.mark.parametrize("name", list(NETS))
def test_equal_to_neurobench(name: str, spikes: bool, bench: Any) -> None:
    models, static, workload, snntorch = bench
    net = net_of(name)
    x = batch_of(net, spikes=spikes)
    ours = inference_metrics(net, x)
    assert 0.05 < ours.activation_sparsity < 0.95, "a net in which units fire, and do not always"
    model = models.SNNTorchModel(Peer(net, snntorch.Leaky))
    model.register_hooks()
    data = (x.transpose(0, 1), torch.zeros(BATCH))
    with torch.no_grad():
        out = model(data[0]).transpose(0, 1)
        torch.testing.assert_close(out, net(x).outs[-1])
        products = workload.SynapticOperations()(model, out, data)
        assert ours.effective_macs == products["Effective_MACs"]
        assert ours.effective_acs == products["Effective_ACs"]
        assert ours.dense == products["Dense"]
        assert ours.activation_sparsity == workload.ActivationSparsity()(model, out, data)
        assert ours.membrane_updates == workload.MembraneUpdates()(model, out, data)
    assert ours.connection_sparsity == static.ConnectionSparsity()(model)
    assert ours.connection_sparsity > 0.1
    # snnTorch keeps constants of each neuron in buffers, where we have none.
    constants = sum(t.numel() * t.element_size() for t in model.net.buffers())
    assert ours.footprint == static.Footprint()(model) - constants
    model.cleanup_hooks()


def test_by_hand() -> None:
    """Two inputs, two units, one output; T = 2, one sample, all weights 1 but one that is 0."""
    net = build("F2-F1", (2,), neuron=LIF(leak=0.5, threshold=1.0), readout=Integrator(), bias=False)
    with torch.no_grad():
        net.all[0].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        net.all[1].weight.fill_(1.0)
    x = torch.tensor([[[1.0, 0.0]], [[0.5, 0.0]]])
    found = inference_metrics(net, x)
    # Step 1: input 1 meets one weight, a spike's AC; unit 1 fires (u = 1) and meets the output's weight. v = 0, 0.
    # Step 2: 0.5 meets one weight, a MAC; nobody fires. v = 0.5, 0: unit 1's membrane changes.
    assert (found.effective_acs, found.effective_macs) == (2, 1)
    assert found.dense == 2 * (4 + 2)
    assert found.activation_sparsity == 3 / 4
    assert found.membrane_updates == 2 + 1
    assert found.connection_sparsity == round(1 / 6, 4)
    assert found.footprint == 6 * 4
    assert found.as_json()["Effective_ACs"] == 2


def test_an_input_that_is_held_counts_at_every_step() -> None:
    net = net_of("dense")
    value = batch_of(net, spikes=False)[0]
    assert inference_metrics(net, Held(value, STEPS)) == inference_metrics(net, value.expand(STEPS, *value.shape))


def test_other_kinds_of_neurons_are_refused() -> None:
    net = build("F4-F2", (3,), neuron=Windowed(), bias=False)
    with pytest.raises(PairError, match="which NeuroBench does not know"):
        inference_metrics(net, torch.rand(1, 2, 3))
