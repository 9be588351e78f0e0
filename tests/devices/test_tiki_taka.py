"""Two coupled arrays: what is transferred when, and that the drift of unequal steps is not part of what they learn."""

from __future__ import annotations

import torch
from device_parts import array, source
from torch import Tensor, nn

from aplysia.devices.array import PulsedArray
from aplysia.devices.base import AbstractDevice
from aplysia.devices.constant_step import ConstantStep
from aplysia.devices.law import Spread
from aplysia.devices.soft_bounds import SoftBounds
from aplysia.devices.tiki_taka import TikiTaka

# Soft bounds whose cells differ, and whose steps up are larger than those down.
UNEQUAL = SoftBounds(quantum=0.02, spread=Spread(asymmetry=0.3, asymmetry_spread=0.1, step=0.1))


def test_a_gradient_moves_the_fast_array_and_the_transfer_the_weight_along_it() -> None:
    device = TikiTaka(
        fast=ConstantStep(quantum=0.01), slow=ConstantStep(quantum=0.005), every=1, columns=None, rate=0.5
    )
    weight, cells = array(device, torch.zeros(4, 3, dtype=torch.float64))
    up = torch.zeros(4, 3, dtype=torch.float64)
    up[1, 2] = 6.0
    down = torch.zeros_like(up)
    down[0, 0] = 4.0
    writes = device.step(weight, cells, up, down, source())
    assert torch.allclose(cells["a"], 0.01 * (up - down))
    # Half of A is 6 steps of C up and 4 down: whole, so nothing is drawn.
    assert torch.allclose(weight, 0.005 * (up - down))
    assert writes == 10 + 10
    still = torch.zeros_like(up)
    assert device.step(weight, cells, still, still, source()) == 10  # A keeps what it has, so the transfer goes on
    assert torch.allclose(weight, 0.01 * (up - down))


def test_columns_take_turns() -> None:
    """Two of five every third update: 0 1, 2 3, 4, and from the start again."""
    device = TikiTaka(fast=ConstantStep(quantum=0.01), slow=ConstantStep(quantum=0.01), every=3, columns=2, rate=1.0)
    weight, cells = array(device, torch.zeros(2, 5, 1, 1, dtype=torch.float64))
    cells["a"].fill_(0.01)
    still, seen = torch.zeros_like(weight), []
    for _ in range(12):
        before = weight.clone()
        device.step(weight, cells, still, still, source())
        seen.append((weight - before)[0].flatten().round(decimals=6).nonzero().flatten().tolist())
    assert seen == [[], [], [0, 1], [], [], [2, 3], [], [], [4], [], [], [0, 1]]


def test_a_vector_is_one_column() -> None:
    device = TikiTaka(fast=ConstantStep(quantum=0.01), slow=ConstantStep(quantum=0.01), columns=1, rate=1.0)
    weight, cells = array(device, torch.zeros(5))
    cells["a"].fill_(0.01)
    device.step(weight, cells, torch.zeros(5), torch.zeros(5), source())
    assert torch.allclose(weight, torch.full((5,), 0.01))


def test_the_fast_array_starts_at_its_symmetry_point_which_reads_0() -> None:
    device = TikiTaka(fast=UNEQUAL, slow=SoftBounds(quantum=0.001), columns=None, rate=1.0)
    weight, cells = array(device, torch.full((10, 10), 0.2, dtype=torch.float64))
    assert torch.equal(cells["a"], cells["zero"])
    assert cells["zero"].mean() > 0.1
    still = torch.zeros_like(weight)
    assert device.step(weight, cells, still, still, source()) == 0
    assert (weight == 0.2).all()


def _least_squares(device: AbstractDevice, target: Tensor, steps: int) -> Tensor:
    """½·|w − target|² by noisy gradients; the mean of the weight over the second half of the steps."""
    p = nn.Parameter(torch.zeros_like(target))
    optimiser, total = PulsedArray([p], device=device, lr=0.1), torch.zeros_like(target)
    for step in range(steps):
        noise = torch.randn(target.shape, generator=source(step), dtype=target.dtype)
        p.grad = p.detach() - target + 0.5 * noise
        optimiser.step()
        if step >= steps // 2:
            total += p.detach()
    return total / (steps - steps // 2)


def test_the_drift_of_unequal_steps_is_reduced() -> None:
    """A single array ends between the minimum and its symmetry points; the pair about as near the minimum as equal steps do."""
    target = 0.4 * torch.randn(12, 12, generator=source(5), dtype=torch.float64).clamp(-1.5, 1.5)
    devices = {
        "equal": ConstantStep(quantum=0.02),
        "single": UNEQUAL,
        "pair": TikiTaka(fast=UNEQUAL, slow=UNEQUAL, columns=None, rate=0.02),
    }
    off = {
        name: float((_least_squares(device, target, 240) - target).square().mean().sqrt())
        for name, device in devices.items()
    }
    assert off["equal"] < 0.06, off  # what the noise of gradients leaves of a mean over steps
    assert off["single"] > 2.0 * off["equal"], off
    assert off["pair"] < 0.5 * off["single"], off
