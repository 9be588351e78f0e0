"""Frozen backpropagation: the feedback stays fixed for Φ steps, then forward weights are copied into it, whole or in part.

    error:    δ_{l−1} = f'∘(B_lᵀ·δ_l)                   with B_l in place of W_l, everything else as in backpropagation
    update:   W_l ← optimiser(W_l, ΔW_l)
    copy:     B_l[sel] ← W_l[sel]    after steps Φ, 2Φ, …;  sel: all, or what the transport scheme picks

Φ = 1 with whole copies is backpropagation; no copies at all are the control `copy_once`, or, from a random start, feedback
alignment. Confirmed of the paper: only W is learnt; B is only overwritten, every Φ iterations, by all of W or by the part that
one of three schemes of varying complexity picks. Ours, since the paper's own choices could not be had: that B starts as a copy,
that the copy follows the optimiser's step, the schemes themselves (`aplysia.credit.transport`), all timings but the fixed one
(`aplysia.credit.interval`) and the link (`aplysia.credit.link`). What is copied is the effective weight, which the drive meets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractChained
from aplysia.credit.interval import AbstractTiming, Budget, Together
from aplysia.credit.link import Link
from aplysia.credit.transport import AbstractTransport, Sender, Whole
from aplysia.errors import RecipeError
from aplysia.ledger.amount import Amount, Charge, Phase
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
class CopiedInitialFeedback(AbstractInitialFeedback):
    """A copy of the forward weights; not counted as transport of training."""

    def tensor(self, layer: Layer, seed: int) -> Tensor:
        return layer.effective_weight().detach()


@dataclass(frozen=True)
class RandomInitialFeedback(AbstractInitialFeedback):
    """Drawn from the law the forward weights started with: feedback alignment until the first copy."""

    def tensor(self, layer: Layer, seed: int) -> Tensor:
        return layer.draw_effective(generator("cpu", seed, "feedback", layer.name))


@dataclass(kw_only=True)
class FrozenBackprop(AbstractChained):
    """Feedback frozen between copies.

    Attributes:
        interval: Φ ≥ 1 steps; None: never.
        transport: which weights a copy takes.
        schedule: which layers copy when.
        link: what becomes of the words.
        initial: what the feedback starts as.

    Raises:
        RecipeError: Φ below 1, or a budget of words with a scheme that cannot keep to one.
    """

    paper: ClassVar[Paper] = Paper(
        authors="Goupy, Tirilly, Bilasco",
        title="Frozen backpropagation: relaxing weight symmetry in temporally-coded deep spiking neural networks",
        year=2025,
        venue="arXiv 2505.13741",
        url="https://arxiv.org/abs/2505.13741",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset()
    summary: ClassVar[str] = "feedback frozen for some steps, then copied from the forward weights, whole or in part"

    interval: int | None = 100
    transport: AbstractTransport = field(default_factory=Whole)
    schedule: AbstractTiming = field(default_factory=Together)
    link: Link = field(default_factory=Link)
    initial: AbstractInitialFeedback = field(default_factory=CopiedInitialFeedback)

    def __post_init__(self) -> None:
        if self.interval is not None and not (isinstance(self.interval, int) and self.interval >= 1):
            raise RecipeError(
                "rule.interval",
                expected="a whole number of steps ≥ 1, or none for never",
                got=repr(self.interval),
                fix="use 1 for a copy after every step",
            )
        if isinstance(self.schedule, Budget) and self.transport.within(1, 1) is None:
            raise RecipeError(
                "rule.schedule",
                expected="a scheme that can keep to a number of words, under a budget",
                got=f"transport={type(self.transport).__name__.lower()}, which sends whatever has changed",
                fix="set rule.transport=cyclic, random, largest_change or whole",
            )

    def check_net(self, net: Net) -> None:
        self.schedule.check_layers(len(net.fed_back))

    def start(self, net: Net) -> dict[str, Tensor]:
        made: dict[str, Tensor] = {}
        flights = 0 if self.interval is None else -(-self.link.latency // self.schedule.shortest(self.interval))
        for layer in net.fed_back:
            name, feedback = layer.name, self.initial.tensor(layer, self.seed)
            made |= self.link.state(name, feedback, flights)
            made |= self.transport.state(name) | self.schedule.state(name)
            made[f"events/{name}"] = torch.zeros((), dtype=torch.int64)
            if self._remembers and not self.link.transparent:
                # What the forward side last sent; over a transparent link that is B itself.
                made[f"sent/{name}"] = feedback
        return made

    def feedback(self, layer: Layer, weight: Tensor) -> Tensor:
        return self.tensors[layer.name]

    def memory_words(self, net: Net) -> int:
        """Words on the forward side beside the weights: what schemes and timings that look at changes must remember."""
        return self._remembers * sum(layer.weight.numel() for layer in net.fed_back)

    @property
    def _remembers(self) -> int:
        # One memory of changes serves both.
        return max(self.transport.memory_words, self.schedule.memory_words)

    @torch.no_grad()
    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        """Write what arrives, and copy what is due. An event is a step after which at least one layer copies."""
        if self.interval is None:
            return Cost()
        senders, cost = self._senders(net, optimiser), Cost()
        for sender in senders:
            cost += self.link.arrive(sender.name, step + 1, self.tensors)
        due = self.schedule.due(self.interval, step + 1, senders, self.transport, self.tensors)
        if not due:
            return cost
        wanted = [(sender, self._share(sender) if words is None else words) for sender, words in due]
        picked = self.transport.select(wanted, self.tensors, lambda name: self._source("transport", name, step))
        for (sender, _), selection in zip(wanted, picked, strict=True):
            cost += self.link.send(
                sender, selection, step + 1, self.tensors, lambda name: self._source("drop", name, step)
            )
        return cost + Cost(events=1)

    def _senders(self, net: Net, optimiser: torch.optim.Optimizer) -> list[Sender]:
        groups = {id(p): group for group in optimiser.param_groups for p in group["params"]}
        made = []
        for layer in net.fed_back:
            group = groups.get(id(layer.weight), {"lr": 0.0})
            rate = float(group["lr"])
            known = self.tensors.get(f"sent/{layer.name}", self.tensors[layer.name])
            made.append(Sender(layer, known.view(-1), rate, float(group.get("initial_lr", rate))))
        return made

    def _share(self, sender: Sender) -> int:
        """The words of a layer's next event, by the scheme's own fraction."""
        event = self.tensors[f"events/{sender.name}"].add_(1)
        return self.transport.words(sender.size, int(event)) or 0

    def _source(self, what: str, name: str, step: int) -> torch.Generator:
        return generator("cpu", self.seed, what, name, step)

    def transported(self, net: Net, steps: int) -> list[Charge]:
        """ρN words of each layer every Φ steps, where the scheme's numbers are known before looking; else None."""
        if self.interval is None:
            return []
        layers = net.fed_back
        return [
            Charge(layer.name, Phase.TRANSPORT, self._copied(layer, place, len(layers), steps))
            for place, layer in enumerate(layers)
        ]

    def _copied(self, layer: Layer, place: int, layers: int, steps: int) -> Amount:
        assert self.interval is not None
        size, unknown = layer.weight.numel(), self.transport.words(1, 1) is None
        copies = self.schedule.copies(self.interval, steps, place, layers)
        if copies is None or unknown or self.transport.addresses(1, 2) is None:
            return Amount(words=None, bits=None, address_bits=None, forward_reads=None, feedback_writes=None)
        sent = [self.transport.words(size, event) or 0 for event in range(1, copies + 1)]
        words, width = sum(sent), torch.finfo(layer.weight.dtype).bits
        messages = sum(n > 0 for n in sent)
        addresses = [self.transport.addresses(n, size) or 0 for n in sent]
        late = self.schedule.copies(self.interval, max(0, steps - self.link.latency), place, layers)
        return Amount(
            words=words,
            bits=words * (self.link.bits or width) + (messages * width if self.link.bits else 0),
            address_bits=sum(addresses),
            forward_reads=words,
            feedback_writes=None if self.link.drop or late is None else sum(sent[:late]),
            random_numbers=None if self.transport.draws else 0,
        )
