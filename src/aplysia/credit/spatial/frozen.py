"""Frozen backpropagation: the feedback weights stay fixed for Φ steps, then the forward weights are copied, whole or in part.

    error:    δ_{l−1} = f'∘(B_lᵀ·δ_l)                   with B_l in place of W_l, everything else as in backpropagation
    update:   W_l ← optimiser(W_l, ΔW_l)
    copy:     B_l[sel] ← W_l[sel]    after steps Φ, 2Φ, …;  sel = all, or what the transport scheme picks

Φ = 1 with whole copies is backpropagation; Φ = ∞ is the control `copy_once`. Confirmed of the paper: only W is learned, B is
only overwritten, every Φ iterations, by the whole of W or by one of three schemes that take a part. Ours: that B starts as a
copy of W (`initial`), that the copy follows the optimiser's step, the schemes themselves (`aplysia.credit.transport`), all
timings but the fixed one (`aplysia.credit.interval`), and the link (`aplysia.credit.link`). The weight copied is the effective
one, which the drive meets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractChained
from aplysia.credit.interval import AbstractTiming, Budget, Due, Moment, Together
from aplysia.credit.link import Link
from aplysia.credit.transport import AbstractTransport, Selection, Whole
from aplysia.errors import PairError, RecipeError
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.rng import generator
from aplysia.types import Claim, Cost, Paper


class AbstractInitialFeedback(ABC):
    """What the feedback weights start as."""

    @abstractmethod
    def tensor(self, layer: Layer, seed: int) -> Tensor:
        """B of a layer before the first step."""


@dataclass(frozen=True)
class Copied(AbstractInitialFeedback):
    """A copy of the forward weights; not counted as transport of training."""

    def tensor(self, layer: Layer, seed: int) -> Tensor:
        return layer.effective_weight()


@dataclass(frozen=True)
class Drawn(AbstractInitialFeedback):
    """Random, of the law the forward weights started with: feedback alignment until the first copy."""

    def tensor(self, layer: Layer, seed: int) -> Tensor:
        return layer.draw_effective(generator("cpu", seed, "feedback", layer.name))


@dataclass(kw_only=True)
class FrozenBackprop(AbstractChained):
    """Feedback frozen between copies.

    Attributes:
        interval: Φ ≥ 1; None: never.
        transport: which weights a copy takes.
        schedule: which layers copy when.
        link: what becomes of the words.
        initial: what the feedback starts as.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Goupy, Tirilly, Bilasco",
        title="Frozen backpropagation: relaxing weight symmetry in temporally-coded deep spiking neural networks",
        year=2025,
        venue="arXiv 2505.13741",
        url="https://arxiv.org/abs/2505.13741",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset()
    summary: ClassVar[str] = (
        "feedback frozen for some steps, then copied from the forward weights, whole or in part (fBP)"
    )

    interval: int | None = 100
    transport: AbstractTransport = field(default_factory=Whole)
    schedule: AbstractTiming = field(default_factory=Together)
    link: Link = field(default_factory=Link)
    initial: AbstractInitialFeedback = field(default_factory=Copied)

    def __post_init__(self) -> None:
        if self.interval is not None and self.interval < 1:
            raise RecipeError(
                "rule.interval", expected="a whole number of steps ≥ 1, or none for never", got=repr(self.interval),
                fix="use 1 for a copy after every step",
            )  # fmt: skip
        if isinstance(self.schedule, Budget) and self.transport.words(1000, 1) in (None, 1000):
            raise RecipeError(
                "rule.schedule",
                expected="a scheme that takes as many words as it is told, under a budget of words",
                got=type(self.transport).__name__,
                fix="set rule.transport=cyclic, random or largest_change with a fraction below 1",
            )

    def check_net(self, net: Net) -> None:
        if len(net.fed_back) == 0:
            raise PairError(
                "rule FrozenBackprop",
                expected="a net of at least two layers",
                got="one, below which no error is sent",
                fix="add a hidden layer, or use rule=symmetric",
            )
        self.schedule.check(len(net.fed_back))

    def start(self, net: Net) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        for layer in net.fed_back:
            name, size = layer.name, layer.weight.numel()
            feedback = self.initial.tensor(layer, self.seed)
            grid = self.link.grid(layer.effective_weight())
            made[name] = self.link.coarse(feedback, grid)
            made[f"events/{name}"] = torch.zeros((), dtype=torch.int64)
            if grid is not None:
                made[f"grid/{name}"] = grid
            made |= self.transport.state(name) | self.schedule.state(name)
            if not self.link.perfect:
                # What the forward side believes the other one to hold.
                made[f"sent/{name}"] = made[name]
            if self.link.latency and self.interval is not None:
                flights = self.link.latency // self.schedule.shortest(self.interval) + 1
                made[f"flight/{name}"] = layer.weight.new_zeros(flights, size)
                made[f"taken/{name}"] = torch.zeros(flights, size, dtype=torch.bool, device=layer.weight.device)
                made[f"arrival/{name}"] = torch.full((flights,), -1, dtype=torch.int64)
        return made

    def feedback(self, layer: Layer, weight: Tensor) -> Tensor:
        return self.tensors[layer.name]

    def memory_words(self, net: Net) -> int:
        """Words kept on the forward side beside the weights themselves: the changes some schemes and timings look at."""
        each = max(self.transport.memory_words, self.schedule.memory_words)
        return each * sum(layer.weight.numel() for layer in net.fed_back)

    @torch.no_grad()
    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        if self.interval is None:
            return Cost()
        weights = {layer.name: layer.effective_weight().detach().flatten() for layer in net.fed_back}
        due = self._due(net, optimiser, step + 1, weights)
        cost = self._send(weights, due, step + 1) if due else Cost()
        return cost + self._arrive(weights, step + 1) if self.link.latency else cost

    def _due(self, net: Net, optimiser: torch.optim.Optimizer, step: int, weights: dict[str, Tensor]) -> dict[str, Due]:
        assert self.interval is not None
        groups = {id(p): group for group in optimiser.param_groups for p in group["params"]}
        total = sum(w.numel() for w in weights.values())
        found = {}
        for place, layer in enumerate(net.fed_back):
            group = groups.get(id(layer.weight), {"lr": 0.0})
            moment = Moment(
                layer.name,
                place,
                len(net.fed_back),
                layer.weight.numel(),
                total,
                step,
                float(group["lr"]),
                float(group.get("initial_lr", group["lr"])),
                weights[layer.name],
                self._known(layer.name),
            )
            if (due := self.schedule.due(self.interval, moment, self.tensors)) is not None:
                found[layer.name] = due
        return found

    def _known(self, name: str) -> Tensor:
        """What the forward side believes the other one to hold, flat."""
        return self.tensors.get(f"sent/{name}", self.tensors[name]).view(-1)

    def _send(self, weights: dict[str, Tensor], due: dict[str, Due], step: int) -> Cost:
        words: dict[str, int | None] = {}
        for name, each in due.items():
            event = self.tensors[f"events/{name}"].add_(1)
            words[name] = self.transport.words(weights[name].numel(), int(event)) if each.words is None else each.words
        picked = self.transport.select(
            {name: weights[name] for name in due},
            {name: self._known(name) for name in due},
            words,
            self.tensors,
            lambda name: generator("cpu", self.seed, "transport", name, step),
        )
        cost = Cost(events=1)
        for name, selection in picked.items():
            cost += self._send_layer(name, weights[name], selection, step)
        return cost

    def _send_layer(self, name: str, weight: Tensor, selection: Selection, step: int) -> Cost:
        link, index = self.link, selection.index
        grid = link.grid(weight)
        values = link.coarse(weight if index is None else weight[index], grid)
        if grid is not None:
            self._regrid(name, grid)
        if not link.perfect:
            _put(self._known(name), index, values)
        kept, drawn = None, selection.drawn
        if link.drop:
            lot = torch.rand(selection.words, generator=generator("cpu", self.seed, "drop", name, step))
            kept, drawn = (lot >= link.drop).to(weight.device), drawn + selection.words
            index = kept.nonzero().flatten() if index is None else index[kept]
            values = values[kept]
        if link.latency:
            slot = int((self.tensors[f"arrival/{name}"] < step).nonzero()[0])
            taken = self.tensors[f"taken/{name}"][slot].zero_()
            taken[slice(None) if index is None else index] = True
            _put(self.tensors[f"flight/{name}"][slot], index, values)
            self.tensors[f"arrival/{name}"][slot] = step + link.latency
            writes = 0
        else:
            _put(self.tensors[name].view(-1), index, values)
            writes = values.numel()
        return Cost(
            words=selection.words,
            bits=selection.words * link.word_bits(weight) + link.scale_bits,
            address_bits=selection.address_bits,
            writes=writes,
            random_numbers=drawn,
        )

    def _arrive(self, weights: dict[str, Tensor], step: int) -> Cost:
        writes = 0
        for name in weights:
            for slot in (self.tensors[f"arrival/{name}"] == step).nonzero().flatten().tolist():
                taken = self.tensors[f"taken/{name}"][slot]
                held = self.tensors[name].view(-1)
                held[taken] = self.tensors[f"flight/{name}"][slot][taken]
                writes += int(taken.sum())
        return Cost(writes=writes)

    def _regrid(self, name: str, grid: Tensor) -> None:
        """Where the common scale has changed, the other side rounds what it holds to the new levels."""
        old = self.tensors[f"grid/{name}"]
        if bool(old != grid):
            for key in (name, f"sent/{name}"):
                if key in self.tensors:
                    self.tensors[key].copy_(self.link.coarse(self.tensors[key], grid))
            old.copy_(grid)


def _put(target: Tensor, index: Tensor | None, values: Tensor) -> None:
    if index is None:
        target.copy_(values)
    else:
        target[index] = values
