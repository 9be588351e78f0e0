"""Products by pairs of steps of opposite noise, against the full ones in float64, and a net that learns by them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import learnt_under, normal, noting
from torch import Tensor

import aplysia
from aplysia.credit.learned_feedback import MomentumFeedback, Random
from aplysia.nets.noise import Noise
from aplysia.neurons.lif import LIF
from aplysia.ops import events, native, pairs
from aplysia.ops.geometry import AbstractGeometry, Conv2d, Dense
from aplysia.ops.pairs import by_pairs
from aplysia.ops.precision import Bfloat16, Float32

BATCH = 16
# Geometry, one sample of the drive, weight.
SHAPES: dict[str, tuple[AbstractGeometry, tuple[int, ...], tuple[int, ...]]] = {
    "dense": (Dense(), (300,), (100, 300)),
    "conv": (Conv2d(1, 1), (40, 9, 9), (48, 40, 3, 3)),
}


def noisy(shape: tuple[int, ...], *, rate: float = 0.05, steps: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes `[K·B, …]`, draws of which a pair of steps has one, and spikes under 0.2 times them."""
    source = torch.Generator().manual_seed(3)
    spikes = (torch.rand(steps, BATCH, *shape, generator=source) < rate).float()
    z = normal(steps // 2, BATCH, *shape)
    signed = torch.stack([z, -z], 1).flatten(0, 1)
    return spikes.flatten(0, 1), z, (spikes + 0.2 * signed).flatten(0, 1)


@pytest.mark.parametrize(("plain", "shape", "weight"), SHAPES.values(), ids=SHAPES)
def test_pairs_are_the_products(
    compiled: None, plain: AbstractGeometry, shape: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    spikes, z, drive = noisy(shape)
    w, b = normal(*weight), normal(weight[0], seed=2)
    products = events.for_events(plain)
    made = by_pairs(products, spikes, z, 0.2, BATCH, w.shape)
    assert isinstance(made, pairs.Pairs)
    assert made.skips_zeros(spikes, w.shape)
    # Half as tall, and sparse.
    assert len(made.even) == len(made.odd) == len(drive) // 2
    assert int(made.even.count_nonzero()) <= int(spikes.count_nonzero())
    y = made.forward(spikes, w, b)
    exact = plain.forward(drive.double(), w.double(), b.double())
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    delta = normal(*y.shape, seed=4)
    update, exact = made.outer(delta, spikes, w.shape), plain.outer(delta.double(), drive.double(), w.shape)
    torch.testing.assert_close(update.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    # Of any other drive the products are those of all.
    other = normal(*drive.shape, seed=5)
    assert torch.equal(made.forward(other, w, b), plain.forward(other, w, b))
    assert torch.equal(made.outer(delta, other, w.shape), plain.outer(delta, other, w.shape))


def test_kernels_give_what_torch_gives(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Halves, sums and joined steps, each rounded once or twice."""
    spikes, z, _ = noisy((300,))
    x, other = normal(4 * BATCH, 300, seed=7), normal(4 * BATCH, 300, seed=8)

    def found() -> list[Tensor]:
        return [*pairs.halves(spikes, z, 0.3), *pairs._sums(x, BATCH), pairs._joined(x, other, BATCH)]

    calls: list[str] = []
    monkeypatch.setattr(pairs, "call", noting(pairs.call, calls))
    fast = found()
    assert len(calls) == 3
    monkeypatch.setattr(native, "compiled_kernels", lambda: False)
    for got, wanted in zip(fast, found(), strict=True):
        assert got.shape == wanted.shape
        torch.testing.assert_close(got, wanted, rtol=2e-7, atol=1e-7)
    assert len(calls) == 3
    even, odd = fast[:2]
    signed = 0.3 * z.flatten(0, 1)
    first, second = (spikes.unflatten(0, (-1, 2, BATCH))[:, step].flatten(0, 1) for step in (0, 1))
    torch.testing.assert_close(even + odd, first + signed)
    torch.testing.assert_close(even - odd, second - signed)


@pytest.mark.parametrize("rate", [0.3, 0.25], ids=["many spikes", "many pairs with one"])
def test_where_much_fires_nothing_is_done_by_pairs(compiled: None, rate: float) -> None:
    spikes, z, _ = noisy((300,), rate=rate)
    products = replace(events.for_events(Dense()), largest=0.28)  # type: ignore[type-var]
    assert by_pairs(products, spikes, z, 0.2, BATCH, torch.Size((100, 300))) is None


@pytest.mark.parametrize("bias", [True, False])
def test_few_units_meet_spikes_and_noise_apart(compiled: None, bias: bool) -> None:
    spikes, z, drive = noisy((400,))
    w, b = normal(10, 400), normal(10, seed=2) if bias else None
    made = by_pairs(events.for_events(Dense()), spikes, z, 0.2, BATCH, w.shape)
    assert isinstance(made, pairs.Apart)
    plain = Dense()
    y = made.forward(spikes, w, b)
    exact = plain.forward(drive.double(), w.double(), None if b is None else b.double())
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    delta = normal(*y.shape, seed=4)
    update, exact = made.outer(delta, spikes, w.shape), plain.outer(delta.double(), drive.double(), w.shape)
    torch.testing.assert_close(update.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
    other = normal(*drive.shape, seed=5)
    torch.testing.assert_close(made.forward(other, w, b), plain.forward(other, w, b), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        made.outer(delta, other, w.shape), plain.outer(delta, other, w.shape), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("traced", [True, False], ids=["traced", "clean traces"])
def test_images_in_front_of_dense_weights_keep_their_noise(
    compiled: None, traced: bool, order: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images whose channels lie last in memory are copied on their way into dense weights: the copy must stand for them."""
    scan = LIF.scan

    def ordered(*args: Any, **kwargs: Any) -> Any:
        out, state = scan(*args, **kwargs)
        laid = out.flatten(0, 1).contiguous(memory_format=order) if out.ndim == 5 else out.flatten(0, 1)
        return laid.unflatten(0, out.shape[:2]), state

    monkeypatch.setattr(LIF, "scan", ordered)
    calls: list[str] = []
    monkeypatch.setattr(pairs.Pairs, "forward", noting(pairs.Pairs.forward, calls))
    found = []
    for precision in (Float32(events=False), Float32()):
        rule = aplysia.rules.PseudoZerothOrder(
            noise=Noise(alpha=0.2, traced=traced), feedback=MomentumFeedback(start=Random(scale=1.0))
        )
        found.append(learnt_under(precision, "8C3-F128-F10", rule, aplysia.temporal.Trace()))
    assert calls == ["forward"]
    for full, by in zip(*found, strict=True):
        assert float(full.abs().max()) > 0
        torch.testing.assert_close(by, full, rtol=0, atol=5e-5 * float(full.abs().max()))


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
    # Clean traces are met by sums over events.
    assert set(calls) == ({"forward", *(["outer"] if traced else [])} if taken else set())
    for full, by in zip(*found, strict=True):
        assert float(full.abs().max()) > 0
        torch.testing.assert_close(by, full, rtol=0, atol=2e-5 * float(full.abs().max()))


def test_full_products_of_noise_are_narrow_under_bf16(compiled: None) -> None:
    spikes, z, drive = noisy((300,))
    w = normal(100, 300)
    products = Bfloat16().products(Dense())
    made = by_pairs(products, spikes, z, 0.2, BATCH, w.shape)
    assert isinstance(made, pairs.Pairs)
    exact = (drive.double() @ w.double().t()).float()
    torch.testing.assert_close(made.forward(spikes, w), exact, rtol=0, atol=0.02 * float(exact.abs().max()))
    assert not torch.allclose(made.forward(spikes, w), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("batch", "inputs", "units"), [(48, 300, 130), (130, 700, 256), (600, 300, 100), (7, 2000, 64)]
)
def test_sums_over_events_are_joined_with_the_rest(
    compiled: None, batch: int, inputs: int, units: int, threads: int
) -> None:
    """Few samples and many, whole panels and not: the sums of `forward`, each added to and taken off once."""
    even, odd = (
        (torch.rand(4 * batch, inputs, generator=torch.Generator().manual_seed(3)) < 0.1).float(),
        normal(4 * batch, units),
    )
    w, b = normal(units, inputs, seed=1), normal(units, seed=2)
    products = events.for_events(Dense()).settled(even, w.shape)
    assert isinstance(products, events.Summed)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    got, sums = products.joined(even, w, b, odd, batch), products.forward(even, w, b)
    torch.set_num_threads(before)
    assert got is not None
    want = torch.stack(
        [
            sums.view(4, batch, units) + odd.view(4, batch, units),
            sums.view(4, batch, units) - odd.view(4, batch, units),
        ],
        1,
    )
    assert torch.equal(got.view(4, 2, batch, units), want)
    exact = even.double() @ w.double().t() + b
    torch.testing.assert_close(sums.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
