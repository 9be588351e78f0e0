"""Convolutions tile by tile against plain ones in float64, within a bound on their rounding that is derived here."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from helpers import learnt_under, normal, noting
from torch import Tensor

import aplysia
from aplysia.ops import events, native
from aplysia.ops.geometry import Conv2d, Dense
from aplysia.ops.precision import Bfloat16, Float32
from aplysia.ops.winograd import Winograd, by_tiles

EPS = torch.finfo(torch.float32).eps
POINTS = [Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2)]
# Padding, drive, units. Sizes beside the kernels' own: tiles of 4, 16 channels a vector, 32 units a panel, 128 tiles a block.
SHAPES: dict[str, tuple[int, tuple[int, ...], int]] = {
    "whole tiles": (1, (8, 32, 16, 16), 64),
    "edges": (1, (22, 20, 9, 11), 37),
    "no padding": (0, (20, 33, 11, 14), 70),
    "wide padding": (2, (26, 17, 8, 10), 16),
    "one tile": (1, (130, 48, 4, 4), 49),
    "less than a tile": (1, (229, 16, 3, 3), 33),
    "long rows": (1, (3, 18, 5, 150), 40),
    "many tiles": (1, (9, 16, 30, 30), 32),
}


def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Aᵀ `[4, 6]`, G `[6, 3]` and Bᵀ `[6, 6]`, by Lagrange's interpolation at the points and at infinity."""

    def product(points: list[Fraction]) -> list[Fraction]:
        made = [Fraction(1)]
        for p in points:
            made = [up - p * down for up, down in zip([Fraction(0), *made], [*made, Fraction(0)], strict=True)]
        return made

    at, g, bt = [[] for _ in range(4)], [], []
    for place, p in enumerate(POINTS):
        others = POINTS[:place] + POINTS[place + 1 :]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        g.append([float(p**k / scale) for k in range(3)])
        bt.append([float(c) for c in product(others)] + [0.0])
        for k in range(4):
            at[k].append(float(p**k))
    bt.append([float(c) for c in product(POINTS)])
    g.append([0.0, 0.0, 1.0])
    for k in range(4):
        at[k].append(float(k == 3))
    return tuple(torch.tensor(m, dtype=torch.float64) for m in (at, g, bt))  # type: ignore[return-value]


def tiles(images: Tensor, size: int, before: int, down: int, across: int) -> Tensor:
    """Windows `[B, C, down, across, size, size]` at every fourth pixel, from `before` pixels above and left of the first."""
    height, width = images.shape[2:]
    tall, wide = 4 * down + size - 4, 4 * across + size - 4
    framed = F.pad(images, (before, wide - before - width, before, tall - before - height))
    return framed.unfold(2, size, 4).unfold(3, size, 4)


def by_hand(x: Tensor, w: Tensor, padding: int, at: Tensor, g: Tensor, bt: Tensor) -> Tensor:
    height, width = (n + 2 * padding - 2 for n in x.shape[2:])
    down, across = -(-height // 4), -(-width // 4)
    d = torch.einsum("ia,bcyxae,je->bcyxij", bt, tiles(x, 6, padding, down, across), bt)
    u = torch.einsum("ia,ncae,je->ncij", g, w, g)
    m = torch.einsum("bcyxij,ncij->bnyxij", d, u)
    y = torch.einsum("ai,bnyxij,ej->bnyaxe", at, m, at)
    return y.reshape(*y.shape[:2], 4 * down, 4 * across)[:, :, :height, :width]


def update_by_hand(e: Tensor, x: Tensor, padding: int, at: Tensor, g: Tensor, bt: Tensor) -> Tensor:
    down, across = (-(-n // 4) for n in e.shape[2:])
    d = torch.einsum("ia,bcyxae,je->bcyxij", bt, tiles(x, 6, padding, down, across), bt)
    a = torch.einsum("ai,bnyxae,ej->bnyxij", at, tiles(e, 4, 0, down, across), at)
    return torch.einsum("ia,bnyxij,bcyxij,je->ncae", g, a, d, g)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("padding", "drive", "units"), SHAPES.values(), ids=SHAPES)
def test_tiles_make_the_convolution(
    compiled: None, padding: int, drive: tuple[int, ...], units: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward: 2·4 roundings of inputs, 2·5 of filters, C + 1 of products and their sum, 2·6 of outputs; for the update one
    per tile in place of one per channel, 2·4 of errors and 2·6 of the way back. Each weighs no more than ε/2 times the same
    sums over sizes."""
    x, w, b = normal(*drive), normal(units, drive[1], 3, 3, seed=1), normal(units, seed=2)
    plain, geometry = Conv2d(1, padding), by_tiles(Conv2d(1, padding))
    assert geometry.shortens(x, w.shape)
    y = plain.forward(x.double(), w.double(), b.double())
    delta = normal(*y.shape, seed=3)
    wanted = (
        y,
        plain.error(delta.double(), w.double(), x.shape),
        plain.outer(delta.double(), x.double(), w.shape),
    )
    for kind, name in itertools.product((Conv2d,), ("forward", "error", "outer")):
        monkeypatch.setattr(kind, name, lambda *_: pytest.fail("a plain convolution was taken"))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = geometry.forward(x, w, b), geometry.error(delta, w, x.shape), geometry.outer(delta, x, w.shape)
        without = geometry.forward(x, w)
    finally:
        torch.set_num_threads(before)
    exact = matrices()
    sizes = tuple(m.abs() for m in exact)
    turned = w.flip(2, 3).transpose(0, 1).double()
    # The pieces are right, to begin with.
    torch.testing.assert_close(by_hand(x.double(), w.double(), padding, *exact), y - b.double().view(-1, 1, 1))
    torch.testing.assert_close(update_by_hand(delta.double(), x.double(), padding, *exact), wanted[2])
    count = len(x) * -(-y.shape[2] // 4) * -(-y.shape[3] // 4)
    bounds = (
        (drive[1] + 32) * (by_hand(x.abs().double(), w.abs().double(), padding, *sizes) + b.abs().view(-1, 1, 1)),
        (units + 32) * by_hand(delta.abs().double(), turned.abs(), 2 - padding, *sizes),
        (count + 32) * update_by_hand(delta.abs().double(), x.abs().double(), padding, *sizes),
    )
    for found, right, bound in zip(got, wanted, bounds, strict=True):
        assert found.shape == right.shape
        assert found.is_contiguous()
        assert right.abs().max() > 1
        assert bool(((found - right).abs() <= EPS / 2 * bound).all())
    torch.testing.assert_close(without, got[0] - b.view(-1, 1, 1), rtol=0, atol=1e-4)


def test_any_number_of_threads_gives_the_same(compiled: None) -> None:
    x, w, geometry = normal(9, 40, 20, 20), normal(48, 40, 3, 3, seed=1), by_tiles(Conv2d(1, 1))
    delta, before, made = normal(9, 48, 20, 20, seed=3), torch.get_num_threads(), []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        made.append((geometry.forward(x, w), geometry.error(delta, w, x.shape), geometry.outer(delta, x, w.shape)))
    torch.set_num_threads(before)
    for other in made[1:]:
        for one, same in zip(made[0], other, strict=True):
            assert torch.equal(one, same)


def test_a_nan_stays_within_its_tile(compiled: None) -> None:
    x = normal(8, 16, 16, 16)
    x[2, 5, 9, 9] = torch.nan
    y = by_tiles(Conv2d(1, 1)).forward(x, normal(32, 16, 3, 3))
    assert bool(y[2, :, 8:11, 8:11].isnan().all())
    assert int(y.isnan().sum()) == 32 * 16
    assert bool(y[2, :, 8:12, 8:12].isnan().all())


@pytest.fixture
def plainly(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of plain products that were taken."""
    taken: list[str] = []
    for name in ("forward", "error", "outer"):
        monkeypatch.setattr(Conv2d, name, noting(getattr(Conv2d, name), taken))
    return taken


@pytest.mark.parametrize(
    ("drive", "weight", "padding"),
    [
        (normal(9, 32, 16, 16), (32, 32, 5, 5), 2),
        (normal(9, 32, 16, 16).double(), (32, 32, 3, 3), 1),
        (normal(9, 8, 16, 16), (32, 8, 3, 3), 1),
        (normal(9, 32, 16, 16), (8, 32, 3, 3), 1),
        (normal(1, 32, 16, 16), (32, 32, 3, 3), 1),
        (normal(300, 32, 2, 2), (32, 32, 3, 3), 1),
        (normal(9, 32, 16, 16).to(memory_format=torch.channels_last), (32, 32, 3, 3), 1),
    ],
    ids=["5 × 5", "float64", "few channels", "few units", "few positions", "mostly edge", "channels last"],
)
def test_elsewhere_plain_convolutions_serve(
    compiled: None, drive: Tensor, weight: tuple[int, ...], padding: int, plainly: list[str]
) -> None:
    geometry, w = by_tiles(Conv2d(1, padding)), normal(*weight).to(drive.dtype)
    assert isinstance(geometry, Winograd)
    y = geometry.forward(drive, w)
    order = torch.channels_last if not drive.is_contiguous() else torch.contiguous_format
    delta = y.contiguous(memory_format=order)
    geometry.outer(delta, drive, w.shape)
    geometry.error(delta, w, drive.shape)
    assert plainly == ["forward", "outer", "error"]


def test_eager_kernels_strides_and_groups_have_no_tiles(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for geometry in (Conv2d(2, 1), Conv2d(1, 3), Conv2d(1, 1, 2), Dense()):
        assert by_tiles(geometry) == geometry
    assert Float32(events=False).products(Conv2d(1, 1)) == Winograd(Conv2d(1, 1))
    assert Float32(events=False, winograd=False).products(Conv2d(1, 1)) == Conv2d(1, 1)
    monkeypatch.setattr(native, "compiled_kernels", lambda: False)
    assert Float32().products(Conv2d(1, 1)) == Conv2d(1, 1)


def test_what_goes_by_tiles_is_not_rounded_to_bf16(compiled: None, plainly: list[str]) -> None:
    x, w, delta = normal(9, 32, 16, 16), normal(48, 32, 3, 3, seed=1), normal(9, 48, 16, 16, seed=2)
    tiled, narrow = by_tiles(Conv2d(1, 1)), Bfloat16().products(Conv2d(1, 1))
    assert torch.equal(narrow.forward(x, w), tiled.forward(x, w))
    assert torch.equal(narrow.error(delta, w, x.shape), tiled.error(delta, w, x.shape))
    assert torch.equal(narrow.outer(delta, x, w.shape), tiled.outer(delta, x, w.shape))
    assert plainly == []
    Bfloat16(winograd=False).products(Conv2d(1, 1)).forward(x, w)
    assert plainly == ["forward"]


def test_events_serve_where_they_are_faster_than_tiles(compiled: None) -> None:
    x, w = normal(9, 32, 16, 16), normal(64, 32, 3, 3, seed=1)
    for share, tiled, plain in ((0.02, True, True), (0.2, False, True), (0.5, False, False)):
        kept = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < share
        sparse = torch.where(kept, x, 0.0)
        assert events.for_events(by_tiles(Conv2d(1, 1))).skips_zeros(sparse, w.shape) == tiled
        assert events.for_events(Conv2d(1, 1)).skips_zeros(sparse, w.shape) == plain
        exact = F.conv2d(sparse.double(), w.double(), padding=1).float()
        torch.testing.assert_close(Float32().products(Conv2d(1, 1)).forward(sparse, w), exact, rtol=1e-4, atol=1e-4)


def test_rounding_is_a_few_times_that_of_the_plain_product(compiled: None) -> None:
    """In the mean over a layer of the size that nets have: what the choice of the points is for."""
    x, w = normal(8, 64, 32, 32), normal(128, 64, 3, 3, seed=1)
    exact = F.conv2d(x.double(), w.double(), padding=1)
    tiled, plain = (g.forward(x, w) - exact for g in (by_tiles(Conv2d(1, 1)), Conv2d(1, 1)))
    assert plain.square().mean() > 0
    assert tiled.square().mean().sqrt() < 5 * plain.square().mean().sqrt()


@pytest.mark.parametrize("temporal", [aplysia.temporal.Trace(chunk=4), aplysia.temporal.ThroughTime()])
@pytest.mark.parametrize("rule", [aplysia.rules.Symmetric, aplysia.rules.DirectFeedback])
def test_a_net_learns_alike(compiled: None, temporal: object, rule: Callable[[], object], plainly: list[str]) -> None:
    def learnt(serve: bool) -> list[Tensor]:
        return learnt_under(Float32(events=False, winograd=serve), "32C3-40C3-F10", rule(), temporal)

    plain = learnt(False)
    products = len(plainly)
    tiled = learnt(True)
    assert len(plainly) - products < products
    for got, wanted in zip(tiled, plain, strict=True):
        assert wanted.abs().max() > 1e-4
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)
