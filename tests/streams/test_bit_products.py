"""Products of bits in low precision: whole numbers exactly, sums of real weights to float32's last places."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from stream_parts import assert_streams_alive, learnt, rates, stream_net

from aplysia.ops import bit_products
from aplysia.ops.bit_products import DenseBits, fast_bits, for_bits, thirds
from aplysia.ops.geometry import Conv2d, Dense
from aplysia.types import Held


def streams(rows: int, units: int, share: float, seed: int) -> torch.Tensor:
    return (torch.rand(rows, units, generator=torch.Generator().manual_seed(seed)) < share).float()


@pytest.mark.parametrize("unit", [1.0, 0.25, 8.0])
@pytest.mark.parametrize(("rows", "units", "inputs"), [(1024, 256, 784), (33, 129, 127), (1, 128, 128)])
def test_coincidences_in_bytes_are_those_of_float64(rows: int, units: int, inputs: int, unit: float) -> None:
    bits = streams(rows, inputs, 0.3, 0)
    delta = streams(rows, units, 0.1, 1) * (2.0 * streams(rows, units, 0.5, 2) - 1.0) * unit
    counted = DenseBits(False, unit).outer(delta, bits, torch.Size((units, inputs)))
    assert counted.abs().sum() > 0
    assert counted.dtype == torch.float32
    assert torch.equal(counted.double(), delta.t().double() @ bits.double())


def test_thirds_add_up_to_the_last_place() -> None:
    weight = torch.randn(300, 200, generator=torch.Generator().manual_seed(0))
    high, middle, low = thirds(weight)
    for part in (high, middle):
        assert torch.equal(part, part.bfloat16().float())
    assert torch.equal(high + (middle + low), weight)


@pytest.mark.parametrize("bf16", [False, True])
def test_sums_of_weights_are_float32s(bf16: bool) -> None:
    bits, weight = streams(64, 784, 0.3, 0), torch.randn(256, 784, generator=torch.Generator().manual_seed(1))
    got = DenseBits(bf16, None).forward(bits, weight, torch.ones(256))
    exact = bits.double() @ weight.t().double() + 1.0
    # A float32 sum of n terms is off by at most n roundings of the sum of their sizes.
    size = bits.double() @ weight.abs().t().double() + 1.0
    assert bool(((got - exact).abs() <= 784 * 2.0**-24 * size).all())


def test_who_gets_which_product() -> None:
    with (
        mock.patch.object(bit_products, "multiplies_bf16", return_value=False),
        mock.patch.object(bit_products, "multiplies_bytes", return_value=True),
    ):
        assert fast_bits(torch.zeros(1))
        assert not fast_bits(torch.zeros(1, dtype=torch.float64))
        assert for_bits(Dense(), unit=0.5, whole=True) == DenseBits(False, 0.5)
        assert for_bits(Dense(), unit=0.5, whole=False) == Dense()
        assert for_bits(Conv2d(), unit=0.5, whole=True) == Conv2d()
    with (
        mock.patch.object(bit_products, "multiplies_bf16", return_value=False),
        mock.patch.object(bit_products, "multiplies_bytes", return_value=False),
    ):
        assert not fast_bits(torch.zeros(1))
        assert for_bits(Dense(), unit=0.5, whole=True) == Dense()


def test_a_step_of_learning_is_the_same_in_bytes() -> None:
    """Whole nets, once by bytes and once in float32: the same gradients bit for bit, and they are not all 0."""
    gradients = []
    for counted in (True, False):
        with (
            mock.patch.object(bit_products, "multiplies_bf16", return_value=False),
            mock.patch.object(bit_products, "multiplies_bytes", return_value=counted),
            mock.patch.object(DenseBits, "outer", autospec=True, side_effect=DenseBits.outer) as called,
        ):
            net = stream_net("F256-F10", (64,)).float()
            x, target = rates((64,), batch=8, classes=10)
            assert_streams_alive(net, Held(x.float(), 64))
            found, _ = learnt(net, Held(x.float(), 64), target)
            assert bool(called.call_count) == counted
            gradients.append(found)
    for name, one in gradients[0].items():
        assert one.count_nonzero() > 0
        assert torch.equal(one, gradients[1][name])
