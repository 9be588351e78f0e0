"""The three-line face: a net, a rule, a scheme, a loss and an optimiser, for any training loop.

learner = Learner(net, rule=FeedbackAlignment(), temporal=Trace(), optimiser=optimiser)
learner.learn(x, y); optimiser.step(); learner.after()
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal, Record
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.temporal.trace import Trace
from aplysia.nets.net import Input, Net
from aplysia.rng import generator
from aplysia.types import Cost


class Learner:
    """Binds the parts, refuses pairs that make no sense, and keeps the step count.

    Args:
        net: the net to train; its parameters get their `.grad` from here.
        rule: where errors come from; it is attached to the net.
        optimiser: over the net's parameters.
        temporal: the scheme for time; eligibility traces unless said.
        loss: on the readout.
        clip: largest norm of all gradients together; None: no clipping.
        seed: of the rule's own randomness and of dropout.

    Raises:
        PairError: parts that make no sense together, with the reason.

    Attributes:
        steps: optimiser steps so far.
        cost: what the rule has moved so far.
        before_upkeep: called once the optimiser has stepped and before the rule does its upkeep; for measurements.
    """

    def __init__(
        self,
        net: Net,
        *,
        rule: AbstractSpatial,
        optimiser: torch.optim.Optimizer,
        temporal: AbstractTemporal | None = None,
        loss: AbstractLoss | None = None,
        clip: float | None = None,
        seed: int = 0,
    ) -> None:
        self.net, self.rule, self.optimiser = net, rule, optimiser
        self.temporal, self.loss = (temporal or Trace()).fresh(), loss or StepwiseLoss()
        self.clip, self.seed = clip, seed
        self.steps = 0
        self.cost = Cost()
        self.before_upkeep: Callable[[], None] | None = None
        rule.check_optimiser(net, optimiser)
        rule.check_loss(self.loss)
        self.temporal.check_kind(net)
        self.temporal.check(net, self.loss, rule)
        rule.attach(net, seed=seed)
        if rule.parameters():
            optimiser.add_param_group({"params": rule.parameters()})

    def learn(self, x: Input, target: Tensor) -> Record:
        """Run one batch and fill `.grad`; where the scheme updates inside the sequence, all but the last update are done.

        Args:
            x: `[T, B, …]`, or `Held([B, …], T)`.
            target: labels `[B]`.
        """
        device = self.net.readout.weight.device
        drops = any(layer.dropout for layer in self.net.hidden)
        self.rule.begin(self.steps)
        return self.temporal.learn(
            self.net,
            x,
            target,
            self.loss,
            self.rule,
            generator=generator(device, self.seed, "dropout", self.steps) if drops else None,
            apply=self._apply if self.temporal.updates_inside else None,
        )

    def after(self) -> Cost:
        """Tell the rule that the optimiser has stepped; clears the gradients."""
        if self.before_upkeep is not None:
            self.before_upkeep()
        cost = self.rule.upkeep(self.net, self.optimiser, self.steps)
        self.cost += cost
        self.steps += 1
        self.optimiser.zero_grad(set_to_none=True)
        return cost

    def update(self, x: Input, target: Tensor) -> Record:
        """`learn`, clip, optimiser step and `after` in one call."""
        record = self.learn(x, target)
        self._apply()
        return record

    def _apply(self) -> None:
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimiser.step()
        self.after()
