"""Every rule under every scheme, written out by hand: slow loops over time and layers, gradients derived on paper.

Nothing here differentiates automatically and nothing is imported from the library: plain tensor arithmetic in float64. A
layer is pool → weights → neuron → (dropout mask) → gain. With x the input, d the pooled drive, W the effective weight:

    I[t] = W·d[t] + b         u[t] = λ·v[t−1] + I[t]         s[t] = [u[t] ≥ θ]        y[t] = gain·mask·s[t]
    v[t] = u[t] − a·s[t]  (soft)      v[t] = u[t]·(1 − s[t]) + r·s[t]  (hard)

and for a readout y[t] = v[t] = λ·v[t−1] + I[t]. Noise n[t] = α·(gain or θ)·z[t] enters a hidden layer at one of three places:

    activity     y[t] + n[t] is sent on           membrane     u[t] = λ·v[t−1] + I[t] + n[t]
    comparator   s[t] = [u[t] + n[t] ≥ θ], and ψ is taken there too; v[t] comes of the u[t] without it

What rules learn from such noise, and local errors, stand in `oracles_response`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

# --- surrogate derivatives -------------------------------------------------------------------------------------------


def psi_sigmoid(x: Tensor, slope: float) -> Tensor:
    # d/dx 1/(1 + e^(−kx)) = k·e^(−kx)/(1 + e^(−kx))² = k / (2·cosh(kx/2))²
    return slope / (2.0 * torch.cosh(slope * x / 2.0)) ** 2


def psi_triangle(x: Tensor, width: float) -> Tensor:
    return torch.where(x.abs() < width, (width - x.abs()) / width**2, torch.zeros_like(x))


def psi_arctan(x: Tensor, alpha: float) -> Tensor:
    # d/dx (1/π)·arctan(παx/2)
    return (1.0 / math.pi) * (math.pi * alpha / 2.0) / (1.0 + (math.pi * alpha * x / 2.0) ** 2)


def psi_rectangle(x: Tensor, width: float) -> Tensor:
    return torch.where(x.abs() < width / 2.0, torch.full_like(x, 1.0 / width), torch.zeros_like(x))


PSI: dict[str, Callable[..., Tensor]] = {
    "Sigmoid": psi_sigmoid,
    "Triangle": psi_triangle,
    "Arctan": psi_arctan,
    "Rectangle": psi_rectangle,
}

# --- layers ----------------------------------------------------------------------------------------------------------


@dataclass
class OracleLayer:
    """One layer's numbers. `conv` is (stride, padding, groups), or None where weights are dense."""

    name: str
    weight: Tensor
    bias: Tensor | None
    weight_gain: Tensor | None
    conv: tuple[int, int, int] | None
    pools: tuple[tuple[str, int], ...]
    leak: float
    spiking: bool
    gain: float = 1.0
    threshold: float = 1.0
    psi: Callable[[Tensor], Tensor] | None = None
    hard: bool = False
    reset: float = 0.0  # the amount a (soft) or the potential r (hard)
    detached: bool = True
    mask: Tensor | None = None

    # weights

    def effective(self) -> Tensor:
        """Ŵ_n = γ_n·(W_n − mean W_n) / √(var W_n · fan_in + 1e-4), the variance unbiased; W itself without a γ."""
        if self.weight_gain is None:
            return self.weight
        made = torch.empty_like(self.weight)
        for n in range(len(self.weight)):
            centred, root = self._centred(n)
            made[n] = (self.weight_gain[n] * centred * root).view_as(self.weight[n])
        return made

    def _centred(self, n: int) -> tuple[Tensor, float]:
        w = self.weight[n].flatten()
        fan_in = len(w)
        centred = w - w.sum() / fan_in
        variance = float((centred * centred).sum()) / (fan_in - 1)
        return centred, (variance * fan_in + 1e-4) ** -0.5

    def stored_gradients(self, by_effective: Tensor) -> dict[str, Tensor]:
        """From G = ∂L/∂Ŵ to the gradients of what is stored.

        With c = W − mean and ρ = (n/(n−1)·Σc² + ε)^(−½):  ∂ρ/∂c_j = −ρ³·n/(n−1)·c_j, so
            ∂L/∂γ = ρ·Σ G c       ∂L/∂c_j = γρ·G_j − γρ³·n/(n−1)·(Σ G c)·c_j       ∂L/∂W_j = ∂L/∂c_j − mean(∂L/∂c)
        """
        if self.weight_gain is None:
            return {f"{self.name}.weight": by_effective}
        by_weight, by_gain = torch.empty_like(self.weight), torch.empty_like(self.weight_gain)
        for n in range(len(self.weight)):
            c, root = self._centred(n)
            g, gain, fan_in = by_effective[n].flatten(), float(self.weight_gain[n]), len(c)
            along = float((g * c).sum())
            by_c = gain * root * g - gain * root**3 * fan_in / (fan_in - 1) * along * c
            by_weight[n] = (by_c - by_c.sum() / fan_in).view_as(self.weight[n])
            by_gain[n] = root * along
        return {f"{self.name}.weight": by_weight, f"{self.name}.weight_gain": by_gain}

    # the three products of a connection, position by position

    def _taps(self, shape: torch.Size) -> list[tuple[int, int, int, int]]:
        """(row out, column out, row in, column in) for every output position, in padded coordinates."""
        assert self.conv is not None
        stride, padding, _ = self.conv
        k = self.weight.shape[-1]
        rows, columns = ((n + 2 * padding - k) // stride + 1 for n in shape[-2:])
        return [(i, j, i * stride, j * stride) for i in range(rows) for j in range(columns)]

    def _padded(self, drive: Tensor) -> Tensor:
        assert self.conv is not None
        padding = self.conv[1]
        b, c, h, w = drive.shape
        made = drive.new_zeros(b, c, h + 2 * padding, w + 2 * padding)
        made[:, :, padding : padding + h, padding : padding + w] = drive
        return made

    def _groups(self, drive_channels: int) -> list[tuple[slice, slice]]:
        assert self.conv is not None
        groups = self.conv[2]
        inputs, outputs = drive_channels // groups, len(self.weight) // groups
        return [(slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)) for g in range(groups)]

    def current(self, drive: Tensor, weight: Tensor) -> Tensor:
        """W·d, without bias."""
        if self.conv is None:
            return torch.einsum("bm,nm->bn", drive, weight)
        padded, k = self._padded(drive), weight.shape[-1]
        taps = self._taps(drive.shape)
        out = drive.new_zeros(len(drive), len(weight), taps[-1][0] + 1, taps[-1][1] + 1)
        for i, j, y, x in taps:
            patch = padded[:, :, y : y + k, x : x + k]
            for below, above in self._groups(drive.shape[1]):
                out[:, above, i, j] = torch.einsum("bckl,nckl->bn", patch[:, below], weight[above])
        return out

    def error_below(self, delta: Tensor, feedback: Tensor, drive: Tensor) -> Tensor:
        """Bᵀ·δ."""
        if self.conv is None:
            return torch.einsum("bn,nm->bm", delta, feedback)
        padding, k = self.conv[1], feedback.shape[-1]
        made = torch.zeros_like(self._padded(drive))
        for i, j, y, x in self._taps(drive.shape):
            for below, above in self._groups(drive.shape[1]):
                made[:, below, y : y + k, x : x + k] += torch.einsum(
                    "bn,nckl->bckl", delta[:, above, i, j], feedback[above]
                )
        h, w = drive.shape[-2:]
        return made[:, :, padding : padding + h, padding : padding + w]

    def outer(self, delta: Tensor, pre: Tensor) -> Tensor:
        """Σ over samples (and positions) of δ ⊗ pre."""
        if self.conv is None:
            return torch.einsum("bn,bm->nm", delta, pre)
        padded, k = self._padded(pre), self.weight.shape[-1]
        made = torch.zeros_like(self.weight)
        for i, j, y, x in self._taps(pre.shape):
            patch = padded[:, :, y : y + k, x : x + k]
            for below, above in self._groups(pre.shape[1]):
                made[above] += torch.einsum("bn,bckl->nckl", delta[:, above, i, j], patch[:, below])
        return made

    # one step

    def pooled(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Input before and after each pool, and the drive."""
        stages = [x]
        for kind, size in self.pools:
            stages.append(pool(kind, size, stages[-1]))
        return stages, stages[-1].flatten(1) if self.conv is None else stages[-1]

    def step(
        self,
        x: Tensor,
        v: Tensor | None,
        weight: Tensor,
        *,
        heard: Tensor | None = None,
        disturb: Callable[[tuple[int, ...]], Disturbance] | None = None,
    ) -> Moment:
        """One step; `heard` is what the update is paired with where that is not x, `disturb` gives the noise."""
        stages, drive = self.pooled(x)
        pre = drive if heard is None else self.pooled(heard)[1]
        current = self.current(drive, weight)
        if self.bias is not None:
            current = current + (self.bias if self.conv is None else self.bias[None, :, None, None])
        u = current if v is None else self.leak * v + current
        if not self.spiking:
            return Moment(stages, drive, u, None, u, u, pre=pre, sent=u)
        noise = None if disturb is None else disturb(tuple(u.shape))
        z = None if noise is None else noise.z
        shift = torch.zeros_like(u)
        if noise is not None and noise.site == "Membrane":
            u = u + noise.size * noise.z
        if noise is not None and noise.site == "Comparator":
            shift = noise.size * noise.z
        s = (u + shift >= self.threshold).to(u.dtype)
        after = u * (1.0 - s) + self.reset * s if self.hard else u - self.reset * s
        out = self.gain * (s if self.mask is None else s * self.mask)
        sent = out + noise.size * noise.z if noise is not None and noise.site == "Activity" else out
        return Moment(stages, drive, u, s, after, out, pre=pre, sent=sent, shift=shift, z=z)

    def psi_at(self, moment: Moment) -> Tensor:
        assert self.psi is not None
        return self.psi(moment.u + moment.shift - self.threshold)

    def through_reset(self, moment: Moment) -> Tensor:
        """∂v[t]/∂u[t]."""
        assert moment.s is not None
        if self.hard:
            direct, by_spike = 1.0 - moment.s, self.reset - moment.u
        else:
            direct, by_spike = torch.ones_like(moment.u), torch.full_like(moment.u, -self.reset)
        return direct if self.detached else direct + by_spike * self.psi_at(moment)

    def to_spike(self, by_out: Tensor) -> Tensor:
        """From ∂L/∂y to ∂L/∂s."""
        by_spike = self.gain * by_out if self.spiking else by_out
        return by_spike if self.mask is None else by_spike * self.mask

    def unpool(self, by_drive: Tensor, moment: Moment) -> Tensor:
        by = by_drive.view_as(moment.stages[-1])
        for (kind, size), x in zip(reversed(self.pools), reversed(moment.stages[:-1]), strict=True):
            by = pool_back(kind, size, x, by)
        return by


@dataclass
class Disturbance:
    """Noise of one layer at one step: z, the factor on it, where it enters."""

    z: Tensor
    size: float
    site: str


@dataclass
class Moment:
    """A layer at one step: input before and after each pool, drive, u, s, v after the reset, output.

    Attributes:
        pre: what the update is paired with.
        sent: the output with its noise.
        shift: noise in front of the comparator.
        z: the noise, unscaled.
    """

    stages: list[Tensor]
    drive: Tensor
    u: Tensor
    s: Tensor | None
    v: Tensor
    out: Tensor
    pre: Tensor
    sent: Tensor
    shift: Tensor | float = 0.0
    z: Tensor | None = None


def _windows(size: int, x: Tensor) -> list[tuple[int, int]]:
    return [(i, j) for i in range(x.shape[-2] // size) for j in range(x.shape[-1] // size)]


def _first_largest(window: Tensor) -> tuple[Tensor, Tensor]:
    """Largest value of each window and, among equals, the first place in reading order."""
    flat = window.flatten(-2)
    best, place = flat[..., 0], torch.zeros_like(flat[..., 0], dtype=torch.long)
    for n in range(1, flat.shape[-1]):
        larger = flat[..., n] > best
        best, place = torch.where(larger, flat[..., n], best), torch.where(larger, torch.full_like(place, n), place)
    return best, place


def pool(kind: str, size: int, x: Tensor) -> Tensor:
    out = x.new_zeros(*x.shape[:2], x.shape[2] // size, x.shape[3] // size)
    for i, j in _windows(size, x):
        window = x[:, :, i * size : (i + 1) * size, j * size : (j + 1) * size]
        out[:, :, i, j] = window.sum((-1, -2)) / size**2 if kind == "average" else _first_largest(window)[0]
    return out


def pool_back(kind: str, size: int, x: Tensor, by_out: Tensor) -> Tensor:
    made = torch.zeros_like(x)
    for i, j in _windows(size, x):
        rows, columns = slice(i * size, (i + 1) * size), slice(j * size, (j + 1) * size)
        if kind == "average":
            made[:, :, rows, columns] = by_out[:, :, i, j, None, None] / size**2
        else:
            _, place = _first_largest(x[:, :, rows, columns])
            for n in range(size * size):
                made[:, :, i * size + n // size, j * size + n % size] = torch.where(place == n, by_out[:, :, i, j], 0.0)
    return made


# --- losses ----------------------------------------------------------------------------------------------------------


def softmax(o: Tensor) -> Tensor:
    raised = torch.exp(o - o.max(-1, keepdim=True).values)
    return raised / raised.sum(-1, keepdim=True)


def one_hot(target: Tensor, classes: int) -> Tensor:
    made = torch.zeros(len(target), classes, dtype=torch.float64)
    for b, label in enumerate(target.tolist()):
        made[b, label] = 1.0
    return made


@dataclass
class Stepwise:
    """(1/T)·Σ_t mean_b [(1 − c)·CE + c·mean_k (o_k − y_k)²]; its derivative by o[t]."""

    mse_share: float

    def value(self, outs: list[Tensor], target: Tensor) -> float:
        total = 0.0
        for o in outs:
            for b, label in enumerate(target.tolist()):
                squares = sum((float(v) - (k == label)) ** 2 for k, v in enumerate(o[b])) / o.shape[1]
                entropy = -math.log(float(softmax(o[b : b + 1])[0, label]))
                total += (1.0 - self.mse_share) * entropy + self.mse_share * squares
        return total / (len(outs) * len(target))

    def errors(self, outs: list[Tensor], target: Tensor, steps: int) -> list[Tensor]:
        made = []
        for o in outs:
            y = one_hot(target, o.shape[1])
            e = (1.0 - self.mse_share) * (softmax(o) - y) + self.mse_share * 2.0 / o.shape[1] * (o - y)
            made.append(e / (steps * len(target)))
        return made


@dataclass
class MeanOutput:
    """CE of the mean output."""

    def value(self, outs: list[Tensor], target: Tensor) -> float:
        chance = softmax(sum(outs) / len(outs))
        return -sum(math.log(float(chance[b, label])) for b, label in enumerate(target.tolist())) / len(target)

    def errors(self, outs: list[Tensor], target: Tensor, steps: int) -> list[Tensor]:
        assert len(outs) == steps
        e = (softmax(sum(outs) / steps) - one_hot(target, outs[0].shape[1])) / (steps * len(target))
        return [e for _ in outs]


# --- rules -----------------------------------------------------------------------------------------------------------

Weights = dict[str, Tensor]


@dataclass
class Step:
    """What a rule may see of one step: its number, T, every layer's moment, the output error, labels, loss, weights."""

    t: int
    steps: int
    moments: list[Moment]
    error: Tensor
    target: Tensor
    loss: Any
    weights: Weights


class Local:
    """Errors that hidden layers make for themselves; this one is: none."""

    def see(self, net: list[OracleLayer], step: Step, rule: OracleRule) -> dict[str, Tensor]:
        """The error of each layer that has one."""
        return {}


@dataclass
class OracleRule:
    """A rule by hand. `tensors` start as copies of what the library drew; all later changes are made here.

    Attributes:
        settings: the rule under test; only its numbers (scale, decay, rate, …) are read.
        draw: `(what, layer, step) -> Tensor`, the random numbers the library would draw.
        noise: `(layer, step of the optimiser, t, shape) -> Disturbance`; None: there is none.
        local: errors that hidden layers make for themselves.
        batch: number of the optimiser step the batch belongs to.
        gradients: of those of its tensors that are trained, by name, since they were last taken.
        cuts: whether each hidden layer gets an error of its own.
    """

    settings: Any
    tensors: dict[str, Tensor]
    draw: Callable[[str, OracleLayer, int], Tensor]
    noise: Callable[[OracleLayer, int, int, tuple[int, ...]], Disturbance] | None = None
    local: Local = field(default_factory=Local)
    batch: int = 0
    gradients: dict[str, Tensor] = field(default_factory=dict)
    by_local: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    cuts: ClassVar[bool] = False

    def feedback(self, layer: OracleLayer, effective: Tensor) -> Tensor:
        return self.tensors[layer.name]

    def seed_error(self, layer: OracleLayer, error: Tensor) -> Tensor | None:
        raise NotImplementedError

    def error_at(self, layer: OracleLayer, t: int, error: Tensor) -> Tensor | None:
        return self.seed_error(layer, error)

    def watch(self, net: list[OracleLayer], step: Step) -> None:
        """A step, in order, before its errors are asked for."""

    def see(self, net: list[OracleLayer], step: Step) -> None:
        self.watch(net, step)
        for name, error in self.local.see(net, step, self).items():
            self.by_local[step.t, name] = error

    def whole_error(
        self, layer: OracleLayer, t: int, out: Tensor, error: Tensor, chained: Tensor | None
    ) -> Tensor | None:
        """What the rule sends to a hidden layer and what the layer makes for itself."""
        found = self.error_at(layer, t, error) if self.cuts else chained
        parts = [part.view_as(out) for part in (found, self.by_local.get((t, layer.name))) if part is not None]
        return sum(parts[1:], parts[0]) if parts else None

    def gather(self, name: str, gradient: Tensor) -> None:
        _add(self.gradients, f"rule.{name}", gradient)

    def take(self) -> dict[str, Tensor]:
        taken, self.gradients = self.gradients, {}
        return taken

    def after(self, net: list[OracleLayer], before: Weights, lr: float, step: int) -> None:
        """Once the weights have stepped; `before` holds the stored weights before that."""


class Symmetric(OracleRule):
    def feedback(self, layer: OracleLayer, effective: Tensor) -> Tensor:
        return effective


class FeedbackAlignment(OracleRule):
    pass


class CopyOnce(OracleRule):
    pass


class DirectFeedback(OracleRule):
    cuts: ClassVar[bool] = True

    def seed_error(self, layer: OracleLayer, error: Tensor) -> Tensor | None:
        return torch.einsum("bc,cn->bn", error, self.tensors[layer.name])


@dataclass
class FrozenBackprop(OracleRule):
    """B[sel] ← W[sel] after the steps at which a layer is due; one weight at a time, over a perfect link.

    Attributes:
        events, kept: by layer: copies so far; what scheme (pointer, θ) and timing (phase, savings) remember.
    """

    events: dict[str, int] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)

    def after(self, net: list[OracleLayer], before: Weights, lr: float, step: int) -> None:
        layers, due = net[1:], {}
        for place, layer in enumerate(layers):
            words = self._due(layers, place, lr, step + 1)
            if words != 0:
                due[layer.name] = words
        for layer in layers:
            if layer.name in due:
                self._copy(layer, self._chosen(layer, due[layer.name], step))

    def _copy(self, layer: OracleLayer, chosen: list[int]) -> None:
        assert len(chosen) == len(set(chosen))
        weight, feedback = layer.effective().flatten(), self.tensors[layer.name].clone().flatten()
        for n in chosen:
            feedback[n] = weight[n]
        self.tensors[layer.name] = feedback.view_as(layer.weight)

    def _due(self, layers: list[OracleLayer], place: int, lr: float, done: int) -> int | None:
        """Words to be copied: 0 none now, None as the scheme has it."""
        layer, phi, timing = layers[place], self.settings.interval, self.settings.schedule
        kind, size = type(timing).__name__, layer.weight.numel()
        if kind == "InverseRate":
            key = f"phase {layer.name}"
            self.kept[key] = self.kept.get(key, 0.0) + lr / self.kept.setdefault("first lr", lr)
            if self.kept[key] < phi - 1e-6:
                return 0
            self.kept[key] -= phi
            return None
        late = place * phi // len(layers) if kind == "Staggered" else 0
        phi = timing.intervals[place] if kind == "PerLayer" and timing.intervals else phi
        if done <= late or (done - late) % phi:
            return 0
        if kind == "Drift":
            far = (layer.effective() - self.tensors[layer.name]).square().sum().sqrt()
            return None if far > timing.bound * layer.effective().square().sum().sqrt() else 0
        if kind == "Budget":
            key, total = f"saved {layer.name}", sum(one.weight.numel() for one in layers)
            given = [int(timing.words) * n * size // total for n in (done - phi, done)]
            saved = min(int(self.kept.get(key, 0)) + given[1] - given[0], size)
            whole = type(self.settings.transport).__name__ == "Whole"
            words = (size if saved == size else 0) if whole else saved
            self.kept[key] = saved - words
            return words
        return None

    def _chosen(self, layer: OracleLayer, words: int | None, step: int) -> list[int]:
        scheme, name, size = self.settings.transport, layer.name, layer.weight.numel()
        kind = type(scheme).__name__
        change = (layer.effective() - self.tensors[name]).abs().flatten().tolist()
        if kind == "Whole":
            return list(range(size))
        if kind == "Threshold":
            return self._beyond(name, scheme.level, change)
        if words is None:
            event = self.events[name] = self.events.get(name, 0) + 1
            thousandths = round(1000 * scheme.fraction)
            words = event * thousandths * size // 1000 - (event - 1) * thousandths * size // 1000
        if kind == "Random":
            if 2 * words > size:
                return self.draw("permutation", layer, step).tolist()[:words]
            found: list[int] = []
            for n in self.draw("transport", layer, step).tolist():
                if len(found) < words and n not in found:
                    found.append(n)
            return found
        if kind == "Cyclic":
            first = int(self.kept.get(f"pointer {name}", 0))
            self.kept[f"pointer {name}"] = (first + words) % size
            return [(first + n) % size for n in range(words)]
        assert kind == "LargestChange", f"scheme {kind} has no oracle"
        return sorted(range(size), key=lambda n: (-change[n], n))[:words]

    def _beyond(self, name: str, level: Any, change: list[float]) -> list[int]:
        if type(level).__name__ == "Absolute":
            return [n for n, c in enumerate(change) if c > level.threshold]
        theta, size = self.kept.get(f"level {name}", 0.0), len(change)
        if theta == 0.0:
            theta = sorted(change)[size - round(1000 * level.fraction) * size // 1000 - 1]
        chosen = [n for n, c in enumerate(change) if c > theta]
        share = len(chosen) / size
        factor = math.exp(level.rate * (share - level.fraction) / level.fraction)
        self.kept[f"level {name}"] = theta * min(factor, 2.0)
        return chosen


class ReadoutOnly(OracleRule):
    cuts: ClassVar[bool] = True

    def seed_error(self, layer: OracleLayer, error: Tensor) -> Tensor | None:
        return None


class SignSymmetric(OracleRule):
    def feedback(self, layer: OracleLayer, effective: Tensor) -> Tensor:
        magnitude = self.tensors[layer.name]
        signs = torch.where(effective > 0, 1.0, torch.where(effective < 0, -1.0, 0.0)).to(magnitude.dtype)
        return magnitude * signs

    def after(self, net: list[OracleLayer], before: Weights, lr: float, step: int) -> None:
        if type(self.settings.magnitude).__name__ == "RedrawnMagnitude":
            for layer in net[1:]:
                self.tensors[layer.name] = self.draw("magnitude", layer, step).abs()


class KolenPollack(OracleRule):
    """W ← (1 − κ)·W + Δ and B ← (1 − κ)·B + Δ, κ = lr·decay."""

    def after(self, net: list[OracleLayer], before: Weights, lr: float, step: int) -> None:
        kappa = lr * self.settings.decay
        for layer in net[1:]:
            old, feedback = before[layer.name], self.tensors[layer.name]
            increment = layer.weight - old
            layer.weight = (1.0 - kappa) * old + increment
            self.tensors[layer.name] = (1.0 - kappa) * feedback + increment


class WeightMirror(OracleRule):
    """B ← (1 − η)·B + η·(1/S)·Σ_samples y ⊗ x, each tap divided by the number of pairs it sees."""

    def after(self, net: list[OracleLayer], before: Weights, lr: float, step: int) -> None:
        if (step + 1) % self.settings.interval:
            return
        for layer in net[1:]:
            x = self.draw("mirror", layer, step)
            y = layer.current(x, layer.effective())
            pairs = layer.outer(torch.ones_like(y[:1]), torch.ones_like(x[:1]))
            estimate = layer.outer(y, x) / (len(x) * pairs)
            eta = self.settings.rate
            self.tensors[layer.name] = (1.0 - eta) * self.tensors[layer.name] + eta * estimate


RULES: dict[str, type[OracleRule]] = {
    kind.__name__: kind
    for kind in (
        Symmetric,
        FeedbackAlignment,
        DirectFeedback,
        SignSymmetric,
        KolenPollack,
        WeightMirror,
        CopyOnce,
        FrozenBackprop,
        ReadoutOnly,
    )
}

# --- schemes ---------------------------------------------------------------------------------------------------------

Gradients = dict[str, Tensor]


def _add(gradients: Gradients, name: str, value: Tensor) -> None:
    gradients[name] = gradients[name] + value if name in gradients else value.clone()


@dataclass
class Learnt:
    """Gradients by parameter name (absent where there is none), outputs of the readout per step, the loss."""

    gradients: Gradients
    outs: list[Tensor]
    loss: float


def _run(
    net: list[OracleLayer], x: Tensor, weights: Weights, v: list[Tensor | None], rule: OracleRule, t: int
) -> list[Moment]:
    moments, signal, clean = [], x, None
    for n, layer in enumerate(net):
        disturb = None
        if rule.noise is not None and n < len(net) - 1:
            disturb = partial(rule.noise, layer, rule.batch, t)
        moment = layer.step(signal, v[n], weights[layer.name], heard=clean, disturb=disturb)
        v[n] = moment.v
        moments.append(moment)
        signal = moment.sent
        clean = None if rule.noise is None or rule.settings.noise.traced else moment.out
    return moments


def _stored(net: list[OracleLayer], by_effective: Weights, by_bias: Weights) -> Gradients:
    made: Gradients = {}
    for layer in net:
        if layer.name in by_effective:
            made |= layer.stored_gradients(by_effective[layer.name])
            if layer.bias is not None:
                made[f"{layer.name}.bias"] = by_bias[layer.name]
    return made


def _bias(layer: OracleLayer, delta: Tensor) -> Tensor:
    return delta.sum(0) if layer.conv is None else delta.sum((0, 2, 3))


def through_time(
    net: list[OracleLayer],
    x: list[Tensor],
    target: Tensor,
    loss: Any,
    rule: OracleRule,
    *,
    truncation: int | None = None,
) -> Learnt:
    """BPTT: g_v[t−1] = λ·δ[t],  δ[t] = g_s[t]·ψ[t] + g_v[t]·∂v/∂u; g_v starts at 0 at the end of every window."""
    steps, window = len(x), truncation or len(x)
    weights = {layer.name: layer.effective() for layer in net}
    v: list[Tensor | None] = [None] * len(net)
    film = [_run(net, x[t], weights, v, rule, t) for t in range(steps)]
    outs = [moments[-1].out for moments in film]
    errors = loss.errors(outs, target, steps)
    by_weight: Weights = {}
    by_bias: Weights = {}
    for start in range(0, steps, window):
        end = min(start + window, steps)
        for t in range(start, end):
            rule.see(net, Step(t, steps, film[t], errors[t], target, loss, weights))
        by_v: list[Tensor | float] = [0.0] * len(net)
        for t in reversed(range(start, end)):
            by_out: Tensor | None = errors[t]
            for n in reversed(range(len(net))):
                layer, moment = net[n], film[t][n]
                if n < len(net) - 1:
                    by_out = rule.whole_error(layer, t, moment.out, errors[t], by_out)
                if by_out is None:
                    continue
                by_spike = layer.to_spike(by_out)
                if layer.spiking:
                    delta = by_spike * layer.psi_at(moment) + by_v[n] * layer.through_reset(moment)
                else:
                    delta = by_spike + by_v[n]
                by_v[n] = layer.leak * delta
                _add(by_weight, layer.name, layer.outer(delta, moment.pre))
                _add(by_bias, layer.name, _bias(layer, delta))
                by_out = None
                if n > 0 and not rule.cuts:
                    below = layer.error_below(delta, rule.feedback(layer, weights[layer.name]), moment.drive)
                    by_out = layer.unpool(below, moment)
    return Learnt(_stored(net, by_weight, by_bias) | rule.take(), outs, loss.value(outs, target))


def online(
    net: list[OracleLayer],
    x: list[Tensor],
    target: Tensor,
    loss: Any,
    rule: OracleRule,
    *,
    traced: bool,
    apply: Callable[[Gradients], None] | None = None,
) -> Learnt:
    """OTTT (traced) or SLTT: δ[t] = g_s[t]·ψ[t], paired with a[t] = λ·a[t−1] + d[t] or with d[t].

    With `apply`, the gradients of every step but the last are handed over at once, and what is returned is the last step's.
    """
    steps = len(x)
    v: list[Tensor | None] = [None] * len(net)
    trace: list[Tensor | None] = [None] * len(net)
    outs: list[Tensor] = []
    by_weight: Weights = {}
    by_bias: Weights = {}
    for t in range(steps):
        if t and apply is not None:
            apply(_stored(net, by_weight, by_bias) | rule.take())
            by_weight, by_bias = {}, {}
        weights = {layer.name: layer.effective() for layer in net}
        moments = _run(net, x[t], weights, v, rule, t)
        outs.append(moments[-1].out)
        (error,) = loss.errors(outs[-1:], target, steps)
        rule.see(net, Step(t, steps, moments, error, target, loss, weights))
        by_out: Tensor | None = error
        pres = []
        for n, layer in enumerate(net):
            pre, before = moments[n].pre, trace[n]
            trace[n] = pre if before is None else layer.leak * before + pre
            pres.append(trace[n] if traced else pre)
        for n in reversed(range(len(net))):
            layer, moment, pre = net[n], moments[n], pres[n]
            if n < len(net) - 1:
                by_out = rule.whole_error(layer, t, moment.out, error, by_out)
            if by_out is None:
                continue
            delta = layer.to_spike(by_out)
            if layer.spiking:
                delta = delta * layer.psi_at(moment)
            assert pre is not None
            _add(by_weight, layer.name, layer.outer(delta, pre))
            _add(by_bias, layer.name, _bias(layer, delta))
            by_out = None
            if n > 0 and not rule.cuts:
                below = layer.error_below(delta, rule.feedback(layer, weights[layer.name]), moment.drive)
                by_out = layer.unpool(below, moment)
    return Learnt(_stored(net, by_weight, by_bias) | rule.take(), outs, loss.value(outs, target))


@dataclass
class SGD:
    """Plain or heavy-ball SGD by hand, on the net and on what the rule has trained, followed by the rule's own step."""

    net: list[OracleLayer]
    rule: OracleRule
    lr: float
    momentum: float = 0.0
    step: int = 0
    speed: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, gradients: Gradients) -> None:
        before = {layer.name: layer.weight.clone() for layer in self.net}
        for layer in self.net:
            for kind in ("weight", "bias", "weight_gain"):
                name = f"{layer.name}.{kind}"
                if name in gradients:
                    setattr(layer, kind, getattr(layer, kind) - self._move(name, gradients[name]))
        for name, tensor in self.rule.tensors.items():
            if f"rule.{name}" in gradients:
                self.rule.tensors[name] = tensor - self._move(f"rule.{name}", gradients[f"rule.{name}"])
        self.rule.after(self.net, before, self.lr, self.step)
        self.step += 1

    def _move(self, name: str, gradient: Tensor) -> Tensor:
        self.speed[name] = gradient + self.momentum * self.speed.get(name, torch.zeros_like(gradient))
        return self.lr * self.speed[name]
