"""First-spike nets written out by hand, in spike times: slow loops, gradients derived on paper, float64.

Nothing here differentiates automatically and nothing is imported from the library. A signal is a spike time t in the local
window of the layer that sent it, from 0 to its length, ∞ where there is no spike. m = [t < ∞], t̃ = t with 0 in place of ∞.

Windowed layer (Wei et al. 2023), threshold ϑ_i = ϑ − b_i falling to 0 at the slope κ_i = ϑ_i/T:

    S = W·m      z = T·S − W·t̃      V = z + T·S      D = κ + S
    τ = 0 where z ≥ ϑ_i;      τ = (ϑ_i − z)/D where z < ϑ_i and V > 0;      τ = ∞ else          γ = 1 in the middle case only

    g = γ·∂L/∂τ·min(1/D, max_gain)
    ∂L/∂W_ij = Σ g_i·m_j·(t̃_j − T − τ_i)      ∂L/∂t_j = Σ_i B_ij·g_i      ∂L/∂b_i = −Σ g_i·(T − τ_i)/T

Constant slope (Stanojevic et al. 2024, B1) in windows of length H, u = t − H for a spike and 0 for silence:

    t = H − D + W·u,      silent where t ≥ H, at 0 where t ≤ 0          γ = 1 in between
    g = γ·∂L/∂t      ∂L/∂W = Σ g ⊗ u      ∂L/∂D = −Σ g      ∂L/∂t_j = Σ_i B_ij·g_i

Readout, V at the start of its window (a = T) or at its end (a = 2T):   V = Σ w_j·m_j·(a − t̃_j) + b
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from oracles import Moment, OracleLayer, OracleRule, Step, one_hot, pool_back, softmax
from oracles import pool as average_pool
from torch import Tensor

SILENT = math.inf


@dataclass
class Film:
    """What one layer's forward pass leaves for its backward pass.

    Attributes:
        below: spike times that came in, and what each pool made of them.
        fired: m and t̃ as they meet the weights: with average pools the averages of both.
        drive: the same for t̃.
        times: spike times out (of a potential: the potential).
        gate: γ.
        slope: D (1 for a constant slope).
    """

    below: list[Tensor]
    fired: Tensor
    drive: Tensor
    times: Tensor
    gate: Tensor
    slope: Tensor


@dataclass
class SpikeLayer:
    """A layer in spike times.

    Attributes:
        maps: its weights and the three products of its connection, position by position.
        kind: windowed, constant or potential.
        window: T (H for a constant slope) of the layer itself and of the signals that come in.
        threshold: ϑ of a windowed layer.
        max_gain: of a windowed layer.
        read_at: a, of a potential.
        limited: whether a constant slope's window is a bound, so that units saturate at 0.
    """

    maps: OracleLayer
    kind: str
    window: float
    threshold: float = 1.0
    max_gain: float | None = None
    read_at: float = 0.0
    limited: bool = False

    @property
    def name(self) -> str:
        return self.maps.name

    def along(self, per_unit: Tensor | float, like: Tensor) -> Tensor:
        """A number per unit (or channel), shaped to go with `[B, …]`."""
        if not isinstance(per_unit, Tensor):
            return torch.full_like(like, per_unit)
        return per_unit.view(1, -1, *[1] * (like.ndim - 2)).expand_as(like)

    def pooled(self, times: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """The stages of pooling in times, then m and t̃ in front of the weights."""
        stages, averaged = [times], False
        fired, drive = split(times)
        for kind, size in self.maps.pools:
            if kind == "average":
                fired, drive, averaged = (
                    average_pool("average", size, fired),
                    average_pool("average", size, drive),
                    True,
                )
            else:
                assert not averaged, "a maximum behind an average: not in these tests"
                stages.append(earliest(size, stages[-1])[0])
                fired, drive = split(stages[-1])
        if self.maps.conv is None:
            fired, drive = fired.flatten(1), drive.flatten(1)
        return stages, fired, drive

    def moment(self, film: Film) -> Moment:
        """The layer as a rule sees it: what it sends is earliness."""
        fired = torch.isfinite(film.times) & (self.kind != "potential")
        x = film.times if self.kind == "potential" else torch.where(fired, self.window - film.times, 0.0)
        return Moment([], film.drive, x, None, x, x, pre=film.drive, sent=x)

    def forward(self, times: Tensor, weight: Tensor) -> Film:
        stages, m, t = self.pooled(times)
        bias = self.maps.bias
        if self.kind == "potential":
            v = self.maps.current(self.read_at * m - t, weight)
            v = v if bias is None else v + self.along(bias, v)
            return Film(stages, m, t, v, torch.ones_like(v), torch.ones_like(v))
        length = self.window
        if self.kind == "constant":
            out = length + self.maps.current(t - length * m, weight)
            out = out if bias is None else out - self.along(bias, out)
            silent = out >= length
            early = (out <= 0.0) & self.limited
            out = torch.where(silent, SILENT, torch.where(early, 0.0, out))
            return Film(stages, m, t, out, (~silent & ~early).double(), torch.ones_like(out))
        slope = self.maps.current(m, weight)
        z = length * slope - self.maps.current(t, weight)
        threshold = self.along(self.threshold, z) if bias is None else self.along(self.threshold - bias, z)
        d = threshold / length + slope
        saturated, heard = z >= threshold, z + length * slope > 0.0
        tau = torch.where(saturated, 0.0, torch.where(heard, (threshold - z) / d, SILENT))
        return Film(stages, m, t, tau, (~saturated & heard).double(), d)

    def backward(self, film: Film, by_time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From ∂L/∂t (of a potential: ∂L/∂V) to g, ∂L/∂W and ∂L/∂b."""
        if self.kind == "potential":
            by_weight = self.maps.outer(by_time, self.read_at * film.fired - film.drive)
            return -by_time, by_weight, by_time.sum(0)
        gain = torch.where(film.gate > 0.0, 1.0 / film.slope, 0.0)
        if self.max_gain is not None:
            gain = torch.where(gain > self.max_gain, self.max_gain, gain)
        g = film.gate * by_time * gain
        arrived = film.drive - self.window * film.fired
        if self.kind == "constant":
            by_weight, by_bias = self.maps.outer(g, arrived), -g
        else:
            tau = torch.where(torch.isfinite(film.times), film.times, 0.0)
            by_weight = self.maps.outer(g, arrived) - self.maps.outer(g * tau, film.fired)
            by_bias = -g * (self.window - tau) / self.window
        return g, by_weight, by_bias.sum(0) if by_bias.ndim == 2 else by_bias.sum((0, 2, 3))

    def below(self, film: Film, g: Tensor, feedback: Tensor) -> Tensor:
        """∂L/∂t of the layer below."""
        by = self.maps.error_below(g, feedback, film.drive)
        stages, pools = list(film.below), list(self.maps.pools)
        shapes = [stages[0].shape]
        for _, size in pools:
            shapes.append((*shapes[-1][:2], shapes[-1][2] // size, shapes[-1][3] // size))
        by = by.view(shapes[-1])
        maxima = sum(kind == "max" for kind, _ in pools)
        for n in reversed(range(len(pools))):
            kind, size = pools[n]
            if kind == "average":
                by = pool_back("average", size, torch.zeros(shapes[n], dtype=by.dtype), by)
            else:
                maxima -= 1
                by = to_earliest(size, stages[maxima], by)
        return by


def split(times: Tensor) -> tuple[Tensor, Tensor]:
    """m and t̃."""
    fired = torch.isfinite(times)
    return fired.double(), torch.where(fired, times, 0.0)


def earliest(size: int, times: Tensor) -> tuple[Tensor, Tensor]:
    """The earliest spike of each window and, among equals, the first place in reading order; ∞ where all are silent."""
    rows, columns = times.shape[-2] // size, times.shape[-1] // size
    best = torch.full((*times.shape[:2], rows, columns), SILENT, dtype=times.dtype)
    place = torch.zeros(best.shape, dtype=torch.long)
    for i in range(rows):
        for j in range(columns):
            for n in range(size * size):
                here = times[:, :, i * size + n // size, j * size + n % size]
                sooner = here < best[:, :, i, j]
                place[:, :, i, j] = torch.where(sooner, n, place[:, :, i, j])
                best[:, :, i, j] = torch.where(sooner, here, best[:, :, i, j])
    return best, place


def to_earliest(size: int, times: Tensor, by_out: Tensor) -> Tensor:
    made = torch.zeros_like(times)
    _, place = earliest(size, times)
    for i in range(by_out.shape[-2]):
        for j in range(by_out.shape[-1]):
            for n in range(size * size):
                made[:, :, i * size + n // size, j * size + n % size] = torch.where(
                    place[:, :, i, j] == n, by_out[:, :, i, j], 0.0
                )
    return made


@dataclass
class SpikeTimes:
    """Cross-entropy of softmax(−t/ξ); a silent unit counts as firing at the end of the window."""

    scale: float
    window: float

    def _chances(self, times: Tensor) -> Tensor:
        return softmax(-torch.where(torch.isfinite(times), times, self.window) / self.scale)

    def value(self, times: Tensor, target: Tensor) -> float:
        chance = self._chances(times)
        return -sum(math.log(float(chance[b, y])) for b, y in enumerate(target.tolist())) / len(target)

    def error(self, times: Tensor, target: Tensor) -> Tensor:
        """∂L/∂t."""
        return -(self._chances(times) - one_hot(target, times.shape[1])) / (self.scale * len(target))


@dataclass
class Learnt:
    """Gradients by parameter name (absent where there is none), spike times per layer, the loss."""

    gradients: dict[str, Tensor]
    times: list[Tensor] = field(default_factory=list)
    loss: float = 0.0


def run(net: list[SpikeLayer], times: Tensor) -> list[Film]:
    films = []
    for layer in net:
        films.append(layer.forward(times, layer.maps.effective()))
        times = films[-1].times
    return films


def learn(net: list[SpikeLayer], times: Tensor, target: Tensor, loss, rule: OracleRule) -> Learnt:  # type: ignore[no-untyped-def]
    """One batch under a spatial rule."""
    films = run(net, times)
    out = films[-1].times
    if isinstance(loss, SpikeTimes):
        value, error = loss.value(out, target), loss.error(out, target)
        by_earliness = -error
    else:
        value, error = loss.value([out], target), loss.errors([out], target, 1)[0]
        by_earliness = error
    gradients: dict[str, Tensor] = {}
    by_time: Tensor | None = error
    weights = {layer.name: layer.maps.effective() for layer in net}
    moments = [layer.moment(film) for layer, film in zip(net, films, strict=True)]
    rule.see([layer.maps for layer in net], Step(0, 1, moments, by_earliness, target, loss, weights))
    for n in reversed(range(len(net))):
        layer, film = net[n], films[n]
        if n < len(net) - 1:
            # What the rule plants is an error of the earliness, the opposite of an error of the time.
            chained = None if by_time is None else -by_time
            seed = rule.whole_error(layer.maps, 0, moments[n].out, by_earliness, chained)
            by_time = None if seed is None else -seed
        if by_time is None:
            continue
        g, by_weight, by_bias = layer.backward(film, by_time)
        gradients |= layer.maps.stored_gradients(by_weight)
        if layer.maps.bias is not None:
            gradients[f"{layer.name}.bias"] = by_bias
        by_time = None
        if n > 0 and not rule.cuts:
            by_time = layer.below(film, g, rule.feedback(layer.maps, weights[layer.name]))
    return Learnt(gradients | rule.take(), [film.times for film in films], value)
