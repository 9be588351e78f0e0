"""Errors at the readout and numbers of spikes in one pass, against autograd in float64 and exact sums."""

from __future__ import annotations

import pytest
import torch
from helpers import normal, noting
from torch import Tensor

from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.seen import error_by_autograd
from aplysia.ops import native, readout
from aplysia.ops.readout import softmax_error, total


def case(classes: int = 10, size: float = 3.0) -> tuple[Tensor, Tensor]:
    return normal(6, 70, classes) * size, torch.arange(70) % classes


@pytest.mark.parametrize("classes", [1, 2, 10, 37])
@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("size", [0.1, 3.0, 80.0])
def test_the_error_is_autograds(
    compiled: None, classes: int, share: float, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a chunk of 6 out of 9 steps; a sum of `classes` exponentials, rounded, and a few roundings more."""
    calls: list[str] = []
    monkeypatch.setattr(readout, "call", noting(readout.call, calls))
    loss, (out, target) = StepwiseLoss(mse_share=share), case(classes, size)
    value, error = loss.error(out, target, 9)
    exact, exact_error = error_by_autograd(loss, out.double(), target, 9)
    assert len(calls) == 1
    assert value.dtype == error.dtype == torch.float32
    torch.testing.assert_close(value.double(), exact, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(error.double(), exact_error, rtol=0, atol=1e-6 * float(exact_error.abs().max()) + 1e-12)


def test_the_error_is_that_of_torchs_operations(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, (out, target) = StepwiseLoss(), case()
    value, error = loss.error(out, target, 6)
    monkeypatch.setattr(native, "compiled_kernels", lambda: False)
    assert softmax_error(out, target, 1.0, 1.0) is None
    plain_value, plain = loss.error(out, target, 6)
    torch.testing.assert_close(value, plain_value, rtol=1e-6, atol=0)
    torch.testing.assert_close(error, plain, rtol=0, atol=2e-7 * float(plain.abs().max()))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_find_the_same(compiled: None, threads: int) -> None:
    (out, target), before = case(), torch.get_num_threads()
    once, spikes = softmax_error(out, target, 0.7, 0.3), total(out.repeat(1, 10, 10))
    torch.set_num_threads(threads)
    again = softmax_error(out, target, 0.7, 0.3)
    assert torch.equal(total(out.repeat(1, 10, 10)), spikes)
    torch.set_num_threads(before)
    assert once is not None
    assert again is not None
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(compiled: None, bad: float) -> None:
    out, target = case()
    out[2, 3, 4] = bad
    value, error = StepwiseLoss().error(out, target, 6)
    assert not value.isfinite()
    assert error[2, 3].isnan().all()
    error[2, 3] = 0.0
    assert error.isfinite().all()


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_that_is_none_is_refused_as_torch_does(compiled: None, label: int) -> None:
    out, target = case()
    target[5] = label
    assert softmax_error(out, target, 1.0, 0.0) is None
    with pytest.raises((RuntimeError, IndexError)):
        StepwiseLoss().error(out, target, 6)


@pytest.mark.parametrize("shape", [(3, 7, 5), (6, 128, 801), (2, 40, 8, 9, 9)])
def test_totals_of_spikes_are_exact(compiled: None, shape: tuple[int, ...]) -> None:
    spikes = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    images = (
        spikes.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, shape[:2])
        if len(shape) == 5
        else spikes
    )
    for x in (spikes, images, spikes.double(), spikes * 3.0):
        found = total(x)
        assert found.dtype == torch.float64
        assert float(found) == float(x.double().sum())


def test_many_spikes_are_still_whole(compiled: None) -> None:
    """Beyond 2²⁴, where a sum in float32 stands still."""
    spikes = torch.ones(5, 1 << 12, 1 << 10)
    assert float(total(spikes)) == spikes.numel() > 1 << 24
