"""Sums over events against full products in float64, and the pairing with the memory on the errors' side."""

from __future__ import annotations

import pytest
import torch
from helpers import learnt_under, normal, noting
from torch import Tensor

import aplysia
from aplysia.credit.temporal.trace import DecayingTrace
from aplysia.ops import events, native
from aplysia.ops.geometry import AbstractGeometry, Conv2d, Dense
from aplysia.ops.precision import Bfloat16, Float32
from aplysia.ops.scan import decaying_trace, last_trace

EPS = torch.finfo(torch.float32).eps
# Drive, weight. Sizes beside the kernels' own: 64 bags a block, 4 to 256 columns a panel, squares of 16 and of 4; of dense
# tables tiles of 64 columns and 160 rows, and 512 bags of a thread at a time; panels belong to threads where inputs are 8
# times as many as samples.
SHAPES: dict[str, tuple[AbstractGeometry, tuple[int, ...], tuple[int, ...]]] = {
    "dense": (Dense(), (70, 200), (300, 200)),
    "dense, odd": (Dense(), (131, 257), (77, 257)),
    "dense, few samples": (Dense(), (16, 600), (64, 600)),
    "dense, many samples": (Dense(), (1100, 401), (70, 401)),
    "dense, many inputs": (Dense(), (210, 1111), (35, 1111)),
    "dense, wide": (Dense(), (600, 4807), (40, 4807)),
    "conv": (Conv2d(1, 1), (3, 40, 12, 12), (64, 40, 3, 3)),
    "conv, odd": (Conv2d(1, 2), (2, 29, 9, 11), (37, 29, 5, 5)),
    "conv without padding": (Conv2d(1, 0), (3, 70, 5, 7), (33, 70, 3, 3)),
    "conv of 1": (Conv2d(1, 0), (2, 130, 8, 70), (129, 130, 1, 1)),
    "conv by strides": (Conv2d(2, 1), (3, 40, 9, 9), (64, 40, 3, 3)),
    "conv, wide padding": (Conv2d(1, 3), (2, 60, 6, 6), (34, 60, 3, 3)),
}


def sparse(*shape: int, share: float = 0.1, seed: int = 1) -> Tensor:
    kept = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share
    return torch.where(kept, normal(*shape, seed=seed), 0.0)


def _sizes(tensor: Tensor) -> Tensor:
    return tensor.double().abs()


def _ones(tensor: Tensor) -> Tensor:
    return (tensor != 0).double()


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of full products that were taken."""
    taken: list[str] = []
    for kind in (Dense, Conv2d):
        for name in ("forward", "outer"):
            monkeypatch.setattr(kind, name, noting(getattr(kind, name), taken))
    return taken


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("plain", "drive", "weight"), SHAPES.values(), ids=SHAPES)
def test_sums_are_the_products(
    compiled: None,
    plain: AbstractGeometry,
    drive: tuple[int, ...],
    weight: tuple[int, ...],
    threads: int,
    full: list[str],
) -> None:
    """Within the rounding of a sum: n terms, in any order, are off by no more than n·ε/2 times the sum of their sizes."""
    x, w, b = sparse(*drive), normal(*weight), normal(weight[0], seed=2)
    geometry = events.for_events(plain)
    assert geometry.skips_zeros(x, w.shape)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        y = geometry.forward(x, w, b)
        delta = normal(*y.shape, seed=3)
        update = geometry.outer(delta, x, w.shape)
        without = geometry.forward(x, w)
    finally:
        torch.set_num_threads(before)
    summed = isinstance(plain, Dense) or (plain.stride == 1 and plain.padding < weight[-1])
    assert full == ([] if summed else ["outer"])
    exact, size, terms = (plain.forward(f(x), f(w), f(b)) for f in (Tensor.double, _sizes, _ones))
    assert exact.shape == y.shape
    assert exact.abs().max() > 1
    assert bool(((y - exact).abs() <= EPS / 2 * (terms + 2) * size).all())
    torch.testing.assert_close(without, y - b.view(-1, *[1] * (y.ndim - 2)), rtol=0, atol=1e-4)
    exact, size, terms = (plain.outer(f(delta), f(x), w.shape) for f in (Tensor.double, _sizes, _ones))
    assert update.is_contiguous()
    assert update.shape == w.shape
    assert bool(((update - exact).abs() <= EPS / 2 * (terms + 2) * size).all())


def test_a_nan_is_no_zero(compiled: None) -> None:
    x = sparse(64, 200)
    x[5, 7] = torch.nan
    y = events.for_events(Dense()).forward(x, normal(300, 200))
    assert bool(y[5].isnan().all())
    assert int(y.isnan().sum()) == 300


def test_silence_gives_the_bias_and_no_update(compiled: None) -> None:
    geometry, b = events.for_events(Dense()), normal(300)
    assert torch.equal(geometry.forward(torch.zeros(64, 200), normal(300, 200), b), b.expand(64, 300))
    assert not geometry.outer(normal(64, 300), torch.zeros(64, 200), torch.Size((300, 200))).any()


@pytest.mark.parametrize(
    ("drive", "weight"),
    [
        (sparse(64, 200, share=0.5), (300, 200)),
        (sparse(64, 200).double(), (300, 200)),
        (sparse(64, 50), (300, 50)),
        (sparse(8, 200), (300, 200)),
        (sparse(64, 2000), (10, 2000)),
        (sparse(200, 64).t(), (300, 200)),
    ],
    ids=["many events", "float64", "few weights", "few samples", "few units", "transposed"],
)
def test_elsewhere_full_products_serve(compiled: None, drive: Tensor, weight: tuple[int, ...], full: list[str]) -> None:
    geometry, w = events.for_events(Dense()), normal(*weight).to(drive.dtype)
    y = geometry.forward(drive, w)
    geometry.outer(y, drive, w.shape)
    assert full == ["forward", "outer"]


def test_the_share_is_that_of_whole_images() -> None:
    """Rows of images in turn: a border that is silent, or a channel, is met as often as it is there."""
    x = torch.ones(192, 64, 32, 32)
    x[:, :, 0] = x[:, :, -1] = 0
    assert events.share(x) == pytest.approx(30 / 32, abs=0.02)
    x[:, ::2] = 0
    assert events.share(x) == pytest.approx(15 / 32, abs=0.02)
    assert events.share(torch.zeros(0, 5)) == 0.0


def test_eager_kernels_and_groups_have_no_sums(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert events.for_events(Conv2d(groups=2)) == Conv2d(groups=2)
    assert isinstance(Float32().products(Dense()), events.DenseEvents)
    assert Float32(events=False).products(Dense()) == Dense()
    monkeypatch.setattr(native, "compiled_kernels", lambda: False)
    assert Float32().products(Dense()) == Dense()


def test_bf16_products_give_way_to_sums_below_half_the_share(compiled: None, full: list[str]) -> None:
    geometry, w = Bfloat16().products(Dense()), normal(300, 200)
    some, more = sparse(64, 200, share=0.1), sparse(64, 200, share=0.25)
    assert torch.equal(geometry.forward(some, w), events.for_events(Dense()).forward(some, w))
    assert full == []
    geometry.forward(more, w)
    assert full == ["forward"]


@pytest.mark.parametrize("units", [100, 128])
@pytest.mark.parametrize(("steps", "batch"), [(1, 60), (2, 200), (6, 33), (40, 10)])
def test_updates_by_traces_are_those_of_all_past_events(compiled: None, units: int, steps: int, batch: int) -> None:
    """Against the traces themselves in float64: a bound of the rounding of one sum after another."""
    source, decay = torch.Generator().manual_seed(1), 0.7
    drive = (torch.rand(steps * batch, 170, generator=source) < 0.1).float()
    delta = torch.randn(steps * batch, units, generator=source)
    shape = torch.Size((units, 170))
    geometry = events.for_events(Dense()).settled(drive, shape)
    assert isinstance(geometry, events.Summed)
    trace, traces = torch.zeros(batch, 170, dtype=torch.float64), []
    for now in drive.double().unflatten(0, (steps, batch)):
        trace = decay * trace + now
        traces.append(trace)
    past = torch.cat(traces)
    exact, sizes = delta.double().t() @ past, delta.double().abs().t() @ past
    found = [geometry.outer_of_traces(delta, drive, shape, steps=steps, decay=decay)]
    found += [one.outer_of_traces(delta, drive, shape, steps=steps, decay=decay) for one in (Dense(), geometry.plain)]
    terms = 2 * steps + int((drive != 0).sum(0).max()) + 2
    for update in found:
        assert bool(((update - exact).abs() <= EPS / 2 * terms * sizes + 1e-30).all())


@pytest.mark.parametrize("chunks", [(6,), (2, 4), (3, 1, 2), (1, 5), (1, 1, 4)])
@pytest.mark.parametrize(("plain", "drive", "weight"), [SHAPES["dense, odd"], SHAPES["conv"]], ids=["dense", "conv"])
def test_memory_on_the_errors_side_pairs_alike(
    plain: AbstractGeometry, drive: tuple[int, ...], weight: tuple[int, ...], chunks: tuple[int, ...]
) -> None:
    """Σ_t δ[t] ⊗ a[t], whichever of the two is filtered in time, in float64, chunk by chunk."""
    x = sparse(6, 5, *drive[1:], share=0.3).double()
    w = torch.Size(weight)
    delta = normal(30, *plain.output_shape(drive[1:], w), seed=4).double().unflatten(0, (6, 5))
    traces, last = decaying_trace(x, None, 0.7)
    wanted = plain.outer(delta.flatten(0, 1), traces.flatten(0, 1), w)
    got, carry, scheme = torch.zeros(weight, dtype=torch.float64), None, DecayingTrace()
    for x_part, delta_part in zip(x.split(chunks), delta.split(chunks), strict=True):
        outer = scheme.on_errors(len(x_part), 0.7, carry, plain)
        if outer is None:
            assert len(x_part) < 4
            assert carry is not None
            pre, carry = scheme.trace(x_part, 0.7, carry)
            got += plain.outer(delta_part.flatten(0, 1), pre.flatten(0, 1), w)
            continue
        carry = scheme.carried(x_part, 0.7, carry)
        got += outer(delta_part.flatten(0, 1), x_part.flatten(0, 1), w)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(carry, last, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last_trace(x, None, 0.7), last, rtol=1e-12, atol=1e-12)
    assert scheme.on_errors(6, 0.0, None, plain) is None


@pytest.mark.parametrize("temporal", [aplysia.temporal.Trace(chunk=4), aplysia.temporal.ThroughTime()])
@pytest.mark.parametrize("text", ["F256-F256-F10", "48C3-48C3-F10"])
def test_a_net_learns_alike(
    compiled: None, monkeypatch: pytest.MonkeyPatch, text: str, temporal: object, full: list[str]
) -> None:
    def learnt(serve: bool) -> list[Tensor]:
        return learnt_under(Float32(events=serve, winograd=False), text, aplysia.rules.Symmetric(), temporal)

    # As many events as there are here, so that the second layer is summed.
    monkeypatch.setattr(events, "LARGEST_SHARE", dict.fromkeys(events.LARGEST_SHARE, 0.45))
    plain = learnt(False)
    products = len(full)
    summed = learnt(True)
    assert len(full) - products < products
    for got, wanted in zip(summed, plain, strict=True):
        assert wanted.abs().max() > 1e-4
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)


def test_what_is_settled_for_a_drive_is_looked_up_once(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    count = events.share
    monkeypatch.setattr(events, "share", lambda drive: looked.append(1) or count(drive))
    x, w, delta = sparse(64, 200), normal(300, 200), normal(64, 300, seed=4)
    for way in (Float32(), Bfloat16()):
        geometry = way.products(Dense())
        settled = geometry.settled(x, w.shape)
        assert len(looked) == 1
        assert settled.skips_zeros(x, w.shape)
        y, update = settled.forward(x, w), settled.outer(delta, x, w.shape)
        assert len(looked) == 1
        assert torch.equal(y, geometry.forward(x, w))
        assert torch.equal(update, geometry.outer(delta, x, w.shape))
        # Another one is looked at for itself: a trace of it, for one.
        looked.clear()
        full = normal(64, 200, seed=5)
        assert torch.equal(settled.outer(delta, full, w.shape), geometry.outer(delta, full, w.shape))
        assert looked
        looked.clear()
    assert Float32().products(Dense()).settled(normal(64, 200), w.shape) == Dense()
