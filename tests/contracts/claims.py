"""How each claim of a rule is measured. Every measure takes a maker of fresh rules and says whether the claim holds.

NO_TRANSPORT    (a) learning: surrogate flat (so that downstream activity cannot gate an error), loss linear in the output
                (so that the output error is fixed), all noise silenced; replace every forward weight downstream of a hidden
                layer, after attachment, by an unrelated one: that layer's update stays bit-identical. For every hidden layer.
                (b) the same with an ordinary surrogate, and with noise: the weights are swapped between forward and
                backward, in two batches. The update stays, and so does all that the rule has learnt of these batches: its
                tensors and their gradients. So given the same noise, outputs and errors the weights have no say.
                (c) what happens after a step: two nets whose weights are unrelated but whose gradients are made equal,
                and all noise silenced: the feedback they end up with is the same. (A mirror phase may learn weights from
                the net's response to noise; with no noise nothing may get across. Weights copied at attachment are
                taken out of the comparison, since the claim speaks of what comes after. A rule that copies now and then is
                given the time to.)
                A rule that begins with no feedback at all is measured as if it had learnt some.
EXACT           gradients equal those of plain autograd, on weights that have changed since the attachment.
FIXED_FEEDBACK  the rule's tensors, and the feedback it puts into the slots, are bit-identical after training steps, and
                after as many more steps as the rule needs to come to a copy.
UNLOCKED        as (a), and the feedback tensors of the other layers are replaced too: the update stays bit-identical.
RESPONSE        flat surrogate, linear loss, noise; the weights above a layer are A or B, at rest, in two batches. The layer's
                second update differs between A and B; where the forward pass meets B and the backward pass A, it is that of
                B; and (a) holds. So it hangs on the weights, and only by what they make of noise in a forward pass (a rule
                may have one of its own, a method called `response`, which meets B too).
HIDDEN_FROZEN   hidden weights have no gradient and do not change over training steps.
SECOND_PHASE    with the weights at rest and no gradients, `after` draws random numbers and moves the feedback by something
                that depends on the forward weights, without an event of transport. (Neither new magnitudes nor a copy of
                randomly chosen weights sends a signal through the net.)

Each measure is sharp both ways: a rule that does not state a claim must fail its measure.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from helpers import (
    CASES,
    DENSE,
    Case,
    Trainer,
    assert_alive,
    equal,
    gradients,
    learnt,
    parameters,
    plain_autograd,
    remembered,
    ripen,
)
from torch import Tensor

from aplysia.credit.contract import AbstractSpatial, AbstractTemporal
from aplysia.credit.learned_feedback import MomentumFeedback
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.seen import AbstractLoss, Seen
from aplysia.credit.temporal.through_time import ThroughTime
from aplysia.credit.temporal.trace import Trace
from aplysia.nets.layer import LayerState
from aplysia.nets.net import Net, Pass
from aplysia.nets.noise import Drawn, NoiseSource
from aplysia.neurons.integrator import Integrator
from aplysia.ops.surrogate import Rectangle
from aplysia.types import Claim, Cost

Make = Callable[[], AbstractSpatial]

SCHEMES = (ThroughTime(), Trace())


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearLoss(AbstractLoss):
    """Σ of fixed coefficients times outputs: the error does not depend on the output."""

    per_step = True

    def value(self, out: Tensor, target: Tensor, steps: int) -> Tensor:
        coefficients = torch.tensor([1.0, -0.7, 0.4, -1.3], dtype=out.dtype)
        labelled = coefficients * (1.0 + target[:, None].to(out.dtype))
        return (out * labelled).sum() / steps


def _flat(case: Case) -> Case:
    """ψ constant over any membrane potential, reset detached. (Not tiny, so that no update drowns.)"""
    return dataclasses.replace(
        case,
        neuron=dataclasses.replace(case.neuron, surrogate=Rectangle(width=1e3), detach_reset=True),
        readout=Integrator(),
    )


CONV = dataclasses.replace(
    CASES["conv, soft, attached, average and max pool, groups, stride"], text="4C3-A2-6C3s2p1g2-A2-F6-F4"
)
LEARNING = (_flat(dataclasses.replace(DENSE, text="F14-F12-F10-F4")), _flat(CONV))


@torch.no_grad()
def _unrelated(tensor: Tensor, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    scale = tensor.square().mean().sqrt()
    tensor.copy_(torch.randn(tensor.shape, generator=source, dtype=tensor.dtype) * scale)


def _owner(key: str) -> str:
    """The layer a tensor of a rule belongs to: keys are `layer` or `something/layer`."""
    return key.rsplit("/", 1)[-1]


def _update(net: Net, rule: AbstractSpatial, scheme: object, case: Case, layer: str) -> dict[str, Tensor]:
    x, target = case.input(steps=4)
    rule.begin(1)
    with _silence():
        made = learnt(net, rule, scheme, x, target, LinearLoss())  # type: ignore[arg-type]
    return {name: value for name, value in made.items() if name.startswith(f"{layer}.")}


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)


def _independent_of_layers_above(make: Make, *, feedback_too: bool) -> bool:
    for case in LEARNING:
        for scheme in SCHEMES:
            for n, layer in enumerate(case.net().hidden):
                made = []
                for replaced in (False, True):
                    net, rule = case.net(), make()
                    assert_alive(net, case.input(steps=4)[0])
                    rule.attach(net, seed=5)
                    ripen(rule)
                    if replaced:
                        for k, above in enumerate(net.all[n + 1 :]):
                            _unrelated(above.weight, 40 + k)
                        for k, (key, tensor) in enumerate(rule.tensors.items()):
                            if feedback_too and _owner(key) != layer.name and tensor.is_floating_point():
                                _unrelated(tensor, 80 + k)
                    made.append(_update(net, rule, scheme, case, layer.name))
                    # What lives on noise alone learns nothing without: any update at all would then be transport.
                    alone = not made[-1] or hasattr(rule, "baseline")
                    assert alone or all(value.abs().max() > 0 for value in made[-1].values())
                if not _same(*made):
                    return False
    return True


@contextmanager
def _weights(net: Net, values: dict[str, Tensor]) -> Iterator[None]:
    """Other weights for a while, in the same memory, so that whoever keeps them sees them change."""
    kept = {layer.name: layer.weight.detach().clone() for layer in net.all}
    try:
        for layer in net.all:
            layer.weight.data.copy_(values.get(layer.name, kept[layer.name]))
        yield
    finally:
        for layer in net.all:
            layer.weight.data.copy_(kept[layer.name])


def _above(net: Net, place: int, seed: int) -> dict[str, Tensor]:
    """Unrelated weights for the layers above a hidden one."""
    made = {layer.name: layer.weight.detach().clone() for layer in net.all[place + 1 :]}
    for k, weight in enumerate(made.values()):
        _unrelated(weight, seed + k)
    return made


def _swapped(
    case: Case, make: Make, place: int, scheme: AbstractTemporal, forward: int | None, backward: int | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two batches with noise, weights at rest; those above a layer are unrelated ones (of these seeds) in each pass.

    Returns:
        the last update of the layer, and what the rule has learnt: its tensors and their gradients.
    """
    net, rule = case.net(), make()
    assert_alive(net, case.input(steps=4)[0])
    rule.attach(net, seed=5)
    ripen(rule)
    own = {layer.name: layer.weight.detach().clone() for layer in net.all}
    going = own if forward is None else _above(net, place, forward)
    coming = own if backward is None else _above(net, place, backward)

    class Swapping(LinearLoss):
        def error(self, out: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
            for layer in net.all:
                layer.weight.data.copy_(coming.get(layer.name, own[layer.name]))
            return super().error(out, target, steps)

    # A forward pass of the rule's own meets the forward weights too.
    response = getattr(rule, "response", None)
    if response is not None:

        def forwards(*arguments: object) -> Tensor:
            with _weights(net, going):
                return response(*arguments)

        rule.response = forwards  # type: ignore[attr-defined]
    for batch in (0, 1):
        net.zero_grad(set_to_none=True)
        rule.begin(batch)
        with _weights(net, going):
            scheme.learn(net, *case.input(steps=4, seed=batch), Swapping(), rule)
    update = {k: v for k, v in gradients(net).items() if k.startswith(f"{case.net().hidden[place].name}.")}
    learnt_too = {k: v for k, v in gradients(net, rule).items() if k.startswith("rule.")}
    return update, remembered(rule) | learnt_too


def _independent_of_a_swap(make: Make) -> bool:
    """Ordinary surrogates: forward weights above a layer are replaced once the forward pass has been."""
    for case in (dataclasses.replace(DENSE, text="F14-F12-F10-F4"), CONV):
        for place in range(len(case.net().hidden)):
            whole = ThroughTime()
            plain, swapped = (_swapped(case, make, place, whole, None, seed) for seed in (None, 40))
            if not (_same(plain[0], swapped[0]) and _same(plain[1], swapped[1])):
                return False
    return True


def response(make: Make) -> bool:
    case = LEARNING[0]
    for scheme in (Trace(chunk=4), ThroughTime()):
        for place in range(len(case.net().hidden)):
            one, other, mixed = (
                _swapped(case, make, place, scheme, *seeds)[0] for seeds in ((60, 60), (70, 70), (70, 60))
            )
            if _same(one, other) or not _same(mixed, other):
                return False
    # What a rule puts into a slot it reads while the forward pass runs; without noise that must show nothing either.
    return _independent_of_layers_above(make, feedback_too=False)


@contextmanager
def _silence() -> Iterator[None]:
    """No noise: every normal or uniform draw gives 0, and so does every disturbance of a forward pass."""

    def zeros(*size: object, generator: object = None, **more: object) -> Tensor:
        return torch.zeros(*size, **more)  # type: ignore[arg-type]

    def zeros_like(like: Tensor, **more: object) -> Tensor:
        return torch.zeros_like(like)

    def still(source: NoiseSource, name: str, start: int, steps: int, like: Tensor) -> Drawn:
        return Drawn.of(like.new_zeros(steps, *like.shape))

    with (
        mock.patch.object(NoiseSource, "drawn", still),
        mock.patch.object(torch, "randn", zeros),
        mock.patch.object(torch, "rand", zeros),
        mock.patch.object(torch, "randn_like", zeros_like),
        mock.patch.object(torch, "rand_like", zeros_like),
    ):
        yield


def probe(net: Net, rule: AbstractSpatial) -> list[Tensor]:
    """The feedback as it is used: what is in the slots, and the errors seeded for fixed outputs and a fixed output error.

    The rule is asked a copy, which learns nothing: what it is sent depends on what it knows, and on its noise of this step.
    """
    rule = copy.deepcopy(rule)
    feedback = getattr(rule, "feedback", None)
    if isinstance(feedback, MomentumFeedback):
        rule.feedback = dataclasses.replace(feedback, freeze_after=0)  # type: ignore[attr-defined]
    with torch.no_grad():
        made = [rule.slot(layer, layer.effective_weight()) for layer in net.fed_back]
        # As of layers that learn: one without a graph is sent no error.
        outs = [torch.ones(2, 3, *layer.output_shape, dtype=torch.float64, requires_grad=True) for layer in net.all]
        error = torch.linspace(-1, 1, 2 * 3 * net.classes, dtype=torch.float64).view(2, 3, net.classes)
        source = rule.noise_source
        noise = (
            [] if source is None else [source.drawn(a.name, 0, 2, b[0]) for a, b in zip(net.hidden, outs, strict=False)]
        )
        done = Pass(outs, [LayerState() for _ in outs], torch.zeros(0), torch.zeros(0), noise)
        # Labels of two kinds, so that losses differ.
        seen = Seen(done, error, torch.tensor([0, 1, 1]), StepwiseLoss(), 2, source=source)
        _, seeds = rule.planted(net, seen)
        return [t.clone() for t in (*made, *seeds) if t is not None]


def _await_event(net: Net, rule: AbstractSpatial, optimiser: torch.optim.Optimizer, *, step: int) -> None:
    """Let a rule that copies only now and then come to its next copy: its upkeep goes on while the weights rest."""
    for later in range(step, step + 200):
        if rule.after(net, optimiser, later).events:
            return


def _nothing_crosses_afterwards(make: Make) -> bool:
    ends = []
    for seed in (3, 4):
        net, rule = DENSE.net(seed), make()
        rule.attach(net, seed=5)
        ripen(rule)
        # A copy made at attachment is none of this claim's business: start both from the same feedback.
        twin = make()
        twin.attach(DENSE.net(3), seed=5)
        if Claim.FIXED_FEEDBACK in rule.claims:
            rule.load_tensors(twin.tensors)
        optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(3):
            for n, p in enumerate(net.parameters()):
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(100 * step + n), dtype=p.dtype)
            optimiser.step()
            with _silence():
                rule.after(net, optimiser, step)
        seen = probe(net, rule)
        with _silence():
            _await_event(net, rule, optimiser, step=3)
        ends.append(seen + probe(net, rule))
    return all(torch.allclose(a, b, rtol=1e-10, atol=1e-10) for a, b in zip(*ends, strict=True))


def no_transport(make: Make) -> bool:
    return (
        _independent_of_layers_above(make, feedback_too=False)
        and _independent_of_a_swap(make)
        and _nothing_crosses_afterwards(make)
    )


def unlocked(make: Make) -> bool:
    return _independent_of_layers_above(make, feedback_too=True)


def exact(make: Make) -> bool:
    for case in (DENSE, CASES["conv, soft, attached, average and max pool, groups, stride"]):
        net, rule = case.net(), make()
        rule.attach(net, seed=5)
        with torch.no_grad():
            for k, layer in enumerate(net.all):
                layer.weight.add_(
                    0.3
                    * layer.weight.std()
                    * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(k)).double()
                )
        x, target = case.input()
        assert_alive(net, x)
        loss = StepwiseLoss(mse_share=0.3)
        got, want = learnt(net, rule, ThroughTime(), x, target, loss), plain_autograd(net, x, target, loss)
        if got.keys() != want.keys() or not all(torch.allclose(got[k], want[k], rtol=1e-9, atol=1e-12) for k in want):
            return False
    return True


def _train(make: Make, steps: int = 4) -> Iterator[tuple[Net, AbstractSpatial]]:
    """A net and its rule before, and after each of some large training steps (large enough to turn signs)."""
    net, rule = DENSE.net(), make()
    rule.attach(net, seed=5)
    trainer = Trainer(net, rule, Trace(), lr=2.0)
    yield net, rule
    for step in range(steps):
        x, target = DENSE.input(steps=4, seed=step)
        if step == 0:
            assert_alive(net, x)
        trainer.update(x, target)
        yield net, rule
    _await_event(net, rule, trainer.optimiser, step=trainer.steps)
    yield net, rule


def fixed_feedback(make: Make) -> bool:
    before: tuple[list[Tensor], dict[str, Tensor]] | None = None
    for net, rule in _train(make):
        now = probe(net, rule), {name: tensor.clone() for name, tensor in rule.tensors.items()}
        if before is None:
            before = now
        elif not (all(map(torch.equal, now[0], before[0])) and _same(now[1], before[1])):
            return False
    return True


def hidden_frozen(make: Make) -> bool:
    net, rule = DENSE.net(), make()
    rule.attach(net, seed=5)
    start = parameters(net)
    trainer = Trainer(net, rule, Trace(), lr=0.5)
    for step in range(3):
        x, target = DENSE.input(steps=4, seed=step)
        assert_alive(net, x)
        trainer.scheme.learn(net, x, target, trainer.loss, rule)
        if any(p.grad is not None for layer in net.hidden for p in layer.parameters()):
            return False
        trainer.apply()
    now = parameters(net)
    assert not torch.equal(now["readout.weight"], start["readout.weight"])
    return all(torch.equal(now[k], start[k]) for k in start if not k.startswith("readout."))


def second_phase(make: Make) -> bool:
    moved, cost = [], Cost()
    for replaced in (False, True):
        net, rule = DENSE.net(), make()
        rule.attach(net, seed=5)
        if replaced:
            for k, layer in enumerate(net.fed_back):
                _unrelated(layer.weight, 40 + k)
        before = {name: tensor.clone() for name, tensor in rule.tensors.items()}
        cost = rule.after(net, torch.optim.SGD(net.parameters(), lr=0.1), 0)
        moved.append({name: rule.tensors[name] - before[name] for name in before})
    return bool(cost.random_numbers) and not cost.events and not _same(*moved)


MEASURES: dict[Claim, Callable[[Make], bool]] = {
    Claim.EXACT: exact,
    Claim.NO_TRANSPORT: no_transport,
    Claim.FIXED_FEEDBACK: fixed_feedback,
    Claim.UNLOCKED: unlocked,
    Claim.RESPONSE: response,
    Claim.HIDDEN_FROZEN: hidden_frozen,
    Claim.SECOND_PHASE: second_phase,
}
