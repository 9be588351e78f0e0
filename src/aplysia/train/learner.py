"""The three-line face: a net, a rule, a scheme, a loss and an optimiser, for any training loop.

learner = Learner(net, rule=FeedbackAlignment(), temporal=Trace(), optimiser=optimiser)
learner.learn(x, y); optimiser.step(); learner.after()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal, Record
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.temporal.trace import Trace
from aplysia.errors import RunError
from aplysia.nets.net import Input, Net
from aplysia.ranks import present
from aplysia.rng import generator
from aplysia.types import Cost


class AbstractLearner(ABC):
    """What every learner does around `learn`: count steps, let the rule do its upkeep, save and load what belongs to it.

    Args:
        net: as the rule sees it.
        rule: attached to the net already.
        optimiser: over the parameters; the rule's own trained tensors become a group of it.
        clip: largest norm of all gradients together in `update`; None: no clipping.

    Attributes:
        steps: optimiser steps so far.
        cost: what the rule has moved so far.
        before_upkeep: called once the optimiser has stepped and before the rule does its upkeep; for measurements.
    """

    def __init__(
        self, net: Net, rule: AbstractSpatial, optimiser: torch.optim.Optimizer, *, clip: float | None
    ) -> None:
        self.net, self.rule, self.optimiser, self.clip = net, rule, optimiser, clip
        self.steps = 0
        self.cost = Cost()
        self.before_upkeep: Callable[[], None] | None = None
        # Batches since the last optimiser step: gradients may be gathered over several, and noise must differ between them.
        self._part = 0
        if rule.parameters():
            optimiser.add_param_group({"params": rule.parameters()})

    @property
    @abstractmethod
    def memory(self) -> dict[str, Tensor]:
        """Tensors remembered from batch to batch beside the rule's, the dict itself."""

    @abstractmethod
    def _trained(self) -> Iterable[Tensor]:
        """What is clipped together."""

    def _begin(self) -> None:
        self.rule.begin(self.steps, self._part)
        self._part += 1

    def after(self) -> Cost:
        """Tell the rule that the optimiser has stepped; clears the gradients."""
        if self.before_upkeep is not None:
            self.before_upkeep()
        cost = self.rule.upkeep(self.net, self.optimiser, self.steps)
        self.cost += cost
        self.steps += 1
        self._part = 0
        self.optimiser.zero_grad(set_to_none=True)
        return cost

    def average_gradients(self) -> None:
        """Average the gradients over the processes that train together (`aplysia.ranks`); nothing where there is one.

        `update` does it by itself. In a loop of your own it belongs between the last `learn` and clipping.
        """
        ranks = present()
        if ranks.size > 1:
            ranks.average_gradients([*self._trained(), *self.rule.parameters()])

    def _apply(self) -> None:
        self.average_gradients()
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self._trained(), self.clip)
        self.optimiser.step()
        self.after()

    def state_dict(self) -> dict[str, Any]:
        """What a later learner of the same parts needs to go on: take it between `after` and the next `learn`.

        The net's and the optimiser's own states are theirs to save.
        """
        return {
            "rule": {name: tensor.detach().clone() for name, tensor in self.rule.tensors.items()},
            "memory": {name: tensor.detach().clone() for name, tensor in self.memory.items()},
            "steps": self.steps,
            "cost": asdict(self.cost),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            RunError: it is no state of a learner, or of one with other parts.
        """
        missing = {"rule", "memory", "steps", "cost"} - state.keys()
        if missing:
            raise RunError(
                f"{type(self).__name__}.load_state_dict",
                expected="what state_dict() of a learner gave",
                got=f"no {', '.join(sorted(missing))}",
                fix="load the learner's own state, not the net's or the optimiser's",
            )
        self.rule.load_tensors(state["rule"])
        self.memory.clear()
        self.memory.update({name: tensor.clone() for name, tensor in state["memory"].items()})
        self.steps, self.cost = state["steps"], Cost(**state["cost"])


class Learner(AbstractLearner):
    """Binds the parts, refuses pairs that make no sense, and keeps the step count.

    Gradients of several `learn` before one optimiser step add up. Under `torch.autocast` nets run in the narrow type, and what
    rules remember stays in float32.

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
        self.temporal, self.loss, self.seed = (temporal or Trace()).fresh(), loss or StepwiseLoss(), seed
        rule.check_optimiser(net, optimiser)
        rule.check_loss(self.loss)
        self.temporal.check_kind(net)
        self.temporal.check(net, self.loss, rule)
        rule.attach(net, seed=seed)
        super().__init__(net, rule, optimiser, clip=clip)

    @property
    def memory(self) -> dict[str, Tensor]:
        return self.temporal.memory

    def _trained(self) -> Iterable[Tensor]:
        return self.net.parameters()

    def learn(self, x: Input, target: Tensor) -> Record:
        """Run one batch and fill `.grad`; where the scheme updates inside the sequence, all but the last update are done.

        Args:
            x: `[T, B, …]`, or `Held([B, …], T)`.
            target: labels `[B]`.
        """
        source = self._dropout() if any(layer.dropout for layer in self.net.hidden) else None
        self._begin()
        return self.temporal.learn(
            self.net,
            x,
            target,
            self.loss,
            self.rule,
            generator=source,
            apply=self._apply if self.temporal.updates_inside else None,
        )

    def _dropout(self) -> torch.Generator:
        part = (self._part,) if self._part else ()
        device = self.net.readout.weight.device
        return generator(device, self.seed, "dropout", self.steps, *part, *present().keys)

    def update(self, x: Input, target: Tensor) -> Record:
        """`learn`, clip, optimiser step and `after` in one call."""
        record = self.learn(x, target)
        self._apply()
        return record
