"""Rules that learn from the net's response, and local errors, written out by hand: as slow and as plain as `oracles`.

running mean      M ← λ·M + (1 − λ)·(1/B)·Σ_b d_b ⊗ gather(z_b)       g[t] = spread(Mᵀ·e[t])/(1 − λ^k)
pseudo-zeroth     d[t] = o[t], or o[t]/(α·gain), of the readout or of the nearest classifier above
forward gradient  d[t] = ȯ[t],   ȧ_l = gain·mask·ψ_l ∘ (W_l·ȧ_{l−1}) + z_l
zeroth order      g[t] = scale·(ℓ_b[t] − b)/B · z[t]/(α·gain),      ℓ_b[t] one sample's loss at one step
direct K.-P.      ∂B = r·(Σ_t e[t] ⊗ a[t] + κ·B),                   g[t] = Bᵀ·e[t]
local readout     ∂C = ∂F = Σ_t e[t] ⊗ pool(s[t]) + decay·(C or F), g[t] = weight·unpool(Fᵀ·e[t])
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from oracles import (
    Local,
    OracleLayer,
    OracleRule,
    Step,
    _first_largest,
    _windows,
    one_hot,
    pool,
    softmax,
)
from torch import Tensor


def rows(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


# --- the running mean ------------------------------------------------------------------------------------------------


@dataclass
class RunningFeedback:
    """M of every hidden layer, among the rule's tensors under the layer's name; one step at a time."""

    settings: Any
    tensors: dict[str, Tensor]

    def gather(self, z: Tensor) -> Tensor:
        form = self.settings.form
        if type(form).__name__ == "Pooled" and z.ndim == 4:
            assert z.shape[2] == z.shape[3]
            return rows(pool("average", z.shape[2] // form.size, z))
        return rows(z)

    def spread(self, g: Tensor, shape: torch.Size) -> Tensor:
        form = self.settings.form
        if type(form).__name__ != "Pooled" or len(shape) != 4:
            return g.view(shape)
        made, side = torch.zeros(shape, dtype=g.dtype), shape[2] // form.size
        cells = g.view(len(g), shape[1], form.size, form.size)
        for i in range(shape[2]):
            for j in range(shape[3]):
                made[:, :, i, j] = cells[:, :, i // side, j // side]
        return made

    def project(self, x: Tensor) -> Tensor:
        return x @ self.tensors["projection"] if "projection" in self.tensors else x

    def learns(self, batch: int) -> bool:
        return self.settings.freeze_after is None or batch < self.settings.freeze_after

    def step(
        self, step: Step, batch: int, names: list[str], z: list[Tensor], d: list[Tensor], e: list[Tensor]
    ) -> dict[str, Tensor]:
        """One step of a sequence: `z` is empty where there is none to learn from. Errors by layer, absent in a warm-up."""
        learns, keep, shapes = (
            self.learns(batch) and bool(z),
            self.settings.momentum,
            [m.out.shape for m in step.moments],
        )
        every_step = type(self.settings.update).__name__ == "EveryStep"
        waits = not every_step and bool(self.tensors["gathered"])
        due = learns if every_step else waits and step.t == 0
        if due:
            self.tensors["updates"] = self.tensors["updates"] + 1
        if not every_step:
            self.tensors["gathered"] = torch.tensor(int(learns or (waits and not due)))
        found = {}
        for n, name in enumerate(names):
            sample = self.project(d[n]).T @ self.gather(z[n]) / len(d[n]) if learns else None
            waiting = f"pending/{name}"
            if due:
                new = sample if every_step else self.tensors[waiting]
                self.tensors[name] = keep * self.tensors[name] + (1.0 - keep) * new
                if not every_step:
                    self.tensors[waiting] = torch.zeros_like(new)
            if learns and not every_step:
                before = torch.zeros_like(sample) if step.t == 0 else self.tensors[waiting]
                self.tensors[waiting] = before + sample / step.steps
            found[name] = self.spread(self.project(e[n]) @ self.tensors[name] * self._correction(), shapes[n])
        start = self.settings.start
        resting = type(start).__name__ == "WarmUp" and batch < start.batches
        return {} if resting else found

    def _correction(self) -> float:
        k = int(self.tensors["updates"])
        if type(self.settings.start).__name__ == "Random" or k == 0:
            return 1.0
        return 1.0 / (1.0 - self.settings.momentum**k)


# --- rules -----------------------------------------------------------------------------------------------------------


@dataclass
class _Responding(OracleRule):
    """A rule whose errors are made as the steps go by."""

    errors: dict[tuple[int, str], Tensor] = field(default_factory=dict)
    cuts: ClassVar[bool] = True

    def keep(self, t: int, net: list[OracleLayer], found: dict[str, Tensor]) -> None:
        for layer in net[:-1]:
            self.errors.pop((t, layer.name), None)
            if layer.name in found:
                self.errors[t, layer.name] = found[layer.name]

    def error_at(self, layer: OracleLayer, t: int, error: Tensor) -> Tensor | None:
        return self.errors.get((t, layer.name))

    def size(self, layer: OracleLayer) -> float:
        """α of a layer, in the units of where noise enters."""
        assert self.noise is not None
        return self.noise(layer, self.batch, 0, (1, 1)).size


class PseudoZerothOrder(_Responding):
    def watch(self, net: list[OracleLayer], step: Step) -> None:
        noisy = self.noise is not None
        answer, error = step.moments[-1].out, step.error
        answers, errors, exact = [], [], {}
        for n in reversed(range(len(net) - 1)):
            layer, moment = net[n], step.moments[n]
            scale = self.size(layer) if noisy and self.settings.scaled else 1.0
            answers.append(answer / scale)
            errors.append(error)
            if layer.name in self.settings.intermediate:
                classifier, sent = self.tensors[f"classifier/{layer.name}"], rows(moment.sent)
                answer = sent @ classifier.T
                (error,) = step.loss.errors([answer], step.target, step.steps)
                self.gather(f"classifier/{layer.name}", error.T @ sent)
                exact[layer.name] = (error @ classifier).view(moment.out.shape)
        names = [layer.name for layer in net[:-1]]
        z = [moment.z for moment in step.moments[:-1]] if noisy else []
        feedback = RunningFeedback(self.settings.feedback, self.tensors)
        found = feedback.step(step, self.batch, names, z, answers[::-1], errors[::-1])  # type: ignore[arg-type]
        for name, own in exact.items():
            found[name] = found[name] + own if name in found else own
        self.keep(step.t, net, found)


class ForwardGradient(_Responding):
    def watch(self, net: list[OracleLayer], step: Step) -> None:
        feedback, hidden = RunningFeedback(self.settings.feedback, self.tensors), net[:-1]
        z: list[Tensor] = []
        if feedback.learns(self.batch):
            z = [self.direction(layer, step, n) for n, layer in enumerate(hidden)]
        change = self.pushed(net, step, z) if z else step.error
        names, m = [layer.name for layer in hidden], len(hidden)
        self.keep(step.t, net, feedback.step(step, self.batch, names, z, [change] * m, [step.error] * m))

    def direction(self, layer: OracleLayer, step: Step, n: int) -> Tensor:
        return self.draw(f"direction {step.t} {tuple(step.moments[n].out.shape)}", layer, self.batch)

    def pushed(self, net: list[OracleLayer], step: Step, z: list[Tensor]) -> Tensor:
        tangent = z[0]
        for n in range(1, len(net)):
            layer, moment = net[n], step.moments[n]
            for (kind, size), x in zip(layer.pools, moment.stages[:-1], strict=True):
                tangent = pool("average", size, tangent) if kind == "average" else of_winners(size, x, tangent)
            current = layer.current(rows(tangent) if layer.conv is None else tangent, step.weights[layer.name])
            tangent = layer.to_spike(layer.psi_at(moment)) * current if layer.spiking else current
            if n < len(net) - 1:
                tangent = tangent + z[n]
        return tangent


def of_winners(size: int, x: Tensor, tangent: Tensor) -> Tensor:
    """What a maximum over windows of x passes of a change of x."""
    out = x.new_zeros(*x.shape[:2], x.shape[2] // size, x.shape[3] // size)
    for i, j in _windows(size, x):
        place = _first_largest(x[:, :, i * size : (i + 1) * size, j * size : (j + 1) * size])[1]
        for n in range(size * size):
            here = tangent[:, :, i * size + n // size, j * size + n % size]
            out[:, :, i, j] = torch.where(place == n, here, out[:, :, i, j])
    return out


class ZerothOrder(_Responding):
    def watch(self, net: list[OracleLayer], step: Step) -> None:
        losses = self.losses(step)
        batch, baseline = len(losses), type(self.settings.baseline).__name__
        if baseline == "RunningBaseline":
            mean, kept = sum(losses) / batch, float(self.tensors["baseline"])
            level = [mean if math.isnan(kept) else kept] * batch
            keep = self.settings.baseline.momentum
            self.tensors["baseline"] = torch.tensor(keep * level[0] + (1.0 - keep) * mean, dtype=torch.float64)
        elif baseline == "OthersBaseline" and batch > 1:
            level = [sum(losses[:b] + losses[b + 1 :]) / (batch - 1) for b in range(batch)]
        else:
            level = [0.0] * batch
        found = {}
        for n, layer in enumerate(net[:-1]):
            z = step.moments[n].z
            assert z is not None
            found[layer.name] = torch.stack(
                [self.settings.scale * (losses[b] - level[b]) / batch / self.size(layer) * z[b] for b in range(batch)]
            )
        self.keep(step.t, net, found)

    def losses(self, step: Step) -> list[float]:
        made = []
        for b, label in enumerate(step.target.tolist()):
            o, c = step.moments[-1].out[b], step.loss.mse_share
            squares = sum((float(v) - (k == label)) ** 2 for k, v in enumerate(o)) / len(o)
            entropy = -math.log(float(softmax(o[None])[0, label]))
            made.append(((1.0 - c) * entropy + c * squares) / step.steps)
        return made


class DirectKolenPollack(OracleRule):
    cuts: ClassVar[bool] = True

    def watch(self, net: list[OracleLayer], step: Step) -> None:
        for n, layer in enumerate(net[:-1]):
            moment, rate = step.moments[n], self.settings.rate
            heard = moment.sent if self.noise is None or self.settings.noise.traced else moment.out
            self.gather(layer.name, rate * step.error.T @ rows(heard))
            if step.t == 0:
                self.gather(layer.name, rate * self.settings.decay * self.tensors[layer.name])

    def seed_error(self, layer: OracleLayer, error: Tensor) -> Tensor | None:
        return torch.einsum("bc,cn->bn", error, self.tensors[layer.name])


class LocalLoss(OracleRule):
    cuts: ClassVar[bool] = True

    def seed_error(self, layer: OracleLayer, error: Tensor) -> Tensor | None:
        return None


RULES: dict[str, type[OracleRule]] = {
    kind.__name__: kind for kind in (PseudoZerothOrder, ForwardGradient, ZerothOrder, DirectKolenPollack, LocalLoss)
}

# --- local errors ----------------------------------------------------------------------------------------------------


def parts(n: int, cells: int) -> list[slice]:
    """n positions in `cells` parts that cover them, and overlap where they do not divide."""
    cells = min(cells, n)
    return [slice(i * n // cells, -(-(i + 1) * n // cells)) for i in range(cells)]


@dataclass
class Readouts(Local):
    """A linear classifier on every hidden layer; `loss` is by hand."""

    settings: Any
    loss: Any

    def see(self, net: list[OracleLayer], step: Step, rule: OracleRule) -> dict[str, Tensor]:
        made = {}
        for n, layer in enumerate(net[:-1]):
            if self.settings.layers and layer.name not in self.settings.layers:
                continue
            out, names = step.moments[n].out, (f"local/{layer.name}", f"local/feedback/{layer.name}")
            drive = rows(self.pooled(out))
            (error,) = self.loss.errors([drive @ rule.tensors[names[0]].T], step.target, step.steps)
            back = type(self.settings.back).__name__
            for name, learns in zip(names, (self.settings.learns, back == "Learnt"), strict=True):
                if learns:
                    rule.gather(name, error.T @ drive)
                    if step.t == 0:
                        rule.gather(name, self.settings.decay * rule.tensors[name])
            returned = error @ rule.tensors[names[0] if back == "Transposed" else names[1]]
            made[layer.name] = self.settings.weight * self.unpooled(returned, out)
        return made

    def pooled(self, out: Tensor) -> Tensor:
        if out.ndim != 4:
            return out
        cells = self.settings.cells
        lines = [
            torch.stack([out[:, :, r, c].mean((2, 3)) for c in parts(out.shape[3], cells)], 2)
            for r in parts(out.shape[2], cells)
        ]
        return torch.stack(lines, 2)

    def unpooled(self, by: Tensor, out: Tensor) -> Tensor:
        if out.ndim != 4:
            return by
        down, across = parts(out.shape[2], self.settings.cells), parts(out.shape[3], self.settings.cells)
        by, made = by.view(*out.shape[:2], len(down), len(across)), torch.zeros_like(out)
        for i, r in enumerate(down):
            for j, c in enumerate(across):
                made[:, :, r, c] += by[:, :, i, j, None, None] / ((r.stop - r.start) * (c.stop - c.start))
        return made


@dataclass
class Similarity(Local):
    """D = mean_pairs (S − Y)²,  S = U·Uᵀ,  u = c/√(|c|² + ε),  c = s − mean(s).

    ∂D/∂S = 2(S − Y)/B²     ∂D/∂u_b = 2·Σ_a ∂D/∂S_ba·u_a     ∂D/∂c = v/ρ − c·(v·c)/ρ³  for v = ∂D/∂u and ρ the root
    """

    settings: Any

    def see(self, net: list[OracleLayer], step: Step, rule: OracleRule) -> dict[str, Tensor]:
        hot = one_hot(step.target, step.error.shape[1])
        _, _, labels = self.units(hot)
        wanted = labels @ labels.T
        made = {}
        for n, layer in enumerate(net[:-1]):
            out = step.moments[n].out
            c, root, u = self.units(rows(out))
            by_s = 2.0 * (u @ u.T - wanted) / len(u) ** 2
            v = 2.0 * by_s @ u
            by_c = v / root - c * (v * c).sum(1, keepdim=True) / root**3
            by_out = by_c - by_c.sum(1, keepdim=True) / by_c.shape[1]
            made[layer.name] = (self.settings.weight / step.steps * by_out).view(out.shape)
        return made

    def units(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = x - x.sum(1, keepdim=True) / x.shape[1]
        root = ((c * c).sum(1, keepdim=True) + 1e-8).sqrt()
        return c, root, c / root
