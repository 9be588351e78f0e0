"""Connections in closed form against a brute-force product with ones."""

from __future__ import annotations

import pytest
import torch

from aplysia.ledger.reach import address_bits, connections, fan_in, fan_out
from aplysia.nets.zoo import build
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF

TEXTS = ["F7-F3", "4C3-F3", "4C3s2p1-F3", "4C5s3p2-F3", "4C3p0-6C3g2s2-F3", "4C1-4C7p3g4-F3", "4C3-A2-6C5p4-P2-F3"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("shape", [(2, 9, 11), (2, 12, 12)])
def test_fans_equal_products_with_ones(text: str, shape: tuple[int, int, int]) -> None:
    net = build(text, shape, neuron=LIF(), readout=Integrator(), bias=False).double()
    for layer in net.all:
        ones = torch.ones(1, *layer.drive_shape, dtype=torch.float64, requires_grad=True)
        reached = layer.geometry.forward(ones, torch.ones_like(layer.weight).detach())
        (out,) = torch.autograd.grad(reached.sum(), ones)
        assert torch.equal(fan_in(layer), reached[0].detach().to(torch.int64))
        assert torch.equal(fan_out(layer), out[0].to(torch.int64))
        assert connections(layer) == int(reached.sum())


@pytest.mark.parametrize(("units", "bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11)])
def test_addresses(units: int, bits: int) -> None:
    assert address_bits(units) == bits
