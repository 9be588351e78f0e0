"""Gradients in the limit of endless streams: the artificial net by plain autograd, or the smoothed net without memory."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import close, gradients
from stream_parts import (
    CONV,
    CONV_SHAPE,
    artificial,
    assert_streams_alive,
    by_autograd,
    learnt,
    rates,
    repeated,
    stream_net,
)
from torch import Tensor

from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.nets.net import Net
from aplysia.neurons.bitstream import AbstractTransfer, ClippedLinear, Sigmoid
from aplysia.neurons.stream_memory import AbstractMemory, BlockMean, LeakyMean, Memoryless, RunningMean
from aplysia.ops.stream import Bits, Expect
from aplysia.types import Held

NETS = {
    "dense": ("F16-F4", (12,)),
    "dense, two hidden": ("F16-F14-F4", (12,)),
    "conv, average pool, stride, groups": (CONV, CONV_SHAPE),
    "conv, whole-image pool": ("4C3-AG-F4", CONV_SHAPE),
}
TRANSFERS = {
    "clipped": ClippedLinear(),
    "sigmoid": Sigmoid(),
    "steep sigmoid": Sigmoid(slope=7.0, centre=0.3),
}


@pytest.mark.parametrize("memory", [RunningMean(), BlockMean()], ids=["running", "block"])
@pytest.mark.parametrize("transfer", TRANSFERS.values(), ids=TRANSFERS)
@pytest.mark.parametrize("text", NETS.values(), ids=NETS)
def test_endless_streams_are_the_artificial_net(
    text: tuple[str, tuple[int, ...]], transfer: AbstractTransfer, memory: AbstractMemory
) -> None:
    """Gradients, answers, loss and rates, to rounding in float64; units below, inside and above the range of the clip."""
    net = stream_net(*text, transfer=transfer, memory=memory)
    x, target = rates(text[1], batch=6)
    assert_streams_alive(net, Held(x, 32))
    membranes, logits = artificial(net, x)
    if isinstance(transfer, ClippedLinear):
        m = membranes[0].detach()
        assert min(int((m < 0).sum()), int((m > 1).sum()), int(((m > 0) & (m < 1)).sum())) > 0
    want = by_autograd(net, x, target)
    for steps in (1, 7):
        got, record = learnt(net, Held(x, steps), target, engine=Expect())
        close(got, want)
        torch.testing.assert_close(record.loss, F.cross_entropy(logits, target).detach())
        torch.testing.assert_close(record.logits, torch.log_softmax(logits, 1).detach())
    answer, _ = Coincidence(engine=Expect()).predict(net, Held(x, 5))
    torch.testing.assert_close(answer, torch.log_softmax(logits, 1).detach())


def test_endless_streams_count_the_spikes_they_stand_for() -> None:
    net, (x, target) = stream_net(), rates()
    _, record = learnt(net, Held(x, 50), target, engine=Expect())
    hidden = artificial(net, x)[0][0].detach().clamp(0.0, 1.0)
    torch.testing.assert_close(record.spikes, torch.tensor([50.0 * float(hidden.sum()), 250.0], dtype=torch.float64))
    assert record.slots == [50 * 5 * 16, 50 * 5 * 4]


# --- without memory --------------------------------------------------------------------------------------------------


class _Smooth(torch.autograd.Function):
    """Forward E clip(m), backward E 1[0 < m < 1] by the mean alone, for m ~ N(μ, s²), by 20,001 points of Simpson's rule."""

    @staticmethod
    def forward(ctx: object, mean: Tensor, deviation: Tensor) -> Tensor:
        t = torch.linspace(0.0, 1.0, 20_001, dtype=torch.float64)
        z = (t - mean.unsqueeze(-1)) / deviation.unsqueeze(-1)
        density = torch.exp(-0.5 * z * z) / (math.sqrt(2.0 * math.pi) * deviation.unsqueeze(-1))
        weight = torch.full_like(t, 2.0)
        weight[1::2], weight[0], weight[-1] = 4.0, 1.0, 1.0
        weight /= 3.0 * 20_000
        ctx.save_for_backward((density * weight).sum(-1))  # type: ignore[attr-defined]
        above = torch.special.ndtr((mean - 1.0) / deviation)
        return (t * density * weight).sum(-1) + above

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradients[0] * ctx.saved_tensors[0], None  # type: ignore[attr-defined]


def smoothed(net: Net, x: Tensor, target: Tensor, share: float) -> dict[str, Tensor]:
    """Gradients of the net whose hidden membranes are normal: s² = share·Σ w²·x(1 − x)."""
    net.zero_grad(set_to_none=True)
    for layer in net.hidden:
        with torch.no_grad():
            spread = F.linear(x * (1.0 - x), layer.weight.square()) * share
        x = _Smooth.apply(F.linear(x, layer.weight, layer.bias), spread.sqrt())  # type: ignore[assignment]
    F.cross_entropy(F.linear(x, net.readout.weight, net.readout.bias), target).backward()
    return gradients(net)


# The variance of Σ_s (1 − λ)·λ^(t−s)·u[s] is that of u times Σ (1 − λ)²·λ^(2k) = (1 − λ)/(1 + λ).
NOISY = {"memoryless": (Memoryless(), 1.0), "leaky": (LeakyMean(leak=0.6), 0.16 / (1.0 - 0.36))}


@pytest.mark.parametrize(("memory", "share"), NOISY.values(), ids=NOISY)
@pytest.mark.parametrize("text", ["F16-F4", "F16-F14-F4"])
def test_the_limit_without_memory_is_the_smoothed_net(text: str, memory: AbstractMemory, share: float) -> None:
    """By numerical integration in place of the closed form."""
    net, (x, target) = stream_net(text, memory=memory), rates()
    x = x.clamp(0.05, 0.95)  # a unit without noise has no density to integrate
    got, _ = learnt(net, Held(x, 8), target, engine=Expect())
    close(got, smoothed(net, x, target, share), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("memory", "share"), NOISY.values(), ids=NOISY)
def test_bits_without_memory_tend_to_the_smoothed_net_and_not_to_the_plain_one(
    memory: AbstractMemory, share: float
) -> None:
    """Mean of 16 gradients of 384 steps.

    What is left to the smoothed net is the normal law for 40 inputs, and that input, spike and derivative bit of one step are
    not independent; to the plain net it is the noise, which no length removes.
    """
    net, (x, target) = stream_net("F24-F4", (40,), memory=memory, weights=2.0), rates((40,), batch=8)
    assert_streams_alive(net, Held(x, 64))
    made = repeated(net, Held(x, 384), target, Bits(), 16)
    plain, smooth = by_autograd(net, x, target), smoothed(net, x, target, share)
    close(learnt(net, Held(x, 8), target, engine=Expect())[0], smooth, rtol=1e-5, atol=1e-8)
    for name in ("dense1.weight", "readout.weight"):
        # The noise of a mean of 16 is no distance of the limits.
        noise = made[name].var(0).sum() / len(made[name])
        away = [(made[name].mean(0) - truth[name]).square().sum() - noise for truth in (smooth, plain)]
        to_smooth, to_plain = (float(d.clamp_min(0.0).sqrt() / plain[name].norm()) for d in away)
        assert to_smooth < 0.1, f"{name}: {to_smooth:.3f} and {to_plain:.3f}"
        assert to_plain > 3.0 * to_smooth, f"{name}: {to_smooth:.3f} and {to_plain:.3f}"
        assert to_plain > 0.1
