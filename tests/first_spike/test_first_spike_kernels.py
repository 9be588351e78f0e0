"""First-spike kernels: compiled as eager, one order of memory as another, one kernel for all batch sizes."""

from __future__ import annotations

import pytest
import torch
from first_spike_nets import CASES, WINDOWED, Case, assert_fires, attach, close, learnt, oracle_outs, outs
from torch import Tensor
from torch._dynamo.utils import counters

from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.nets.net import Net
from aplysia.nets.zoo import build
from aplysia.neurons.potential import Potential
from aplysia.neurons.windowed import Windowed
from aplysia.ops.backend import compiler_problem, kernels
from aplysia.ops.first_spike import Window, count_spikes, windowed_spike

needs_compiler = pytest.mark.skipif(
    compiler_problem() is not None, reason=f"kernels cannot be compiled: {compiler_problem()}"
)
quiet_compile = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore:.*:UserWarning:torch", "ignore::FutureWarning"
)


def some(batch: int, shape: tuple[int, ...] = (33,)) -> tuple[Tensor, Tensor, Tensor]:
    source = torch.Generator().manual_seed(batch)
    z, slope = (torch.randn(batch, *shape, generator=source) for _ in range(2))
    return z, slope + 0.3, 0.2 * torch.randn(shape[0], generator=source)


def numbers(w: Window, z: Tensor, slope: Tensor, bias: Tensor | None) -> list[Tensor]:
    """Earliness with and without a graph, counts, and the gradients by everything."""
    leaves = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (z, slope)]
    if bias is not None:
        leaves.append(bias.clone().requires_grad_())
    x = windowed_spike(w, *leaves)
    share = float((x > 0).double().mean())
    assert 0.05 < share < 0.95
    assert ((x > 0) & (x < w.length)).any()
    error = torch.randn(x.shape, generator=torch.Generator().manual_seed(7))
    return [
        x.detach(),
        windowed_spike(w, z, slope, bias),
        *count_spikes(x, w.length),
        *torch.autograd.grad(x, leaves, error),
    ]


@needs_compiler
@quiet_compile
@pytest.mark.parametrize(
    ("w", "biased"), [(Window(1.0, 1.0, 1.0), False), (Window(1.9, 0.7, None), True)], ids=["default", "bias, T 1.9"]
)
def test_compiled_equals_eager_for_every_batch_size_from_one_kernel(w: Window, biased: bool) -> None:
    graphs = [counters["stats"]["unique_graphs"]]
    for batch in (4, 3, 64, 1, 17, 100):
        for shape in ((33,), (5, 6, 6)):
            z, slope, bias = some(batch, shape)
            bias = bias if biased else None
            if len(shape) == 3 and batch > 4:
                z, slope = (t.contiguous(memory_format=torch.channels_last) for t in (z, slope))
            want = numbers(w, z, slope, bias)
            with kernels(compiled=True) as really:
                assert really
                got = numbers(w, z, slope, bias)
            for a, b in zip(want, got, strict=True):
                assert a.shape == b.shape
                assert torch.equal(a, b)
        graphs.append(counters["stats"]["unique_graphs"])
    # fire, fire with gain, adjoint, count; the last once more for a batch of one
    assert [n - graphs[0] for n in graphs[1:]] == [4, 4, 4, 5, 5, 5], "kernels were compiled anew for other sizes"


@needs_compiler
@quiet_compile
def test_a_net_trains_to_the_same_weights_compiled() -> None:
    def trained() -> list[Tensor]:
        net = build("4C3-P2-F8-F4", (2, 6, 6), neuron=Windowed(), readout=Potential(), seed=1)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
        source = torch.Generator().manual_seed(0)
        for _ in range(3):
            x = torch.rand(1, 5, 2, 6, 6, generator=source)
            assert_fires(net, x)
            torch.nn.functional.cross_entropy(net(x).outs[-1][0], torch.arange(5) % 4).backward()
            optimiser.step()
            optimiser.zero_grad()
        return [p.detach().clone() for p in net.parameters()]

    eager = trained()
    with kernels(compiled=True):
        compiled = trained()
    assert all(torch.equal(a, b) for a, b in zip(eager, compiled, strict=True))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("orders", ["last, last", "last, first", "first, last", "strided, last", "last, strided"])
def test_the_order_of_memory_changes_no_number(orders: str, bias: bool) -> None:
    def put(t: Tensor, order: str) -> Tensor:
        if order == "last":
            return t.contiguous(memory_format=torch.channels_last)
        return t if order == "first" else t.transpose(2, 3).contiguous().transpose(2, 3)

    w = Window(0.8, 1.2, 2.0)
    z, slope, b = some(6, (5, 4, 7))
    first, second = orders.split(", ")
    want = numbers(w, z, slope, b if bias else None)
    got = numbers(w, put(z, first), put(slope, second), b if bias else None)
    for n, (a, c) in enumerate(zip(want, got, strict=True)):
        if n == 6:  # a sum in another order
            torch.testing.assert_close(a, c)
        else:
            assert torch.equal(a, c)


@pytest.mark.parametrize("case", [c for n, c in CASES.items() if "conv" in n], ids=[n for n in CASES if "conv" in n])
def test_images_in_either_order_of_memory_give_the_same_net(case: Case) -> None:
    net, (x, target) = case.net(), case.input()
    other = x[0].contiguous(memory_format=torch.channels_last).unsqueeze(0)
    assert other.stride() != x.stride()
    assert all(torch.equal(a, b) for a, b in zip(outs(net, x), outs(net, other), strict=True))
    rule = attach("FeedbackAlignment", net)
    want, got = (learnt(net, rule, given, target, case.loss) for given in (x, other))
    assert all(torch.equal(want[name], got[name]) for name in want)


# ── pools ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_maximum_pool_passes_the_earliest_spike_and_silence() -> None:
    case = WINDOWED["conv"]
    net, (x, _) = case.net(), case.input()
    x = x * (torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.5)
    x[0, 0, 0, :2, :2] = 0.0
    layer = build("P2-F4", (2, 8, 8), neuron=Windowed()).readout
    pooled = layer.prepare(x[0]).view(5, 2, 4, 4)
    times = torch.where(x[0] > 0, 1.0 - x[0], torch.inf)
    silent = 0
    for b in range(5):
        for c in range(2):
            for i in range(4):
                for j in range(4):
                    first = min(times[b, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten().tolist())
                    got = float(pooled[b, c, i, j])
                    assert got == (0.0 if first == float("inf") else 1.0 - first) or abs(1.0 - got - first) < 1e-15
                    silent += got == 0.0
    assert float(pooled[0, 0, 0, 0]) == 0.0
    assert 1 <= silent < 80
    assert_fires(net, x)


def plain(net: Net) -> Symmetric:
    rule = Symmetric()
    rule.attach(net, seed=0)
    return rule


@pytest.mark.parametrize("window", [1.0, 2.5])
def test_an_average_pool_is_a_larger_fan_in_with_smaller_weights(window: float) -> None:
    """Every spike under the pool drives with w/k²: written out as a dense layer over all pixels and run by the oracle."""
    neuron = Windowed(window=window, threshold=2.0 * window)
    pooled = build("A2-F12-F3", (2, 6, 6), neuron=neuron, seed=2).double()
    dense = build("F12-F3", (72,), neuron=neuron, seed=2).double()
    source = torch.Generator().manual_seed(5)
    x = torch.rand(1, 4, 2, 6, 6, generator=source, dtype=torch.float64) * window
    x = x * (torch.rand(x.shape, generator=source) < 0.6)
    with torch.no_grad():
        pooled.all[0].weight.mul_(2.0)
        for n in range(12):
            for c in range(2):
                for i in range(6):
                    for j in range(6):
                        place = c * 9 + (i // 2) * 3 + j // 2
                        dense.all[0].weight[n, c * 36 + i * 6 + j] = pooled.all[0].weight[n, place] / 4
        for p in (pooled, dense):
            p.all[0].bias.copy_(0.1 * torch.linspace(-1, 1, 12))  # type: ignore[union-attr]
        dense.readout.weight.copy_(pooled.readout.weight)
    assert_fires(pooled, x)
    flat = x.flatten(2)
    for want in (oracle_outs(dense, flat)[0], outs(dense, flat)[0]):
        torch.testing.assert_close(outs(pooled, x)[0], want, rtol=1e-11, atol=1e-12)
    # and its gradients: a pooled weight's is the mean of those it stands for
    target, case = torch.tensor([0, 1, 2, 0]), CASES["dense"]
    by = [learnt(n, plain(n), s, target, case.loss) for n, s in ((pooled, x), (dense, flat))]
    spread = by[1]["dense1.weight"].view(12, 2, 3, 2, 3, 2).sum((3, 5)) / 4
    close(by[0], by[1] | {"dense1.weight": spread.reshape(12, 18)})
