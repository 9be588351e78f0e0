"""The optimiser of an array of devices: what would be a step becomes pulses.

    from coincidences   each one, of gradient `unit`, becomes a pulse with probability p = η·unit/Δw_min: Binomial(count, p) up
                        and down, all in random order
    from a gradient     η·|grad|/Δw_min pulses against its sign, rounded at random to whole numbers
    without a quantum   w ← clip(w − η·grad, ±w_max)

All three have the mean of gradient descent. Coincidences are left by schemes that count them (`temporal=coincidence`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from aplysia.devices.base import AbstractDevice, Cells
from aplysia.devices.pulses import rounded, split, thinned
from aplysia.errors import PairError, RecipeError
from aplysia.ops.coincidence import Coincidences, ask_for_coincidences, take_coincidences
from aplysia.rng import generator

# Rounding in lr·unit/quantum must not refuse a rate that is exactly the largest.
_SLACK = 1.0 + 1e-6


class PulsedArray(torch.optim.Optimizer):
    """Each parameter is an array of devices; its cells are drawn at the first step, where weights are cut to their bounds.

    Args:
        params: parameters or groups of them.
        device: of all of them.
        lr: η ≥ 0.
        weight_decay: λ ≥ 0, a gradient λ·w beside the other: pulses rounded at random, even where the rest are coincidences.
        several: whether a coincidence may ask for more than one pulse; else a rate that needs it is refused.
        netted: whether pulses up and down that one update has for the same cell cancel each other before they are sent. Devices
            with unequal steps then do not drift on noise alone; the array must count before it pulses.
        seed: of cells, thinning and noise. With the number of steps and the cells, which are in the state, it is all that a
            resumed run needs.

    Raises:
        RecipeError: a rate or decay out of range; in `step`, a rate at which a coincidence asks for more than one pulse.
        PairError: in `step`, gradients that were changed after their coincidences were counted.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        device: AbstractDevice,
        lr: float = 0.1,
        weight_decay: float = 0.0,
        several: bool = False,
        netted: bool = False,
        seed: int = 0,
    ) -> None:
        for key, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not (math.isfinite(value) and value >= 0.0):
                raise RecipeError(
                    f"optimiser.{key}",
                    expected="a finite number ≥ 0",
                    got=repr(value),
                    fix="use 0.1 for lr, 0 for none",
                )
        self.cell, self.several, self.netted, self.seed = device, several, netted, seed
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        if self.cell.quantum is not None:
            for parameter in self.param_groups[-1]["params"]:
                ask_for_coincidences(parameter)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, and the coincidences they are made of."""
        super().zero_grad(set_to_none)
        for group in self.param_groups:
            for parameter in group["params"]:
                take_coincidences(parameter)

    @property
    def writes(self) -> list[int]:
        """Pulses that each parameter's cells got so far, of all arrays behind it; in the order of the parameters."""
        params = [parameter for group in self.param_groups for parameter in group["params"]]
        return [self.state[parameter]["writes"] if parameter in self.state else 0 for parameter in params]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Pulse every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        index = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                counted = take_coincidences(parameter)
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, counted, index, group["lr"], group["weight_decay"])
                index += 1
        return loss

    def _step(self, w: Tensor, grad: Tensor, counted: list[Coincidences], index: int, lr: float, decay: float) -> None:
        state = self.state[w]
        if not state:
            source = generator(w.device, self.seed, "cells", index)
            state.update(step=0, writes=0, cells=self.cell.cells(w, source))
        cells: Cells = state["cells"]
        thinning = generator(w.device, self.seed, "thinning", state["step"], index)
        noise = generator(w.device, self.seed, "device", state["step"], index)
        up, down = self._pulses(w, grad, counted, lr, decay, thinning)
        if self.netted:
            both = torch.minimum(up, down)
            up, down = up - both, down - both
        state["writes"] += self.cell.step(w, cells, up, down, noise)
        state["step"] += 1

    def _pulses(
        self, w: Tensor, grad: Tensor, counted: list[Coincidences], lr: float, decay: float, source: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        quantum = self.cell.quantum
        if quantum is None or not counted:
            wanted = -lr * (grad.add(w, alpha=decay) if decay else grad).contiguous()
            if quantum is None:
                return split(wanted)
            return split(wanted.sign() * rounded(wanted.abs() / quantum, source))
        _check_untouched(grad, counted)
        up, down = torch.zeros_like(w), torch.zeros_like(w)
        for each in counted:
            p = self._share(lr, float(each.unit), quantum)
            up += thinned(each.up.to(w), p, source)
            down += thinned(each.down.to(w), p, source)
        if decay:
            more, less = split(-w.sign() * rounded(w.abs() * (lr * decay / quantum), source))
            up, down = up + more, down + less
        return up, down

    def _share(self, lr: float, unit: float, quantum: float) -> float:
        """p, the pulses a coincidence asks for."""
        p = lr * unit / quantum
        if p > _SLACK and not self.several:
            raise RecipeError(
                "optimiser.lr",
                expected=f"at most {quantum / unit:.4g}, at which each coincidence is one pulse of {quantum:g}",
                got=f"{lr:g}",
                fix=f"lower it, give the device a quantum of at least {lr * unit:.4g}, or set optimiser.several=true",
            )
        return p if self.several else min(p, 1.0)


def _check_untouched(grad: Tensor, counted: list[Coincidences]) -> None:
    """Coincidences know nothing of what is done to a gradient after them."""
    told = sum((each.unit * (each.down - each.up) for each in counted), torch.zeros_like(grad))
    if not float((told - grad).norm()) <= 1e-3 * float(grad.norm()) + 1e-12:
        raise PairError(
            "optimiser PulsedArray",
            expected="gradients as their coincidences were counted",
            got="gradients that were changed since",
            fix="set clip=none, and leave .grad alone between the backward pass and the step",
        )
