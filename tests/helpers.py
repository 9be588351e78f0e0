"""What the exactness tests share: small nets that fire, the rules and schemes found in the package, plain autograd."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import itertools
import pkgutil
from abc import ABC
from ast import literal_eval
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import oracles
import oracles_response
import pytest
import torch
import torch.nn.functional as F
from oracles import Disturbance, OracleLayer
from torch import Tensor

import aplysia.credit.spatial
import aplysia.credit.temporal
from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal
from aplysia.credit.learned_feedback import MomentumFeedback
from aplysia.credit.local import NoLocal, Readouts, Similarity
from aplysia.credit.loss import MeanOutputLoss, StepwiseLoss
from aplysia.errors import PairError
from aplysia.nets.layer import AveragePool, Layer
from aplysia.nets.net import Input, Net, steps_of
from aplysia.nets.noise import AbstractLaw, Fading
from aplysia.nets.zoo import build
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.geometry import Conv2d
from aplysia.ops.precision import AbstractPrecision
from aplysia.ops.scan import HardReset, SoftReset
from aplysia.ops.surrogate import AbstractSurrogate, Arctan, Rectangle, Sigmoid, Triangle
from aplysia.rng import generator
from aplysia.train.learner import Learner
from aplysia.types import Held

# --- what is in the package ------------------------------------------------------------------------------------------


def modules_of(package: ModuleType) -> list[ModuleType]:
    """Every module of a package, imported."""
    return [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]


def finals(module: ModuleType, base: type) -> list[type]:
    """The concrete subclasses of `base` that a module defines."""
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, base)
        and kind.__module__ == module.__name__
        and not inspect.isabstract(kind)
        and not kind.__name__.startswith("Abstract")
    ]


def _choices(kind: type) -> Iterator[tuple[str, dict[str, Any]]]:
    """The defaults, and every other object a setting may hold (a magnitude, an update): found, not listed."""
    options: list[list[tuple[str, str, Any]]] = []
    for item in dataclasses.fields(kind):
        # What can be laid beside any rule has tests of its own.
        if not item.init or item.default_factory is dataclasses.MISSING or item.name in ("local", "noise"):
            continue
        base = next((b for b in type(item.default_factory()).__mro__[1:] if ABC in b.__bases__), None)
        # A law of random numbers too: it changes what is drawn, not what is made of it.
        if base is None or base is AbstractLaw:
            continue
        module = importlib.import_module(base.__module__)
        options.append([(item.name, choice.__name__, choice) for choice in finals(module, base)])
    if len(options) < 2:
        for key, name, choice in itertools.chain(*options):
            yield f"{kind.__name__}-{name}", {key: choice()}
    if len(options) == 1:
        return
    # Of several settings one is changed at a time: all combinations would be hundreds.
    yield kind.__name__, {}
    for key, name, choice in itertools.chain(*options):
        if choice is not type(getattr(kind(), key)):
            yield f"{kind.__name__}-{name}", {key: choice()}


def variants(package: ModuleType, base: type) -> dict[str, Callable[..., Any]]:
    """Name → maker, for every concrete class in a package and every object its settings may hold."""
    made: dict[str, Callable[..., Any]] = {}
    for module in modules_of(package):
        for kind in finals(module, base):
            for name, settings in _choices(kind):
                # What a rule does now and then it does often here, so that short tests see it.
                often = {"interval": 2} if (getattr(kind, "interval", None) or 0) > 2 else {}
                made[name] = lambda kind=kind, settings=settings | often, **more: kind(**settings, **more)
    return made


RULES: dict[str, Callable[..., AbstractSpatial]] = variants(aplysia.credit.spatial, AbstractSpatial)
ALL_SCHEMES: dict[str, Callable[..., AbstractTemporal]] = variants(aplysia.credit.temporal, AbstractTemporal)
# The schemes for nets that step through time; what others do is tested in tests/first_spike.
SCHEMES = {name: make for name, make in ALL_SCHEMES.items() if make().accepts == "stepped"}
SCHEMES["ThroughTime-truncated"] = lambda **more: SCHEMES["ThroughTime"](truncation=3, **more)

SURROGATES: dict[str, AbstractSurrogate] = {
    "sigmoid": Sigmoid(slope=3.0),
    "triangle": Triangle(width=2.0),
    "arctan": Arctan(alpha=1.5),
    "rectangle": Rectangle(width=2.5),
}

each_rule = pytest.mark.parametrize("rule_name", list(RULES))
# Without the variants of a rule with several settings: for what does not depend on the rule's upkeep.
each_main_rule = pytest.mark.parametrize(
    "rule_name", [n for n in RULES if "-" not in n or n.partition("-")[0] not in RULES]
)
each_scheme = pytest.mark.parametrize("scheme_name", list(SCHEMES))

# --- nets that fire --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A kind of net and input."""

    text: str
    input_shape: tuple[int, ...]
    neuron: LIF
    readout: Integrator = field(default_factory=Integrator)
    standardise: bool = False
    gain: float = 1.0
    weights: float = 1.6
    drive: float = 1.0
    held: bool = False
    bias: bool = True

    def net(self, seed: int = 3) -> Net:
        net = build(
            self.text,
            self.input_shape,
            neuron=self.neuron,
            readout=self.readout,
            standardise=self.standardise,
            gain=self.gain,
            bias=self.bias,
            seed=seed,
        ).double()
        perturb(net, self.weights, seed)
        return net

    def input(self, steps: int = 7, batch: int = 3, seed: int = 0) -> tuple[Input, Tensor]:
        source = torch.Generator().manual_seed(100 + seed)
        target = torch.randint(0, int(self.text.rsplit("F", 1)[1]), (batch,), generator=source)
        if self.held:
            value = torch.rand(batch, *self.input_shape, generator=source, dtype=torch.float64) * self.drive
            return Held(value, steps), target
        x = torch.rand(steps, batch, *self.input_shape, generator=source, dtype=torch.float64) * self.drive
        return x * (torch.rand(x.shape, generator=source) < 0.7), target


@torch.no_grad()
def perturb(net: Net, weights: float, seed: int) -> None:
    """Larger weights, and biases and gains that are not their initial 0 and 1."""
    for layer in net.all:
        layer.weight.mul_(weights if layer.weight_gain is None else 1.0)
        source = generator("cpu", seed, "perturb", layer.name)
        if layer.bias is not None:
            layer.bias.copy_(0.2 * torch.randn(layer.bias.shape, generator=source))
        if layer.weight_gain is not None:
            layer.weight_gain.copy_(1.0 + 0.5 * torch.rand(layer.weight_gain.shape, generator=source))


DENSE = Case("F14-F12-F4", (10,), LIF(leak=0.5, surrogate=Sigmoid(slope=4.0)))
CASES: dict[str, Case] = {
    "dense, soft, detached": DENSE,
    "dense, hard, attached, leaky readout, gain": Case(
        "F14-F12-F4",
        (10,),
        LIF(leak=0.8, threshold=0.7, surrogate=Arctan(alpha=1.5), reset=HardReset(value=0.1), detach_reset=False),
        readout=Integrator(leak=0.6),
        gain=1.3,
    ),
    "dense, standardised, soft, attached, held": Case(
        "F14-F12-F4",
        (10,),
        LIF(leak=0.7, surrogate=Triangle(width=2.0), reset=SoftReset(amount=0.6), detach_reset=False),
        standardise=True,
        gain=2.74,
        drive=2.0,
        held=True,
    ),
    "dense, no bias, hard, detached, held": Case(
        "F14-F12-F4",
        (10,),
        LIF(leak=0.9, surrogate=Rectangle(width=2.5), reset=HardReset()),
        readout=Integrator(leak=1.0),
        bias=False,
        weights=1.3,
        held=True,
    ),
    "conv, soft, attached, average and max pool, groups, stride": Case(
        "4C3-A2-6C3s2p1g2-P2-F4",
        (2, 8, 8),
        LIF(leak=0.6, surrogate=Sigmoid(slope=3.0), detach_reset=False),
        readout=Integrator(leak=0.3),
        gain=1.5,
        weights=1.8,
    ),
    "conv, standardised, hard, detached, held": Case(
        "4C3p0-P2-4C3g2-A2-F4",
        (2, 8, 8),
        LIF(leak=0.5, surrogate=Triangle(width=2.0), reset=HardReset()),
        standardise=True,
        gain=2.0,
        drive=2.0,
        held=True,
    ),
}
each_case = pytest.mark.parametrize("case", list(CASES.values()), ids=list(CASES))


def assert_alive(net: Net, x: Input, low: float = 0.02, high: float = 0.98) -> None:
    """Every hidden layer fires, and none fires always: without this a parity test can pass on silence."""
    _, spikes = net.predict(x)
    batch = x.value.shape[0] if isinstance(x, Held) else x.shape[1]
    for layer, count in zip(net.hidden, spikes.tolist(), strict=False):
        rate = count / (steps_of(x) * batch * layer.units)
        assert low <= rate <= high, f"layer {layer.name} fires at rate {rate:.3f}: this test would show nothing"


def assert_rate(spikes: Tensor, low: float = 0.02, high: float = 0.98) -> None:
    """The same for bare spikes."""
    rate = float(spikes.double().mean())
    assert low <= rate <= high, f"rate {rate:.3f}: this test would show nothing"


def expanded(x: Input) -> Tensor:
    """A held input written out."""
    return x.value.expand(x.steps, *x.value.shape).clone() if isinstance(x, Held) else x


# --- running the library ---------------------------------------------------------------------------------------------


def ripen(rule: AbstractSpatial) -> AbstractSpatial:
    """As if it had learnt for a while: from a start at zero hidden layers would get no errors at first."""
    if isinstance(getattr(rule, "feedback", None), MomentumFeedback):
        with torch.no_grad():
            for name, tensor in rule.tensors.items():
                if name in ("updates", "gathered"):
                    tensor.fill_(100 if name == "updates" else 1)
                elif not name.startswith(("local/", "classifier/", "projection")):
                    source = generator("cpu", "ripe", name)
                    tensor.copy_(0.2 * torch.randn(tensor.shape, generator=source, dtype=torch.float64))
        rule.begin(1)
    return rule


def attach(rule_name: str, net: Net, *, seed: int = 5, ripe: bool = True, **settings: Any) -> AbstractSpatial:
    """The rule on the net; skips a pair that is refused, which only standardised weights may cause here."""
    rule = RULES[rule_name](**settings)
    try:
        rule.attach(net, seed=seed)
    except PairError as refused:
        if not any(layer.weight_gain is not None for layer in net.all):
            raise
        pytest.skip(str(refused))
    return ripen(rule) if ripe else rule


def gradients(net: Net, rule: AbstractSpatial | None = None) -> dict[str, Tensor]:
    """`.grad` by `layer.parameter`, where there is one; with a rule, of its own tensors too, by `rule.name`."""
    made = {}
    if rule is not None:
        made = {f"rule.{name}": t.grad.clone() for name, t in rule.tensors.items() if t.grad is not None}
    for layer in net.all:
        for name, parameter in layer.named_parameters():
            if parameter.grad is not None:
                made[f"{layer.name}.{name}"] = parameter.grad.clone()
    return made


def parameters(net: Net) -> dict[str, Tensor]:
    return {f"{layer.name}.{n}": p.detach().clone() for layer in net.all for n, p in layer.named_parameters()}


def learnt(
    net: Net,
    rule: AbstractSpatial,
    scheme: AbstractTemporal,
    x: Input,
    target: Tensor,
    loss: AbstractLoss | None = None,
) -> dict[str, Tensor]:
    """Gradients of one batch; where the scheme applies them inside the sequence, they are summed and weights stay.

    What the rule has learnt of the batch is forgotten again.
    """
    net.zero_grad(set_to_none=True)
    kept = remembered(rule)
    scheme.learn(net, x, target, loss or StepwiseLoss(mse_share=0.3), rule, apply=lambda: None)
    rule.load_tensors(kept)
    return gradients(net)


def remembered(rule: AbstractSpatial) -> dict[str, Tensor]:
    """A copy of the rule's tensors."""
    return {name: tensor.detach().clone() for name, tensor in rule.tensors.items()}


def equal(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, and NaN is equal to NaN: a baseline is NaN until there is one."""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


class Trainer:
    """SGD on the library's side: learn, step, after, also inside a sequence."""

    def __init__(
        self, net: Net, rule: AbstractSpatial, scheme: AbstractTemporal, *, lr: float = 0.1, momentum: float = 0.0
    ) -> None:
        self.net, self.rule, self.scheme, self.steps = net, rule, scheme, 0
        self.optimiser = torch.optim.SGD([*net.parameters(), *rule.parameters()], lr=lr, momentum=momentum)
        self.loss = StepwiseLoss(mse_share=0.3)

    def apply(self) -> None:
        self.optimiser.step()
        self.rule.after(self.net, self.optimiser, self.steps)
        self.steps += 1
        self.optimiser.zero_grad(set_to_none=True)

    def update(self, x: Input, target: Tensor) -> None:
        self.rule.begin(self.steps)
        self.scheme.learn(self.net, x, target, self.loss, self.rule, apply=self.apply)
        self.apply()


def close(got: dict[str, Tensor], want: dict[str, Tensor], *, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    """Equal keys and, up to rounding in float64, equal numbers; and not by being all zero."""
    assert got.keys() == want.keys()
    for name in want:
        assert torch.isfinite(got[name]).all(), name
        assert want[name].abs().max() > 1e-7, f"{name} is zero: this test would show nothing"
        torch.testing.assert_close(got[name], want[name], rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}")


# --- to the oracle ---------------------------------------------------------------------------------------------------


def psi_of(surrogate: AbstractSurrogate) -> Callable[[Tensor], Tensor]:
    settings = dataclasses.asdict(surrogate)  # type: ignore[call-overload]
    return lambda x: oracles.PSI[type(surrogate).__name__](x, **settings)


def to_oracle(layer: Layer) -> OracleLayer:
    """The layer's numbers, copied out."""
    neuron, geometry = layer.neuron, layer.geometry

    def copy(p: Tensor | None) -> Tensor | None:
        return None if p is None else p.detach().clone()

    made = OracleLayer(
        layer.name,
        layer.weight.detach().clone(),
        copy(layer.bias),
        copy(layer.weight_gain),
        (geometry.stride, geometry.padding, geometry.groups) if isinstance(geometry, Conv2d) else None,
        tuple(("average" if isinstance(p, AveragePool) else "max", p.size) for p in layer.pools),
        neuron.leak,  # type: ignore[attr-defined]
        neuron.spiking,
        layer.gain,
    )
    if isinstance(neuron, LIF):
        made.threshold, made.psi, made.detached = neuron.threshold, psi_of(neuron.surrogate), neuron.detach_reset
        if isinstance(neuron.reset, HardReset):
            made.hard, made.reset = True, neuron.reset.value
        else:
            assert isinstance(neuron.reset, SoftReset)
            made.reset = neuron.threshold if neuron.reset.amount is None else neuron.reset.amount
    return made


def _drawn(law: AbstractLaw, shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    made = torch.empty(shape, dtype=torch.float64)
    law.draw(made, source)
    return made


def oracle_of(net: Net, rule: AbstractSpatial) -> tuple[list[OracleLayer], oracles.OracleRule]:
    """Oracle net and oracle rule, with the library's random draws handed over."""
    kind, by_hand = type(rule).__name__, oracles.RULES | oracles_response.RULES
    assert kind in by_hand, f"rule {kind} has no oracle: write it out by hand in tests/oracles.py"
    layers = {layer.name: layer for layer in net.all}

    def disturbance(layer: OracleLayer, step: int, t: int, shape: tuple[int, ...]) -> Disturbance:
        noise = made.settings.noise
        site = type(noise.site).__name__
        pair, second = divmod(t, 2) if noise.antithetic else (t, 0)
        source = generator("cpu", rule.seed, "noise", layer.name, step, pair)
        z = _drawn(noise.law, shape, source)
        fading = noise.amount
        factor = (
            fading.floor + (1 - fading.floor) / 2 ** (step / fading.half_life) if isinstance(fading, Fading) else 1.0
        )
        unit = layer.gain if site == "Activity" else layer.threshold
        return Disturbance(-z if second else z, noise.alpha * factor * unit, site)

    def draw(what: str, layer: OracleLayer, step: int) -> Tensor:
        if what.startswith("direction "):
            _, t, shape = what.split(" ", 2)
            source = generator("cpu", rule.seed, "directions", layer.name, step, t)
            return _drawn(rule.law, literal_eval(shape), source)  # type: ignore[attr-defined]
        source = generator("cpu", rule.seed, what, layer.name, step)
        if what == "transport":
            return torch.randint(layer.weight.numel(), (8 * layer.weight.numel(),), generator=source)
        if what == "permutation":
            source = generator("cpu", rule.seed, "transport", layer.name, step)
            return torch.randperm(layer.weight.numel(), generator=source)
        if what == "mirror":
            return torch.randn(rule.samples, *layers[layer.name].drive_shape, generator=source, dtype=torch.float64)  # type: ignore[attr-defined]
        drawn = (torch.randn(layer.weight.shape, generator=source) * layers[layer.name].law.std).double()
        gain = None if layer.weight_gain is None else torch.ones_like(layer.weight_gain)
        return dataclasses.replace(layer, weight=drawn, weight_gain=gain).effective()

    # Of the older rules only what belongs to a layer: their oracles remember the rest in ways of their own.
    tensors = {
        name: tensor.detach().clone()
        for name, tensor in rule.tensors.items()
        if name in layers or kind in oracles_response.RULES or name.startswith("local/")
    }
    made = by_hand[kind](rule, tensors, draw, disturbance if rule.noise.alpha else None, oracle_local(rule))
    return [to_oracle(layer) for layer in net.all], made


def oracle_local(rule: AbstractSpatial) -> oracles.Local:
    """The local errors by hand."""
    if isinstance(rule.local, NoLocal):
        return oracles.Local()
    if isinstance(rule.local, Readouts):
        return oracles_response.Readouts(rule.local, oracle_loss(rule.local.loss))
    assert isinstance(rule.local, Similarity), f"{type(rule.local).__name__} has no oracle: write it out by hand"
    return oracles_response.Similarity(rule.local)


def oracle_loss(loss: AbstractLoss) -> Any:
    if isinstance(loss, MeanOutputLoss):
        return oracles.MeanOutput()
    assert isinstance(loss, StepwiseLoss)
    return oracles.Stepwise(loss.mse_share)


def oracle_learn(
    layers: list[OracleLayer],
    rule: oracles.OracleRule,
    scheme: AbstractTemporal,
    x: Input,
    target: Tensor,
    loss: AbstractLoss,
    apply: Callable[[oracles.Gradients], None] | None = None,
) -> oracles.Learnt:
    """The scheme by hand."""
    rule.batch = rule.settings.step
    sequence, kind = list(expanded(x)), type(scheme).__name__
    if kind == "ThroughTime":
        truncation = scheme.truncation  # type: ignore[attr-defined]
        return oracles.through_time(layers, sequence, target, oracle_loss(loss), rule, truncation=truncation)
    assert kind in ("Trace", "Traceless"), f"scheme {kind} has no oracle: write it out by hand in tests/oracles.py"
    return oracles.online(
        layers,
        sequence,
        target,
        oracle_loss(loss),
        rule,
        traced=kind == "Trace",
        apply=apply if scheme.updates_inside else None,
    )


# --- plain autograd --------------------------------------------------------------------------------------------------


class _Fire(torch.autograd.Function):
    """H(x) forward, ψ(x) backward: the only thing plain autograd is told."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, psi: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.psi = psi
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ctx.psi(x), None


def plain_outputs(net: Net, x: Input, *, truncation: int | None = None) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The net as anybody would write it with autograd: a loop over time; returns outputs per step and the leaves."""
    leaves = {
        f"{layer.name}.{n}": p.detach().clone().requires_grad_()
        for layer in net.all
        for n, p in layer.named_parameters()
    }
    v: dict[str, Tensor] = {}
    outs = []
    for t, signal in enumerate(expanded(x)):
        if truncation and t % truncation == 0:
            v = {name: value.detach() for name, value in v.items()}
        for layer in net.all:
            weight, bias = leaves[f"{layer.name}.weight"], leaves.get(f"{layer.name}.bias")
            if layer.weight_gain is not None:
                flat = weight.flatten(1)
                root = (flat.var(1, keepdim=True) * flat.shape[1] + 1e-4).sqrt()
                gained = leaves[f"{layer.name}.weight_gain"][:, None] * (flat - flat.mean(1, keepdim=True)) / root
                weight = gained.view_as(weight)
            for pool in layer.pools:
                signal = (F.avg_pool2d if isinstance(pool, AveragePool) else F.max_pool2d)(signal, pool.size)
            g = layer.geometry
            if isinstance(g, Conv2d):
                current = F.conv2d(signal, weight, bias, g.stride, g.padding, 1, g.groups)
            else:
                current = F.linear(signal.flatten(1), weight, bias)
            neuron = layer.neuron
            u = current + neuron.leak * v.get(layer.name, torch.zeros_like(current))  # type: ignore[attr-defined]
            if not isinstance(neuron, LIF):
                signal = v[layer.name] = u
                continue
            s = _Fire.apply(u - neuron.threshold, psi_of(neuron.surrogate))
            r = s.detach() if neuron.detach_reset else s
            if isinstance(neuron.reset, HardReset):
                v[layer.name] = u * (1 - r) + neuron.reset.value * r
            else:
                v[layer.name] = u - (neuron.reset.amount or neuron.threshold) * r  # type: ignore[attr-defined]
            signal = layer.gain * s
        outs.append(signal)
    return outs, leaves


def plain_autograd(
    net: Net, x: Input, target: Tensor, loss: AbstractLoss, *, truncation: int | None = None
) -> dict[str, Tensor]:
    """Gradients of the loss, written out with torch's own functions, by autograd."""
    outs, leaves = plain_outputs(net, x, truncation=truncation)
    if isinstance(loss, MeanOutputLoss):
        value = F.cross_entropy(torch.stack(outs).mean(0), target)
    elif isinstance(loss, StepwiseLoss):
        hot = F.one_hot(target, net.classes).double()
        c = loss.mse_share
        value = sum((1 - c) * F.cross_entropy(o, target) + c * (o - hot).square().mean() for o in outs) / len(outs)
    else:
        value = loss.value(torch.stack(outs), target, len(outs))
    value.backward()
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noting(product: Callable[..., Tensor], taken: list[str]) -> Callable[..., Tensor]:
    """The same product, which leaves its name each time it is taken."""

    def noted(*arguments: object, **named: object) -> Tensor:
        taken.append(product.__name__)
        return product(*arguments, **named)

    return noted


def learnt_under(precision: AbstractPrecision, text: str, rule: Any, temporal: Any, *, steps: int = 6) -> list[Tensor]:
    """The gradients of one batch in a net of lively layers on images of 3 × 12 × 12, with products of this kind."""
    net = build(text, (3, 12, 12))
    with torch.no_grad():
        for layer in net.hidden:
            layer.weight *= 2
            layer.precision = precision
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    learner = Learner(net, rule=rule, temporal=temporal, optimiser=optimiser, loss=StepwiseLoss())
    x = torch.rand(steps, 16, 3, 12, 12, generator=torch.Generator().manual_seed(5)).round()
    record = learner.learn(x, torch.arange(16) % 10)
    assert min(float(n) / slots for n, slots in zip(record.spikes[:-1], record.slots[:-1], strict=True)) > 0.02
    return list(gradients(net).values())
