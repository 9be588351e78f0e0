"""A user's own model under one of our rules, in the user's own loop.

learner = adopt(model, FrozenBackprop(interval=10), optimiser=optimiser, loss=loss, example=(x, y))
learner.learn(x, y); optimiser.step(); learner.after()
model = learner.release()
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

from aplysia.adoption.call import AbstractCall
from aplysia.adoption.count import count_batch
from aplysia.adoption.learn import AdoptedPass, AdoptedRecord, OwnLoss
from aplysia.adoption.libraries.base import AbstractLibrary
from aplysia.adoption.survey import Report, report, survey
from aplysia.adoption.trace import Forward, Loss, run_once
from aplysia.adoption.view import AdoptedNet
from aplysia.credit.contract import AbstractChained, AbstractSpatial
from aplysia.credit.local import NoLocal
from aplysia.errors import PairError
from aplysia.ledger.amount import Book
from aplysia.nets.net import Net
from aplysia.nets.noise import Activity
from aplysia.plugins import walk
from aplysia.train.learner import AbstractLearner


def adopt(
    model: nn.Module,
    rule: AbstractSpatial,
    *,
    optimiser: torch.optim.Optimizer,
    loss: Loss,
    example: tuple[Any, Any],
    forward: Forward | None = None,
    at: Iterable[str] = (),
    leave: Iterable[str] = (),
    readout: str | None = None,
    calls: Iterable[AbstractCall] = (),
    clip: float | None = None,
    seed: int = 0,
) -> Adopted:
    """Put a model of torch, snnTorch, SpikingJelly or Norse under a learning rule.

    Nothing of the model is replaced: modules, parameters, `state_dict` keys and its own loop over time stay. While a batch
    learns, products of its weights (linear, convolution) are computed by ours, of the same value bit for bit, with the rule's
    feedback in the error slot; and the outputs of its spiking modules are cut where the rule cuts.

    Rules that send errors down layer by layer (symmetric, frozen, Kolen-Pollack, …) are exact on all such weights, recurrent
    ones included; errors run back through time as the model's own graph does. Rules that send errors from the output straight
    to the layers (direct feedback, pseudo-zeroth order, local losses) plant them at the hidden spiking modules; the output
    error is the derivative of the loss by the readout, the last layer of weights, at each step; within a site's segment, and
    behind the readout, gradients are plain autograd's.

    Args:
        model: in the state it is to start from.
        rule: a new one.
        optimiser: over the model's parameters; a rule's own trained tensors become a group of it.
        loss: `(output, target) -> ` the mean over the batch, one number.
        example: an input and a target batch; run once through a copy to see what the model is made of.
        forward: `(model, x) -> output`, where that is more than `model(x)`: a loop over time, a reset of states, the choice of
            one of several outputs. It must run the model it is given.
        at: names of the hidden spiking modules; none: those of the libraries we know.
        leave: names of modules or parameters that learn by plain autograd instead.
        readout: name of the module whose output errors are taken at; None: the last with weights that runs.
        calls: how further functions of torch are read.
        clip: largest norm of all gradients together in `update`; None: no clipping.
        seed: of the rule's own randomness.

    Raises:
        PairError: a parameter that nothing is known of (all of them are named), a rule that cannot do with what is known of the
            model, or parts that make no sense together.
    """
    made, left = forward or _call, tuple(leave)
    _check_model(model)
    readers = {function: call for call in (*_calls(), *calls) for function in call.functions}
    known = libraries()
    trace = run_once(model, made, loss, example, readers)
    target = example[1] if isinstance(example[1], Tensor) else None
    net = survey(model, trace, known, target, at=tuple(at), leave=left, readout=readout)
    chained = isinstance(rule, AbstractChained)
    sites = not chained or rule.noise.alpha > 0.0 or not isinstance(rule.local, NoLocal)
    _check_rule(rule, net, sites=sites, target=target)
    seen = cast("Net", net)
    rule.check_optimiser(seen, optimiser)
    rule.attach(seen, seed=seed)
    what = report(
        model, trace, known, net, leave=left, rule=type(rule).__name__, chained=chained, cuts=rule.cuts, sites=sites
    )
    work = AdoptedPass(model, net, rule, made, loss, readers, chained, sites)
    return Adopted(work, what, optimiser, clip=clip)


class Adopted(AbstractLearner):
    """A model under a rule. Made by `adopt`.

    Attributes:
        report: what became of each part; `print` it.
    """

    def __init__(
        self, work: AdoptedPass, report: Report, optimiser: torch.optim.Optimizer, *, clip: float | None
    ) -> None:
        self.report = report
        self._work: AdoptedPass | None = work
        self._model = work.model
        super().__init__(cast("Net", work.net), work.rule, optimiser, clip=clip)

    @property
    def memory(self) -> dict[str, Tensor]:
        return {}

    def _trained(self) -> Iterable[Tensor]:
        return self._model.parameters()

    def learn(self, x: Any, target: Any) -> AdoptedRecord:
        """Run one batch and fill `.grad`, as `loss(forward(model, x), target).backward()` would.

        Gradients of several calls before one optimiser step add up. It may run under `torch.autocast`.
        """
        if self._work is None:
            raise PairError(
                "Adopted.learn", expected="a model under a rule", got="a released one", fix="adopt it again"
            )
        self._begin()
        return self._work.run(x, target)

    def update(self, x: Any, target: Any) -> AdoptedRecord:
        """`learn`, clip, optimiser step and `after` in one call."""
        record = self.learn(x, target)
        self._apply()
        return record

    def count(self, x: Any, target: Tensor) -> Book:
        """What learning this batch costs, by layer and phase, without transport: of that, `cost` tells what was moved so far.

        The batch runs through a copy: nothing learns. Numbers are of the whole batch; `ledger.energy.energy` prices them.

        Raises:
            PairError: no neuron of a library we know, or a released model.
        """
        work = self._at_work("count")
        parts = (work.model, work.net, work.rule, work.forward, libraries(), work.readers)
        return count_batch(*parts, x, target, self.steps)

    def release(self) -> nn.Module:
        """The model, on its own again; a group of the optimiser that was the rule's goes."""
        own = {id(tensor) for tensor in self.rule.parameters()}
        groups = self.optimiser.param_groups
        groups[:] = [group for group in groups if not own or not all(id(p) in own for p in group["params"])]
        for tensor in self.rule.parameters():
            self.optimiser.state.pop(tensor, None)
        self._work = None
        return self._model

    def _at_work(self, what: str) -> AdoptedPass:
        if self._work is None:
            where = f"Adopted.{what}"
            raise PairError(where, expected="a model under a rule", got="a released one", fix="adopt it again")
        return self._work


def _call(model: nn.Module, x: Any) -> Any:
    return model(x)


def _calls() -> list[AbstractCall]:
    return [cast("type[AbstractCall]", kind)() for kind in walk("aplysia.adoption.calls", AbstractCall).values()]


def libraries() -> list[AbstractLibrary]:
    """Those whose neurons are recognised and that this process has loaded."""
    kinds = walk("aplysia.adoption.libraries", AbstractLibrary).values()
    return [library for kind in kinds if (library := cast("type[AbstractLibrary]", kind)()).loaded is not None]


def _check_model(model: nn.Module) -> None:
    if isinstance(model, Net):
        raise PairError("adopt", expected="a model that is not ours", got="a Net", fix="use aplysia.Learner")
    opaque = (torch.jit.ScriptModule, torch._dynamo.OptimizedModule)  # what torch.compile gives
    if any(isinstance(module, opaque) for module in model.modules()):
        raise PairError(
            "adopt",
            expected="modules whose calls can be seen",
            got="a scripted or compiled one",
            fix="adopt the model that was compiled",
        )


def _check_rule(rule: AbstractSpatial, net: AdoptedNet, *, sites: bool, target: Tensor | None) -> None:
    where = f"adopt, rule {type(rule).__name__}"
    if rule.slopes:
        raise PairError(
            where,
            expected="a rule that does without the slopes of the neurons, which are the model's own",
            got="one that runs tangents through them",
            fix="use PseudoZerothOrder, which learns the same feedback from noise",
        )
    try:
        rule.check_loss(OwnLoss())
    except PairError as problem:
        raise PairError(
            where,
            expected="a rule that gets by with the loss's derivative by the readout",
            got="one that needs the loss of each step and sample, which only the model's own output has",
            fix="use PseudoZerothOrder without intermediate layers, or a net of ours",
        ) from problem
    if not sites:
        return
    if not net.hidden:
        raise PairError(
            where,
            expected="hidden spiking modules of a library we know (snnTorch, SpikingJelly, Norse), or their names",
            got="none",
            fix="say at=(…,) with the names of the modules whose outputs errors are to be planted at",
        )
    if not isinstance(target, Tensor) or target.ndim == 0:
        raise PairError(
            where, expected="targets in a tensor, one for each sample", got=repr(target), fix="stack them into one"
        )
    if rule.noise.alpha and not isinstance(rule.noise.site, Activity):
        raise PairError(
            "rule.noise.site",
            expected="noise on what a module sends on, since what is inside is the model's own",
            got=type(rule.noise.site).__name__,
            fix="use Activity",
        )
