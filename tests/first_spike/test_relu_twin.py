"""Constant-slope nets are ReLU nets, while they learn too: bit for bit beside nets written with torch's own functions.

The twin of a stale-feedback run has its own stale copy of the weights. Convolutions take their input in channels-last
order, as the library's do, since another order of memory sums in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from first_spike_nets import assert_fires
from helpers import RULES
from torch import Tensor, nn

from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.nets.net import Net
from aplysia.nets.zoo import build
from aplysia.neurons.constant_slope import ConstantSlope
from aplysia.neurons.potential import Potential, Start
from aplysia.train.learner import Learner

STEPS = 12


class StaleLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stale: Tensor) -> Tensor:
        ctx.save_for_backward(x, stale)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, stale), (by,) = ctx.saved_tensors, gradients
        return by @ stale, by.t() @ x, by.sum(0), None


class StaleConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stale: Tensor) -> Tensor:
        ctx.save_for_backward(x, stale)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, stale), (by,) = ctx.saved_tensors, gradients
        pads = [stale.shape[-1] // 2] * 2
        by_x, by_weight, _ = torch.ops.aten.convolution_backward(
            by, x, stale, None, [1, 1], pads, [1, 1], False, [0, 0], 1, [True, True, False]
        )
        return by_x, by_weight, by.sum((0, 2, 3)), None


class Twin(nn.Module):
    """The same net with ReLU; `stale` keeps the weights it was born with for the way back."""

    def __init__(self, net: Net, *, stale: bool) -> None:
        super().__init__()
        self.weights = nn.ParameterList(layer.weight.detach().clone() for layer in net.all)
        self.biases = nn.ParameterList(layer.bias.detach().clone() for layer in net.all if layer.bias is not None)
        self.pools = [[pool.size for pool in layer.pools] for layer in net.all]
        self.stale = [w.detach().clone() for w in self.weights] if stale else None

    def forward(self, x: Tensor) -> Tensor:
        for n, weight in enumerate(self.weights):
            bias = self.biases[n] if len(self.biases) else None
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            for size in self.pools[n]:
                x = F.max_pool2d(x, size)
            if weight.ndim == 2:
                x = x.flatten(1)
                x = (
                    F.linear(x, weight, bias)
                    if self.stale is None
                    else StaleLinear.apply(x, weight, bias, self.stale[n])
                )
            elif self.stale is None:
                x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
            else:
                x = StaleConv.apply(x, weight, bias, self.stale[n])
            if n < len(self.weights) - 1:
                x = F.relu(x)
        return x


def train_beside(
    text: str, shape: tuple[int, ...], rule: str, twin: Callable[[Net], nn.Module], *, bias: bool = True
) -> tuple[Net, nn.Module]:
    """Both for a dozen batches of SGD with momentum; the ReLU net knows nothing of the library, and all stays equal."""
    net = build(text, shape, neuron=ConstantSlope(), readout=Potential(reading=Start()), bias=bias, seed=4)
    other = twin(net)
    learner = Learner(
        net,
        rule=RULES[rule](),
        temporal=SpikeTime(),
        loss=StepwiseLoss(mse_share=0.0),
        optimiser=torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9),
    )
    optimiser = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
    source = torch.Generator().manual_seed(9)
    for _ in range(STEPS):
        x, target = torch.rand(32, *shape, generator=source), torch.randint(0, 5, (32,), generator=source)
        assert_fires(net, x.unsqueeze(0))
        record = learner.learn(x.unsqueeze(0), target)
        out = other(x)
        # The loss's closed form and autograd's differ in the last place, so both nets get the same error.
        _, error = learner.loss.error(out.detach().unsqueeze(0), target, 1)
        out.backward(error[0])
        assert torch.equal(record.logits, out.detach())
        learner._apply()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return net, other


def equal_weights(net: Net, twin: Twin) -> bool:
    theirs = [*twin.weights, *twin.biases]
    ours = [layer.weight for layer in net.all] + [layer.bias for layer in net.all if layer.bias is not None]
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("text", "shape"), [("F48-F32-F5", (20,)), ("6C3-P2-8C3-P2-F5", (2, 8, 8))], ids=["dense", "conv"]
)
@pytest.mark.parametrize("rule", ["Symmetric", "CopyOnce"])
def test_it_trains_bit_for_bit_as_a_relu_net(text: str, shape: tuple[int, ...], rule: str) -> None:
    # Inside torch's own convolution the gradient of a bias is summed in another order.
    bias = len(shape) == 1 or rule == "CopyOnce"
    net, twin = train_beside(text, shape, rule, lambda n: Twin(n, stale=rule == "CopyOnce"), bias=bias)
    assert isinstance(twin, Twin)
    assert equal_weights(net, twin)
    if twin.stale is not None:
        for stale, weight in zip(twin.stale, twin.weights, strict=True):
            assert (stale - weight).abs().max() > 0.01, "the weights hardly moved: stale feedback would not be seen"


def test_the_stale_copy_matters() -> None:
    net, twin = train_beside_once()
    assert not equal_weights(net, twin)


def train_beside_once() -> tuple[Net, Twin]:
    """The library with stale feedback, the twin without, and no comparison on the way."""
    net = build("F48-F32-F5", (20,), neuron=ConstantSlope(), readout=Potential(reading=Start()), seed=4)
    twin = Twin(net, stale=False)
    made = [torch.optim.SGD(n.parameters(), lr=0.1, momentum=0.9) for n in (net, twin)]
    learner = Learner(
        net, rule=RULES["CopyOnce"](), temporal=SpikeTime(), loss=StepwiseLoss(mse_share=0.0), optimiser=made[0]
    )
    source = torch.Generator().manual_seed(9)
    for _ in range(3):
        x, target = torch.rand(32, 20, generator=source), torch.randint(0, 5, (32,), generator=source)
        learner.update(x.unsqueeze(0), target)
        F.cross_entropy(twin(x), target).backward()
        made[1].step()
        made[1].zero_grad(set_to_none=True)
    return net, twin


def test_backpropagation_is_a_plain_module() -> None:
    class Plain(nn.Sequential):
        def __init__(self, net: Net) -> None:
            parts: list[nn.Module] = []
            for layer in net.all:
                linear = nn.Linear(layer.fan_in, layer.units)
                linear.load_state_dict(layer.state_dict())
                parts += [linear, nn.ReLU()]
            super().__init__(*parts[:-1])

    net, plain = train_beside("F48-F32-F5", (20,), "Symmetric", Plain)
    theirs = list(plain.parameters())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), theirs, strict=True))
