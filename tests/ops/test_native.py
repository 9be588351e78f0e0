"""Kernels in C++: compiled once, announced where they cannot be; and averages of neighbours against torch's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.ops import native, scan
from aplysia.ops.events import for_events
from aplysia.ops.geometry import Dense
from aplysia.ops.pool import average_pool
from aplysia.ops.scan import Dynamics, SoftReset, backward_trace, decaying_trace, last_trace, lif_scan, weighted_sum
from aplysia.ops.surrogate import Triangle


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, and nothing loaded."""
    monkeypatch.setattr(native, "_folder", lambda: tmp_path / "kernels")
    native._library.cache_clear()
    yield tmp_path / "kernels"
    native._library.cache_clear()


def test_the_library_is_compiled_once(compiled: None, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native._library() is not None
    (made,) = fresh.iterdir()
    native._library.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("compiled again"))
    assert native._library() is not None
    assert list(fresh.iterdir()) == [made]


def test_a_compiler_that_fails_is_announced_and_full_products_serve(
    compiled: None, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "compiler", lambda: "/bin/false")
    with pytest.warns(native.NativeMissingWarning, match=r"torch's own operations serve, slower: /bin/false"):
        assert for_events(Dense()) == Dense()
    assert for_events(Dense()) == Dense()  # said once


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    compiled: None, fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a_file").touch()
    monkeypatch.setattr(native, "_folder", lambda: tmp_path / "a_file" / "kernels")
    assert native._library() is not None


def pooled(x: Tensor, size: int) -> tuple[Tensor, Tensor, str]:
    leaf = x.clone().requires_grad_()
    out = average_pool(leaf, size)
    told = out.grad_fn.name() if out.grad_fn is not None else ""
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(out, leaf, weight)
    reference = x.clone().requires_grad_()
    wanted = F.avg_pool2d(reference, size)
    assert torch.equal(out, wanted)
    return gradient, torch.autograd.grad(wanted, reference, weight)[0], told


@pytest.mark.parametrize("shape", [(6, 8, 32, 32), (3, 50, 13, 19), (40, 33, 2, 8), (17, 90, 3, 5), (1, 1, 200, 201)])
def test_averages_of_four_are_torch_s_bit_for_bit(compiled: None, shape: tuple[int, ...]) -> None:
    got, wanted, told = pooled(torch.randn(shape, generator=torch.Generator().manual_seed(0)), 2)
    assert told == "_AveragePairsBackward"
    assert torch.equal(got, wanted)


def test_other_windows_and_eager_kernels_are_torch_s_own(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(6, 8, 30, 30, generator=torch.Generator().manual_seed(0))
    assert pooled(x, 3)[2] == "AvgPool2DBackward0"
    assert pooled(x.to(memory_format=torch.channels_last), 2)[2] == "AvgPool2DBackward0"
    leaf = x.clone().requires_grad_()
    out = average_pool(leaf, 2)
    monkeypatch.setattr(native, "compiled_kernels", lambda: False)
    (gradient,) = torch.autograd.grad(out, leaf, torch.ones_like(out))
    assert torch.equal(gradient, torch.full_like(x, 0.25))
    assert pooled(x, 2)[2] == "AvgPool2DBackward0"


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("past", [False, True])
def test_traces_are_those_of_torch(compiled: None, monkeypatch: pytest.MonkeyPatch, steps: int, past: bool) -> None:
    """Forwards, backwards and the last alone; the same to the last place, since both round once a step."""
    source = torch.Generator().manual_seed(0)
    x = torch.randn(steps, 33, 521, generator=source)
    before = torch.randn(33, 521, generator=source) if past else None

    def found() -> list[Tensor]:
        return [*decaying_trace(x, before, 0.7), backward_trace(x, 0.7), last_trace(x, before, 0.7)]

    calls: list[int] = []
    called = scan.call
    monkeypatch.setattr(scan, "call", lambda *words: (calls.append(1), called(*words)))
    fast = found()
    assert len(calls) == 3
    monkeypatch.setattr(native, "compiled_kernels", lambda: False)
    for got, wanted in zip(fast, found(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=2e-7, atol=1e-7)
    assert len(calls) == 3


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_sums_over_steps_are_those_of_torch(compiled: None, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    source = torch.Generator().manual_seed(0)
    x, weights = torch.randn(steps, 65, 521, generator=source), torch.rand(steps, generator=source).tolist()
    calls: list[int] = []
    called = scan.call
    monkeypatch.setattr(scan, "call", lambda *words: (calls.append(1), called(*words)))
    fast = weighted_sum(x, weights)
    assert len(calls) == 1
    exact = torch.einsum("k,kbn->bn", torch.tensor(weights).double(), x.double()).float()
    torch.testing.assert_close(fast, exact, rtol=1e-6, atol=2e-6)
    monkeypatch.setattr(native, "compiled_kernels", lambda: False)
    torch.testing.assert_close(weighted_sum(x, weights), exact, rtol=1e-6, atol=2e-6)
    assert len(calls) == 1


@pytest.mark.parametrize("through_time", [True, False])
@pytest.mark.parametrize("kernels", [True, False], ids=["C++", "eager"])
def test_a_membrane_that_is_one_number_everywhere_need_not_be_written_out(
    compiled: None, monkeypatch: pytest.MonkeyPatch, through_time: bool, kernels: bool
) -> None:
    """The same spikes, membranes and gradients as of the same number in every place."""
    monkeypatch.setattr(native, "compiled_kernels", lambda: kernels)
    currents = torch.randn(5, 3, 700, generator=torch.Generator().manual_seed(0)) + 0.5
    d = Dynamics(0.7, 0.8, Triangle(), SoftReset(), False)
    everywhere = torch.tensor(0.6).expand(3, 700)
    found = []
    for v in (everywhere, everywhere.contiguous()):
        leaf = currents.clone().requires_grad_()
        spikes, last = lif_scan(d, leaf, v, through_time=through_time)
        assert 0.1 < float(spikes.detach().mean()) < 0.9
        (gradient,) = torch.autograd.grad(spikes, leaf, torch.ones_like(spikes))
        found.append((spikes, last, gradient))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
