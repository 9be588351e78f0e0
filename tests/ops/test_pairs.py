"""Products by pairs of steps of opposite noise, against the full ones in float64, and a net that learns by them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import learnt_under, normal, noting
from torch import Tensor

import aplysia
from aplysia.credit.learned_feedback import MomentumFeedback, Random
from aplysia.nets.noise import Noise
from aplysia.ops import events, pairs
from aplysia.ops.geometry import AbstractGeometry, Conv2d, Dense
from aplysia.ops.pairs import by_pairs
from aplysia.ops.precision import Bfloat16, Float32

BATCH = 16
# Geometry, one sample of the drive, weight.
SHAPES: dict[str, tuple[AbstractGeometry, tuple[int, ...], tuple[int, ...]]] = {
    "dense": (Dense(), (300,), (100, 300)),
    "conv": (Conv2d(1, 1), (40, 9, 9), (48, 40, 3, 3)),
}


def noisy(shape: tuple[int, ...], *, rate: float = 0.05, steps: int = 4) -> tuple[Tensor, Tensor]:
    """Spikes, and the same under noise that comes in pairs, `[K·B, …]`."""
    source = torch.Generator().manual_seed(3)
    spikes = (torch.rand(steps, BATCH, *shape, generator=source) < rate).float()
    z = 0.2 * normal(steps // 2, BATCH, *shape)
    signed = torch.stack([z, -z], 1).flatten(0, 1)
    return spikes.flatten(0, 1), (spikes + signed).flatten(0, 1)


@pytest.mark.parametrize(("plain", "shape", "weight"), SHAPES.values(), ids=SHAPES)
def test_pairs_are_the_products(
    compiled: None, plain: AbstractGeometry, shape: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    spikes, drive = noisy(shape)
    w, b = normal(*weight), normal(weight[0], seed=2)
    products = events.for_events(plain)
    made = by_pairs(products, drive, spikes, BATCH, w.shape, products)
    assert isinstance(made, pairs.Pairs)
    assert made.skips_zeros(drive, w.shape)
    # Half as tall, and sparse.
    assert len(made.even) == len(made.odd) == len(drive) // 2
    assert int(made.even.count_nonzero()) <= int(spikes.count_nonzero())
    y = made.forward(drive, w, b)
    exact = plain.forward(drive.double(), w.double(), b.double())
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    delta = normal(*y.shape, seed=4)
    update, exact = made.outer(delta, drive, w.shape), plain.outer(delta.double(), drive.double(), w.shape)
    torch.testing.assert_close(update.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    # Of any other drive the products are those of all.
    other = normal(*drive.shape, seed=5)
    assert torch.equal(made.forward(other, w, b), plain.forward(other, w, b))
    assert torch.equal(made.outer(delta, other, w.shape), plain.outer(delta, other, w.shape))


@pytest.mark.parametrize("rate", [0.3, 0.25], ids=["many spikes", "many pairs with one"])
def test_where_much_fires_nothing_is_done_by_pairs(compiled: None, rate: float) -> None:
    spikes, drive = noisy((300,), rate=rate)
    products = replace(events.for_events(Dense()), largest=0.28)  # type: ignore[type-var]
    assert by_pairs(products, drive, spikes, BATCH, torch.Size((100, 300)), products) is None


@pytest.mark.parametrize("traced", [True, False], ids=["traced", "clean traces"])
@pytest.mark.parametrize(("steps", "taken"), [(6, True), (5, False)])
def test_a_net_learns_the_same_by_pairs(
    compiled: None, traced: bool, steps: int, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against full products, with eligibility traces on the side of the errors and of the drive."""
    calls: list[str] = []
    monkeypatch.setattr(pairs.Pairs, "forward", noting(pairs.Pairs.forward, calls))
    monkeypatch.setattr(pairs.Pairs, "outer", noting(pairs.Pairs.outer, calls))
    found = []
    for precision in (Float32(events=False), Float32()):
        assert not calls
        rule = aplysia.rules.PseudoZerothOrder(
            noise=Noise(alpha=0.2, traced=traced), feedback=MomentumFeedback(start=Random(scale=1.0))
        )
        found.append(learnt_under(precision, "F200-F128-F10", rule, aplysia.temporal.Trace(), steps=steps))
    assert set(calls) == ({"forward", "outer"} if taken else set())
    for full, by in zip(*found, strict=True):
        assert float(full.abs().max()) > 0
        torch.testing.assert_close(by, full, rtol=0, atol=2e-5 * float(full.abs().max()))


def test_full_products_of_noise_are_narrow_under_bf16(compiled: None) -> None:
    spikes, drive = noisy((300,))
    w = normal(100, 300)
    products = Bfloat16().products(Dense())
    made = by_pairs(products, drive, spikes, BATCH, w.shape, products)
    assert isinstance(made, pairs.Pairs)
    exact = (drive.double() @ w.double().t()).float()
    torch.testing.assert_close(made.forward(drive, w), exact, rtol=0, atol=0.02 * float(exact.abs().max()))
    assert not torch.allclose(made.forward(drive, w), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
