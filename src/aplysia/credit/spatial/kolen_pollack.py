"""Kolen-Pollack: forward and feedback weights get the same increment and the same decay, and so become equal.

    W ← (1 − κ)·W + Δ,    B ← (1 − κ)·B + Δ,    κ = lr·decay     ⇒     W − B ← (1 − κ)·(W − B)

Δ is the optimiser's step on W. Both synapses see the same pre- and postsynaptic signals, so both can form Δ themselves, as
long as Δ depends on the gradients alone and not on the weight it is applied to. An optimiser for which that fails (coupled
or decoupled weight decay, layer-wise trust ratios) is refused: there the two sides would drift apart on a chip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractChained
from aplysia.errors import PairError, RecipeError
from aplysia.ledger.amount import Amount, Charge, Phase
from aplysia.ledger.sheet import Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.rng import generator
from aplysia.types import Claim, Cost, Paper, Tunable

# The forward weights of the step before, from which Δ is read.
_LAST = "last/"


@dataclass(kw_only=True)
class KolenPollack(AbstractChained):
    """Feedback that learns by the forward weights' own increments.

    The increments enter B exactly as they entered W, in the optimiser's own arithmetic; the decay is the rule's, since the
    alignment time is 1/(lr·decay) steps whatever the optimiser.

    Attributes:
        decay: λ; κ = lr·λ per step. The default aligns within about 200 steps at lr 0.1.
        scale: factor on the random start of B (the law of the initial weights).
    """

    paper: ClassVar[Paper] = Paper(
        authors="Kolen, Pollack; in deep nets Akrout, Wilson, Humphreys, Lillicrap, Tweed (2019)",
        title="Back-propagation without weight transport",
        year=1994,
        venue="ICNN; NeurIPS 2019",
        url="https://arxiv.org/abs/1904.05391",
    )
    claims: ClassVar[frozenset[Claim]] = frozenset({Claim.NO_TRANSPORT})
    summary: ClassVar[str] = "feedback learns by the forward weights' own increments and a common decay"
    tunable: ClassVar[Tunable] = {"decay": (0.005, 0.5, True)}

    decay: float = 0.05
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.decay < 0.0:
            raise RecipeError("rule.decay", expected="a number ≥ 0", got=repr(self.decay), fix="use 0 for no decay")

    def check_net(self, net: Net) -> None:
        standardised = [layer.name for layer in net.fed_back if layer.weight_gain is not None]
        if standardised:
            raise PairError(
                "rule KolenPollack",
                expected="weights that act as they are stored",
                got=f"standardised weights in {', '.join(standardised)}",
                fix="set standardise=false, since equal increments do not stay equal through the standardisation",
            )
        gained = [layer.name for layer in net.fed_back if layer.shortcut is not None]
        if gained:
            raise PairError(
                "rule KolenPollack",
                expected="weights that act as they are stored",
                got=f"weights times a learnt skip gain in {', '.join(gained)}",
                fix="use a net without residual blocks, since equal increments do not stay equal through the gain",
            )

    def check_optimiser(self, net: Net, optimiser: torch.optim.Optimizer) -> None:
        """Measure the law: two different weights with equal gradients must get equal steps."""
        for group in optimiser.param_groups:
            worst = _spread(type(optimiser), group)
            if worst > 1e-9:
                raise PairError(
                    "rule KolenPollack",
                    expected="an optimiser whose step depends on gradients alone",
                    got=f"{type(optimiser).__name__} with weight_decay={group.get('weight_decay', 0)}, "
                    "whose step depends on the weight too",
                    fix="set its weight decay to 0 and use the rule's own decay",
                )

    def start(self, net: Net) -> dict[str, Tensor]:
        made = {}
        for layer in net.fed_back:
            made[layer.name] = self.scale * layer.draw_effective(generator("cpu", self.seed, "feedback", layer.name))
            made[_LAST + layer.name] = layer.weight
        return made

    def feedback(self, layer: Layer, weight: Tensor) -> Tensor:
        return self.tensors[layer.name]

    def errors(self, sheet: Sheet) -> list[Charge]:
        made = super().errors(sheet)
        for layer in sheet.net.fed_back:
            written = sheet.habits.applies * layer.weight.numel()
            made.append(Charge(layer.name, Phase.UPDATE, Amount(feedback_reads=written, feedback_writes=written)))
        return made

    @torch.no_grad()
    def after(self, net: Net, optimiser: torch.optim.Optimizer, step: int) -> Cost:
        writes = 0
        rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
        for layer in net.fed_back:
            weight, feedback, last = layer.weight, self.tensors[layer.name], self.tensors[_LAST + layer.name]
            kappa = float(rates.get(id(weight), 0.0)) * self.decay
            increment = layer.centred(weight - last)
            weight.sub_(last, alpha=kappa)
            feedback.mul_(1.0 - kappa).add_(increment)
            last.copy_(weight)
            writes += weight.numel()
        return Cost(writes=writes)


def _spread(kind: type[torch.optim.Optimizer], group: dict[str, object]) -> float:
    """How much the steps on two different weights differ when their gradients are equal, over three steps."""
    # At the rate 1, since at a rate near 0 (a warm-up) nothing would show.
    options = {k: v for k, v in group.items() if k not in ("params", "initial_lr")} | {"lr": 1.0}
    pair = [torch.tensor([w], dtype=torch.float64, requires_grad=True) for w in (0.75, -2.5)]
    try:
        probe = kind([{**options, "params": pair}])  # type: ignore[call-arg]
        for gradient in (1.0, -0.25, 2.0):
            for p in pair:
                p.grad = torch.full_like(p, gradient)
            probe.step()
    except Exception as problem:
        raise PairError(
            "rule KolenPollack",
            expected="an optimiser that can be tried out on two numbers",
            got=f"{kind.__name__}, which failed there ({problem})",
            fix="use SGD, Adam or AdamW without weight decay",
        ) from problem
    steps = [float(p.detach()) - w for p, w in zip(pair, (0.75, -2.5), strict=True)]
    return abs(steps[0] - steps[1])
