"""A small residual net, and the same net as its papers write it: plain torch, step by step, with its structure by heart.

    x = stem(input)                                       s = fire(x)
    branch = conv_b(2.74·fire(conv_a(2.74·s)))            skip = x,  or conv_s(2.74·s)
    x = skip + 0.2·g·branch                               s = fire(x / β)

Nothing here knows of joins, of shortcuts as parts of layers, or of skip gains folded into weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from helpers import psi_of
from torch import Tensor

from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.credit.temporal.traceless import Traceless
from aplysia.nets.net import Input, Net
from aplysia.nets.noise import NoiseSource
from aplysia.nets.zoo import build
from aplysia.neurons.lif import LIF
from aplysia.ops.surrogate import Sigmoid
from aplysia.rng import generator
from aplysia.types import Held

TEXT = "4C3-4R3-6R3s2-6R3-A2-5R3-AG-F4"
# name, whether its shortcut has weights, stride, average pool in front, β² by hand
BLOCKS = [
    ("block2", False, 1, 1, 1.04),
    ("block3", True, 2, 1, 1.04),
    ("block4", False, 1, 1, 1.08),
    ("block5", True, 1, 2, 1.04),
]
STEM = "6C7s2a3-6R3-AG-F4"
SHAPE = (2, 8, 8)
SCHEMES: dict[str, Callable[..., Any]] = {"through_time": ThroughTime, "trace": Trace, "traceless": Traceless}
NEURON = LIF(leak=0.6, surrogate=Sigmoid(slope=3.0), detach_reset=False)
GAIN = 2.74

Feedback = dict[str, Tensor] | None
Signal = tuple[Tensor, Tensor]  # what is sent, and what traces hear of it


def residual(text: str = TEXT, *, neuron: LIF = NEURON, shape: tuple[int, ...] = SHAPE) -> Net:
    """In double precision; biases, gains and skip gains away from where they start."""
    net = build(text, shape, neuron=neuron, standardise=True, gain=GAIN, seed=3).double()
    with torch.no_grad():
        for layer in net.synapses:
            source = generator("cpu", "residual", layer.name)
            assert layer.bias is not None
            layer.bias.copy_(0.2 * torch.randn(layer.bias.shape, generator=source))
            if layer.weight_gain is not None:
                layer.weight_gain.copy_(1.0 + 0.5 * torch.rand(layer.weight_gain.shape, generator=source))
            if layer.shortcut is not None:
                layer.shortcut.gain.copy_(torch.rand((), generator=source) * 4 - 6)
    return net


def batch(steps: int = 5, *, held: bool = False, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> tuple[Input, Tensor]:
    source = torch.Generator().manual_seed(100 + seed)
    target = torch.randint(0, 4, (3,), generator=source)
    if held:
        return Held(1.5 * torch.randn(3, *shape, generator=source, dtype=torch.float64), steps), target
    return 1.5 * torch.randn(steps, 3, *shape, generator=source, dtype=torch.float64), target


class _Fire(torch.autograd.Function):
    """H(x) forward, ψ(x) backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, psi: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.psi = psi
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.psi(x), None


class Plain:
    """The net of `TEXT`, or of `STEM`, one step after another.

    Args:
        net: whose numbers are copied out.
        scheme: through_time: autograd through all steps; trace, traceless: membranes are detached, and weights see the trace
            of their input, or the input.
        feedback: what errors go down through, by name of the synapse; None: the weights.
        direct: weights from the output to the spikes of each hidden layer; all else is cut.
        noise: on each hidden layer.
    """

    def __init__(
        self,
        net: Net,
        scheme: str,
        *,
        feedback: Feedback = None,
        direct: Feedback = None,
        noise: NoiseSource | None = None,
    ) -> None:
        self.leaves = {
            n.removeprefix("layers."): p.detach().clone().requires_grad_() for n, p in net.named_parameters()
        }
        self.scheme, self.feedback, self.direct, self.noise, self.t = scheme, feedback, direct, noise, 0
        self.stem = "conv1.weight" in self.leaves and self.leaves["conv1.weight"].shape[-1] == 7
        self.v: dict[str, Tensor] = {}
        self.traces: dict[str, Tensor] = {}
        self.fired: dict[str, Tensor] = {}
        neuron = net.all[0].neuron
        assert isinstance(neuron, LIF)
        self.leak, self.psi, self.detached = neuron.leak, psi_of(neuron.surrogate), neuron.detach_reset

    def _weight(self, name: str) -> Tensor:
        weight, gain = self.leaves[f"{name}.weight"], self.leaves.get(f"{name}.weight_gain")
        if gain is None:
            return weight
        flat = weight.flatten(1)
        root = (flat.var(1, keepdim=True) * flat.shape[1] + 1e-4).sqrt()
        return (gain[:, None] * (flat - flat.mean(1, keepdim=True)) / root).view_as(weight)

    def _synapse(
        self, key: str, name: str, drive: Signal, product: Callable[..., Tensor], scale: Tensor | float, leak: float
    ) -> Tensor:
        """scale·(W·drive + b): errors go down through the feedback, weights (and the scale) see the trace."""
        weight, bias = scale * self._weight(name), scale * self.leaves[f"{name}.bias"]
        bias = bias if weight.ndim == 2 else bias[:, None, None]
        sent, heard = drive
        if self.direct is not None:
            sent = sent.detach()
        down = weight if self.feedback is None else self.feedback.get(key, weight)
        if self.scheme == "through_time" and self.feedback is None and self.noise is None:
            return product(sent, weight) + bias
        seen = heard.detach()
        if self.scheme == "trace":
            seen = self.traces[key] = seen + leak * self.traces.get(key, 0.0)
        below, above = product(sent, down.detach()), product(seen, weight)
        value = product(sent, weight).detach()
        return value + (below - below.detach()) + (above - above.detach()) + bias

    def _conv(self, key: str, name: str, drive: Signal, stride: int = 1, scale: Tensor | float = 1.0) -> Tensor:
        def product(x: Tensor, w: Tensor) -> Tensor:
            return F.conv2d(x, w, None, stride, w.shape[-1] // 2)

        return self._synapse(key, name, drive, product, scale, self.leak)

    def _fire(self, name: str, current: Tensor) -> Signal:
        """Sends spikes and noise; traces may hear the spikes alone."""
        v = self.v.get(name, torch.zeros_like(current))
        u = current + self.leak * (v if self.scheme == "through_time" else v.detach())
        site, n = None, torch.zeros(())
        if self.noise is not None:
            site = type(self.noise.noise.site).__name__
            n = self.noise.noise.alpha * self.noise.draw(name, self.t, 1, u.detach())[0]
        u = u + n if site == "Membrane" else u
        s = _Fire.apply(u + n - 1.0 if site == "Comparator" else u - 1.0, self.psi)
        assert isinstance(s, Tensor)
        self.v[name] = u - (s.detach() if self.detached else s)
        self.fired[name] = GAIN * s
        sent = GAIN * (s + n) if site == "Activity" else GAIN * s
        return sent, sent if self.noise is None or self.noise.noise.traced else GAIN * s

    def step(self, signal: Tensor) -> Tensor:
        x = self._conv("conv1", "conv1", (signal, signal), 2 if self.stem else 1)
        if self.stem:
            x = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        s = self._fire("conv1", x)
        for name, projected, stride, pool, variance in BLOCKS[:1] if self.stem else BLOCKS:
            s = F.avg_pool2d(s[0], pool), F.avg_pool2d(s[1], pool)
            scale = 0.2 * self.leaves[f"{name}b.shortcut.gain"]
            a = self._fire(f"{name}a", self._conv(f"{name}a", f"{name}a", s, stride))
            branch = self._conv(f"{name}b", f"{name}b", a, 1, scale)
            if projected:
                skip = self._conv(f"{name}s", f"{name}b.shortcut.projection", s, stride)
            else:
                skip = x if self.direct is None else x.detach()
            x = skip + branch
            s = self._fire(f"{name}b", x / variance**0.5)
        self.t += 1
        pooled = s[0].mean((-2, -1)), s[1].mean((-2, -1))
        return self._synapse("readout", "readout", pooled, F.linear, 1.0, 0.0)

    def gradients(self, x: Input, target: Tensor, mse_share: float = 0.3) -> dict[str, Tensor]:
        steps = x.steps if isinstance(x, Held) else len(x)
        total = torch.zeros((), dtype=torch.float64)
        for t in range(steps):
            out = self.step(x.value if isinstance(x, Held) else x[t])
            hot = F.one_hot(target, 4).double()
            loss = (1 - mse_share) * F.cross_entropy(out, target) + mse_share * (out - hot).square().mean()
            total = total + loss / steps
            if self.direct is not None:
                (error,) = torch.autograd.grad(loss / steps, out, retain_graph=True)
                for name, spikes in self.fired.items():
                    total = total + ((error @ self.direct[name]).view_as(spikes) * spikes).sum()
        total.backward()
        return {name: leaf.grad for name, leaf in self.leaves.items() if leaf.grad is not None}
