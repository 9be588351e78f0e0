"""One batch of an adopted model: its own forward pass, with our products in it, and our errors planted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aplysia.adoption.call import AbstractCall, Call
from aplysia.adoption.trace import Forward, Loss, check_value, first
from aplysia.adoption.view import AdoptedNet, AdoptedSite, AdoptedWeight
from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.seen import AbstractLoss, Seen
from aplysia.errors import PairError
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net, Pass, noise_amplitude
from aplysia.nets.noise import Drawn, NoiseSource


class OwnLoss(AbstractLoss):
    """Stands for a loss that only its own function knows: of a model's output, not of the readout a rule sees."""

    per_step: ClassVar[bool] = False

    def value(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        raise PairError(
            "adopt",
            expected="a rule that gets by with the loss's derivative by the readout",
            got="one that asks for the loss of other outputs",
            fix="train a net of ours by it, with aplysia.Learner",
        )


@dataclass(frozen=True)
class AdoptedRecord:
    """What one batch gave.

    Attributes:
        output: what forward gave, detached where it is a tensor.
        loss: 0-dim, detached.
        spikes: by site, the mean of what its neurons give in a step, 0-dim; where the rule needs no sites, empty.
    """

    output: Any
    loss: Tensor
    spikes: dict[str, Tensor]


@dataclass
class _Site:
    """What one site did in this batch."""

    outs: list[Tensor] = field(default_factory=list)
    noise: list[Tensor] = field(default_factory=list)
    steps: int = 0


class _Products(TorchFunctionMode):
    """Puts our product in the place of torch's own where a weight of ours is met, and keeps what the readout gives."""

    def __init__(
        self,
        weights: dict[int, AdoptedWeight],
        readers: dict[Any, AbstractCall],
        slot: Callable[[AdoptedWeight, Tensor], Tensor | None] | None,
        readout: AdoptedWeight,
    ) -> None:
        super().__init__()
        self.weights, self.readers, self.slot, self.readout = weights, readers, slot, readout
        self.answers: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        reader = self.readers.get(func)
        call = reader.read(func, args, kwargs) if reader is not None and torch.is_grad_enabled() else None
        weight = None if call is None else self.weights.get(id(call.weight))
        if call is None or weight is None:
            return func(*args, **kwargs)
        value = self._value(call, weight) if self.slot is not None else func(*args, **kwargs)
        if weight is self.readout:
            self.answers.append(value)
        return value

    def _value(self, call: Call, weight: AdoptedWeight) -> Tensor:
        assert self.slot is not None
        # Below the first layer there is nothing an error could serve, so no slot is asked for.
        return call.run(self.slot(weight, call.weight) if call.drive.requires_grad else None)


@dataclass
class AdoptedPass:
    """Runs batches.

    Attributes:
        model: the user's.
        net: as rules see it.
        rule: attached.
        forward, loss: the user's.
        readers: of calls, by function.
        chained: whether errors come down through the weights, and not from the output straight to the sites.
        sites: whether the rule needs them.
    """

    model: nn.Module
    net: AdoptedNet
    rule: AbstractSpatial
    forward: Forward
    loss: Loss
    readers: dict[Any, AbstractCall]
    chained: bool
    sites: bool

    def run(self, x: Any, y: Any) -> AdoptedRecord:
        """Forward, errors, backward: fills `.grad`. The model is as it was, whatever happens in between."""
        rule, source = self.rule, self.rule.noise_source
        products = _Products(
            {id(weight.weight): weight for weight in self.net.synapses},
            self.readers,
            cast("Callable[[AdoptedWeight, Tensor], Tensor | None]", rule.slot) if self.chained else None,
            self.net.readout,
        )
        seen = {site.name: _Site() for site in self.net.hidden} if self.sites else {}
        batch = len(y) if self.sites else 0
        with ExitStack() as stack:
            modules = dict(self.model.named_modules())
            for site in self.net.hidden if self.sites else []:
                hook = self._hook(site, seen[site.name], source, batch)
                stack.callback(modules[site.name].register_forward_hook(hook).remove)
            with products:
                output = self.forward(self.model, x)
                value = self.loss(output, y)
        check_value(value)
        spikes = {name: torch.stack([out.detach().float().mean() for out in s.outs]).mean() for name, s in seen.items()}
        # What follows is no part of a user's autocast: adjoints run in the type their values had.
        with torch.autocast(value.device.type, enabled=False):
            if self.sites:
                self._plant(value, products.answers, seen, y, source)
            else:
                torch.autograd.backward(value)
        return AdoptedRecord(output.detach() if isinstance(output, Tensor) else output, value.detach(), spikes)

    def _hook(self, site: AdoptedSite, seen: _Site, source: NoiseSource | None, batch: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            out = first(output)
            assert out is not None, "it was a tensor in the example"
            size = batch * site.units
            if out.numel() % size:
                raise PairError(
                    f"adopted module {site.name}",
                    expected=f"{batch} samples of {site.output_shape}, as many times as there are steps",
                    got=f"an output of {tuple(out.shape)}",
                    fix="hand learn() inputs and targets of one batch, of the example's sample size",
                )
            steps = out.numel() // size
            out_KB = out.reshape(steps, batch, *site.output_shape)
            sent = out.detach() if self.rule.cuts else out
            if source is not None:
                like = out_KB[0].detach()
                z = source.draw(site.name, seen.steps, steps, like)
                sent = torch.add(sent, z.reshape(out.shape), alpha=noise_amplitude(cast("Layer", site), source))
                seen.noise.append(z)
            seen.outs.append(out_KB)
            seen.steps += steps
            if not isinstance(output, tuple):
                return sent
            rest = output[1:]
            return type(output)(sent, *rest) if hasattr(output, "_fields") else (sent, *rest)

        return hook

    def _plant(
        self, value: Tensor, answers: list[Tensor], seen: dict[str, _Site], y: Tensor, source: NoiseSource | None
    ) -> None:
        """Errors by the rule at the sites; all above the last site, and its readout, by the loss itself."""
        steps = {name: site.steps for name, site in seen.items()}
        known = set(steps.values())
        rows = sum(answer.numel() for answer in answers)
        size = len(y) * self.net.classes
        if len(known) != 1 or 0 in known or not rows or rows % size or rows // size not in (1, *known):
            said = ", ".join(f"{name} {n}" for name, n in steps.items())
            raise PairError(
                "adopted model",
                expected="sites that all run for the same number of steps, and a readout that runs as often, or once",
                got=f"steps of {said}; readout {self.net.readout.name}: {rows / size:g}",
                fix="name the sites with at=(…,) and the readout with readout=…",
            )
        (total,) = known
        # Exact, behind the readout too: whatever the loss does with time.
        errors = torch.autograd.grad(value, answers, retain_graph=True, materialize_grads=True)
        shape = (rows // size, len(y), self.net.classes)
        answer, error = (torch.cat([t.detach().reshape(-1) for t in part]).view(shape) for part in (answers, errors))
        if len(answer) != total:
            # One readout of the whole sequence: every step shares its answer and its error.
            answer, error = (t.expand(total, *shape[1:]) for t in (answer, error))
        # What a rule remembers is of the weights' type; under autocast values are not.
        kind = self.net.readout.weight.dtype
        answer, error = answer.to(kind), error.to(kind)
        outs = [torch.cat(site.outs).to(kind) for site in seen.values()]
        noise = [Drawn.of(torch.cat(site.noise).to(kind)) for site in seen.values()] if source is not None else []
        zeros = torch.zeros(len(outs) + 1, dtype=torch.float64)
        done = Pass([*outs, answer], [], zeros, zeros, noise)
        what = Seen(done, error, y, OwnLoss(), total, 0, source)
        planted, seeds = self.rule.planted(cast("Net", self.net), what)
        pairs = [(t, s.to(t.dtype)) for t, s in zip(planted, seeds, strict=True) if t is not answer]
        torch.autograd.backward([value, *(t for t, _ in pairs)], [torch.ones_like(value), *(s for _, s in pairs)])
