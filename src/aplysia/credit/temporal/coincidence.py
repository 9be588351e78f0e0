"""Credit by coincidence: forward spikes and gradient spikes meet at a cross point in the same step, and are counted.

    grad_ji = (Γ/(N·B))·Σ_t x_i[t]·(δ⁺_j[t] − δ⁻_j[t])        Δw = −η·grad = −q·(C⁺ − C⁻),   q = η·Γ/(N·B)

for streams of N steps and batches of B samples. In the mean that is the gradient of softmax cross-entropy, if the two streams
of a cross point are independent and no gradient line clips; one coincidence moves a weight by q, however small the gradient is.
The spatial rule fills the error slot as everywhere: symmetric, frozen, random, or a direct projection of the output error.

After Biswas et al. (2023), of which only the abstracts could be read: updates by spike coincidence, local in time and space,
forward and gradient streams at once, an approach to the artificial net as trains grow. Gains, ceilings and engines are ours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal, Apply, Record, Seen
from aplysia.credit.local import NoLocal
from aplysia.errors import PairError, RecipeError
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.ledger.sheet import Habits, Sheet
from aplysia.nets.net import Input, Net, chunks, steps_of
from aplysia.nets.noise import NoiseSource
from aplysia.nets.route import Route
from aplysia.nets.stream import Load, Streams, check_bits, first_stream
from aplysia.neurons.base import AbstractStream
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.coincidence import Coincidences, leave_coincidences, wants_coincidences
from aplysia.ops.stream import AbstractEngine, Bits, Expect
from aplysia.ranks import present
from aplysia.types import Held, Paper

# Steps run at once when nothing is said: enough for large products, few enough to keep memory flat in N.
_CHUNK = 32


class AbstractCeiling(ABC):
    """Γ of a layer, the error at which its gradient lines fire at every step, in units of the output error.

    On the chip a layer divides by γ_l = Γ_l/Γ_{l+1}. Γ changes between updates only.

    Attributes:
        watches: whether it needs to know what the lines carried.
    """

    watches: ClassVar[bool]

    @abstractmethod
    def before(self, last: Tensor | None, bound: Tensor | None, above: Tensor) -> Tensor:
        """Γ for this update, 0-dim.

        Args:
            last: what `after` gave for the update before; None at the first one.
            bound: an error that cannot be exceeded, 0-dim; None: not known.
            above: Γ of the layer above.
        """

    @abstractmethod
    def after(self, used: Tensor, load: Load) -> Tensor:
        """What is remembered of Γ, given what the lines carried."""


@dataclass(frozen=True, kw_only=True)
class Tracked(AbstractCeiling):
    """A power of two: 2·w_max for the last hidden layer, which can never be exceeded; below, a high quantile that is followed.

    Γ doubles where more than a share ε of the errors that are not 0 exceed it, and halves where fewer than ε/2 exceed its half.

    Attributes:
        weight_bound: w_max; None, or where feedback exceeds it: the largest feedback weight there is at the time.
        clipped: ε in (0, 1).
    """

    watches: ClassVar[bool] = True

    weight_bound: float | None = None
    clipped: float = 1e-3

    def __post_init__(self) -> None:
        if self.weight_bound is not None and not (self.weight_bound > 0.0 and math.isfinite(self.weight_bound)):
            raise RecipeError(
                "temporal.ceiling.weight_bound",
                expected="a number > 0, or none",
                got=repr(self.weight_bound),
                fix="use 1.0",
            )
        if not 0.0 < self.clipped < 1.0:
            raise RecipeError(
                "temporal.ceiling.clipped", expected="a share in (0, 1)", got=repr(self.clipped), fix="use 0.001"
            )

    def before(self, last: Tensor | None, bound: Tensor | None, above: Tensor) -> Tensor:
        if bound is not None:
            if self.weight_bound is not None:
                # Feedback that is no copy of the weights need not keep to their bound.
                bound = bound.clamp_min(2.0 * self.weight_bound)
            return torch.exp2(torch.ceil(torch.log2(bound.clamp_min(1e-30))))
        return above.clone() if last is None else last

    def after(self, used: Tensor, load: Load) -> Tensor:
        allowed = self.clipped * load.active
        up, down = load.clipped > allowed, (load.half < 0.5 * allowed) & (load.active > 0)
        return torch.where(up, used * 2.0, torch.where(down, used * 0.5, used))


@dataclass(frozen=True, kw_only=True)
class Constant(AbstractCeiling):
    """Γ_l = γ·Γ_{l+1}, whatever the errors are.

    Attributes:
        gamma: γ > 0.
    """

    watches: ClassVar[bool] = False

    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not (self.gamma > 0.0 and math.isfinite(self.gamma)):
            raise RecipeError("temporal.ceiling.gamma", expected="a number > 0", got=repr(self.gamma), fix="use 1.0")

    def before(self, last: Tensor | None, bound: Tensor | None, above: Tensor) -> Tensor:
        return above * self.gamma

    def after(self, used: Tensor, load: Load) -> Tensor:
        return used


@dataclass(frozen=True, kw_only=True)
class Coincidence(AbstractTemporal):
    """Counting coincidences of stochastic streams.

    Attributes:
        engine: how streams are represented.
        ceiling: the scale of the gradient lines.
        chunk: K, steps run at once; None: 32, or the whole stream where a neuron needs it. No number depends on it.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Biswas, Saraswat, Ganguly",
        title="A temporally and spatially local spike-based backpropagation algorithm to enable training in hardware",
        year=2023,
        venue="Neuromorphic Computing and Engineering 3",
        url="https://doi.org/10.1088/2634-4386/acf1c5",
    )
    summary: ClassVar[str] = "coincidences of forward and gradient spikes (stochastic streams, SSNN-BP)"
    accepts: ClassVar[str] = AbstractStream.kind

    engine: AbstractEngine = field(default_factory=Bits)
    ceiling: AbstractCeiling = field(default_factory=Tracked)
    chunk: int | None = None
    _ceilings_kept: dict[str, Tensor] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.chunk is not None and self.chunk < 1:
            raise RecipeError(
                "temporal.chunk", expected="at least 1, or none", got=repr(self.chunk), fix=f"use none for {_CHUNK}"
            )

    def fresh(self) -> Coincidence:
        return replace(self)

    @property
    def memory(self) -> dict[str, Tensor]:
        return self._ceilings_kept

    @property
    def updates_inside(self) -> bool:
        return False

    def habits(self, steps: int, width: int = 1) -> Habits:
        chunk = min(steps, self.chunk or _CHUNK)
        return Habits(windows=-(-steps // chunk), traced=False, kept=chunk, pulses=True)

    def charges(self, sheet: Sheet) -> list[Charge]:
        """A number for every bit that is drawn: of the input, of spikes, of gradient spikes, of winners."""
        first = math.prod(sheet.net.input_shape) if sheet.activity.input_drawn else 0
        made = [Charge(None, Phase.NOISE, Amount(random_numbers=sheet.slots * first))]
        for layer in sheet.net.all:
            per_unit = 1 + (layer.name in sheet.learning)
            if isinstance(layer.neuron, WinnerTakeAll):
                per_unit = layer.neuron.circuit.draws
            numbers = None if per_unit is None else per_unit * sheet.slots * layer.units
            made.append(Charge(layer.name, Phase.NOISE, Amount(random_numbers=numbers)))
        return made

    def check(self, net: Net, loss: AbstractLoss, spatial: AbstractSpatial) -> None:
        if not isinstance(spatial.local, NoLocal):
            raise PairError(
                "rule.local",
                expected="no local errors on streams, whose readouts would be real numbers",
                got=type(spatial.local).__name__,
                fix="set rule.local=no_local",
            )
        readout = net.readout.neuron
        circuit = readout.circuit if isinstance(readout, WinnerTakeAll) else None
        if self.engine.stepped:
            return
        for layer in net.all:
            assert isinstance(layer.neuron, AbstractStream)
            if not self.engine.limit and not layer.neuron.memory.block:
                raise PairError(
                    f"temporal.engine {type(self.engine).__name__}",
                    expected="neurons that see the mean of a whole stream, since counts say nothing about its path",
                    got=f"{layer.name} with memory {type(layer.neuron.memory).__name__}",
                    fix="set temporal.engine=bits, or neuron.memory=block_mean readout.memory=block_mean",
                )
        if circuit is not None and not circuit.softmax:
            raise PairError(
                f"temporal.engine {type(self.engine).__name__}",
                expected="a winner with the odds of a softmax",
                got=f"circuit {type(circuit).__name__}, which is biased",
                fix="set temporal.engine=bits, or readout.circuit=race",
            )

    def learn(
        self,
        net: Net,
        x: Input,
        target: Tensor,
        loss: AbstractLoss,
        spatial: AbstractSpatial,
        *,
        generator: torch.Generator | None = None,
        apply: Apply | None = None,
    ) -> Record:
        check_bits(x)
        n, kept = steps_of(x), [(p, p.grad) for p in net.parameters()]
        for parameter, _ in kept:
            parameter.grad = None
        streams = Streams(self.engine, n, (spatial.seed, spatial.purpose("streams"), spatial.step))
        self._set_ceilings(net, spatial, streams)
        won, spikes, states = None, None, None
        for part, start in self._parts(net, x, streams):
            route = Route(feedback=spatial.slot, cut=spatial.cuts, through_time=False, start=start, streams=streams)
            done = net(part, states, route)
            states = [state.detach() for state in done.states]
            _, error = loss.error(done.outs[-1].detach(), target, 1)
            # Errors of 0 and ±1, not yet averaged: sums of whole numbers stay exact.
            share = 1.0 / (streams.engine.slots(n) * len(target))
            seen = Seen(done, error, target, loss, streams.engine.slots(n), start, share=share)
            torch.autograd.backward(*spatial.planted(net, seen))
            total = done.outs[-1].detach().sum(0)
            won = total if won is None else won + total
            spikes = done.spikes if spikes is None else spikes + done.spikes
        assert won is not None
        assert spikes is not None
        self._finish(net, streams, kept, len(target))
        logits = log_shares(won * (n / self.engine.slots(n)), n, smooth=not self.engine.limit)
        slots = [n * len(target) * layer.units for layer in net.all]
        return Record(logits, loss.of_logits(logits, target), spikes, slots)

    @torch.no_grad()
    def predict(
        self, net: Net, x: Input, *, noise: NoiseSource | None = None, seed: int = 0, batch: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Logarithms of the shares of wins `[B, C]`, and the number of spikes per layer `[L]`."""
        check_bits(x)
        n, streams = steps_of(x), Streams(self.engine, steps_of(x), (seed, "predict", batch))
        won, spikes, states = None, None, None
        for part, start in self._parts(net, x, streams):
            done = net(part, states, Route(start=start, streams=streams))
            states, total = done.states, done.outs[-1].sum(0)
            won = total if won is None else won + total
            spikes = done.spikes if spikes is None else spikes + done.spikes
        assert won is not None
        assert spikes is not None
        return log_shares(won * (n / self.engine.slots(n)), n, smooth=not self.engine.limit), spikes

    def endless(self) -> Coincidence | None:
        """The artificial net that endless streams stand for."""
        return None if self.engine.limit else replace(self, engine=Expect())

    def _parts(self, net: Net, x: Input, streams: Streams) -> Iterator[tuple[Tensor, int]]:
        """Chunks of what goes into the first layer, and the step each starts at."""
        n, layer = steps_of(x), net.all[0]
        draws = streams.draws("input", layer.weight.device)
        if not streams.engine.stepped:
            rates = x if isinstance(x, Held) else Held(x.mean(0), n)
            yield first_stream(rates, 1, draws), 0
            return
        whole = any(layer.neuron.memory.block for layer in net.all)  # type: ignore[union-attr]
        size, start = self.chunk or (n if whole else _CHUNK), 0
        for part in chunks(x, size):
            length = steps_of(part)
            yield first_stream(part, length, draws), start
            start += length

    @torch.no_grad()
    def _set_ceilings(self, net: Net, spatial: AbstractSpatial, streams: Streams) -> None:
        """Γ of each layer that emits gradient spikes, from the readout down."""
        if self.engine.limit:
            return
        above = net.readout.weight.detach().new_ones(())
        for upper, layer in zip(reversed(net.all[1:]), reversed(net.hidden), strict=True):
            bound = None
            if upper is net.readout and not spatial.cuts:
                # The output error has at most one + and one − at each step, so it meets two weights.
                fed_back = spatial.slot(upper, upper.effective_weight())
                bound = None if fed_back is None else 2.0 * fed_back.abs().max()
            if bound is not None or not self.ceiling.watches:
                streams.bounded.add(layer.name)
            above = self.ceiling.before(self.memory.get(layer.name), bound, above)
            streams.ceilings[layer.name] = above

    @torch.no_grad()
    def _finish(
        self, net: Net, streams: Streams, kept: list[tuple[torch.nn.Parameter, Tensor | None]], batch: int
    ) -> None:
        """Average the gradients, leave counts for devices, and remember the ceilings."""
        share, n = 1.0 / (streams.engine.slots(streams.n) * batch), streams.n
        for layer in net.all:
            unit = streams.unit(layer)
            for parameter in layer.parameters(recurse=False):
                if parameter.grad is None:
                    continue
                if wants_coincidences(parameter):
                    _check_alone()
                    per_slot = n / streams.engine.slots(n)
                    net_count = parameter.grad / unit
                    # Drawn around the mean, a count on one line could fall below 0.
                    busy = streams.busy.get(parameter, net_count.abs()).maximum(net_count.abs())
                    up, down = ((busy - net_count) * (0.5 * per_slot), (busy + net_count) * (0.5 * per_slot))
                    leave_coincidences(parameter, Coincidences(up, down, unit / (n * batch)))
                parameter.grad.mul_(share)
        for parameter, before in kept:
            if before is not None:
                parameter.grad = before if parameter.grad is None else parameter.grad.add_(before)
        for name, load in streams.loads.items():
            load = Load(*map(present().total, (load.active, load.half, load.clipped)))
            self.memory[name] = self.ceiling.after(streams.ceilings[name], load)


def _check_alone() -> None:
    if present().size > 1:
        raise PairError(
            "optimiser",
            expected="arrays of devices in one process, since pulses are counted where the samples are",
            got=f"{present().size} processes",
            fix="train in one process, or by sgd, whose coincidences are averaged as numbers",
        )


def log_shares(won: Tensor, n: int, *, smooth: bool) -> Tensor:
    """log of the shares of wins `[B, C]`; of counts with half a win more for each class, so that none is −∞.

        log((n_k + ½)/(N + C/2))        (Krichevsky and Trofimov)

    Args:
        won: wins out of N, or N times the softmax.
        n: N.
        smooth: whether they are counts.
    """
    if not smooth:
        return (won / n).clamp_min(1e-30).log()
    return ((won + 0.5) / (n + 0.5 * won.shape[-1])).log()
