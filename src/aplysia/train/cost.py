"""What a recipe costs before anything is trained: its net is built, rates are assumed or taken from a run, all else is counted.

Per sample: an optimiser step's counts over B, and the transport of S steps over S·B, where S is a whole number of the rule's
intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from aplysia.credit.contract import AbstractSpatial
from aplysia.data.base import Bundle, Split
from aplysia.errors import PairError, RecipeError, RunError
from aplysia.ledger.activity import Activity, Drive, assume, counted, senders
from aplysia.ledger.amount import COUNTED, Book, Phase, read_book
from aplysia.ledger.chip import Chip
from aplysia.ledger.count import count_step, count_transport
from aplysia.ledger.energy import Energy, energy
from aplysia.ledger.memory import Memory, memory
from aplysia.nets.net import Net, widest
from aplysia.nets.noise import Noise
from aplysia.nets.zoo import parse
from aplysia.rng import generator
from aplysia.train.codec import override
from aplysia.train.folder import RunFolder
from aplysia.train.recipe import AXES, Recipe
from aplysia.types import Held

# Intervals that transport is counted over: enough for a scheme that sends a hundredth at a time to come round once.
_INTERVALS = 100


@dataclass(frozen=True)
class Priced:
    """One rule on one net.

    Attributes:
        rule: as it was asked for.
        step: an optimiser step, without transport.
        transport: of so many steps.
        steps: how many.
        batch: B.
        lines: of memory; empty where it is not known.
        refused: why the rule makes no sense on this net; empty where it does.
    """

    rule: str
    step: Book
    transport: Book
    steps: int
    batch: int
    lines: list[Memory]
    refused: str = ""

    def energy(self, chip: Chip) -> Energy:
        """Of one sample, in pJ."""
        moved = energy(self.transport, chip, samples=self.steps * self.batch)
        return energy(self.step, chip, samples=self.batch) + moved

    def counts(self) -> dict[Phase, dict[str, float | None]]:
        """Of one sample, by phase and by what is counted; None where it is not known."""
        found = {}
        for phase in Phase:
            parts = [(self.step.total(phase), self.batch), (self.transport.total(phase), self.steps * self.batch)]
            found[phase] = {name: _per_sample([(getattr(a, name), n) for a, n in parts]) for name in COUNTED}
        return found


def _per_sample(parts: list[tuple[int | None, int]]) -> float | None:
    if any(count is None for count, _ in parts):
        return None
    return float(sum((Fraction(count or 0, samples) for count, samples in parts), start=Fraction(0)))


@dataclass(frozen=True)
class Rates:
    """Spikes per unit and step of hidden layers.

    Attributes:
        each: by layer; the others have `rest`.
        rest: of layers that are not named.
        said: where they are from, in words.
    """

    each: Mapping[str, float]
    rest: float
    said: str


def assumed_rates(rate: float) -> Rates:
    """The same rate everywhere.

    Raises:
        RecipeError: outside [0, 1].
    """
    if not 0.0 <= rate <= 1.0:
        raise RecipeError("--rate", expected="spikes per unit and step, in [0, 1]", got=repr(rate), fix="use 0.1")
    return Rates({}, rate, f"assumed: every hidden unit fires at {rate:g} of its steps")


def measured_rates(path: Path) -> Rates:
    """Those of a finished run.

    Raises:
        RunError: no finished run there.
    """
    if not (path / "summary.json").is_file():
        fix = "name the folder of a finished run, or use --rate"
        raise RunError(str(path), expected="a finished run with its summary.json", got="none", fix=fix)
    summary = RunFolder(path).read_json("summary.json")
    return Rates(summary["rates"], 0.0, f"measured: the test set of {summary['recipe']} in {path}")


def asked(recipe: Recipe, rules: str | None) -> dict[str, Recipe]:
    """A recipe for each rule of `--rules`: names, each with settings behind colons, `frozen:interval=10:transport=cyclic`."""
    if rules is None:
        return {"": recipe}
    made = {}
    for text in filter(None, (part.strip() for part in rules.split(","))):
        name, *settings = text.split(":") if ".py:" not in text else [text]
        made[text] = override(recipe, [f"rule={name}", *(f"rule.{setting}" for setting in settings)], AXES)
    return made


def empty_bundle(recipe: Recipe, shape: tuple[int, int, int] | None) -> Bundle:
    """What a recipe's net is built for, without its data.

    Args:
        recipe: whose data set may know its shape.
        shape: `(C, H, W)`, where it does not, or where another is wanted.

    Raises:
        RecipeError: the shape is not known.
    """
    outline = recipe.data.outline
    if shape is None and outline is None:
        raise RecipeError(
            f"data set '{recipe.data.name}'",
            expected="a sample's shape that is known without loading",
            got="one that is up to the files",
            fix="add --input C,H,W",
        )
    classes = parse(recipe.net)[-1].channels if outline is None else outline.classes
    found = shape if shape is not None else outline.shape if outline is not None else (0, 0, 0)
    none = Split(torch.empty(0, *found), torch.empty(0, dtype=torch.int64))
    return Bundle(none, none, classes, found, outline is not None and outline.temporal, 1.0)


def price(recipes: Mapping[str, Recipe], rates: Rates, *, shape: tuple[int, int, int] | None = None) -> list[Priced]:
    """Count an optimiser step of each recipe; they differ in their rules only.

    Args:
        recipes: by what the rule is called.
        rates: of the hidden layers.
        shape: of a sample, where the data set does not know.

    Raises:
        RecipeError: a net of stochastic streams, or one that the rates do not fit.
    """
    made: list[Priced] = []
    first = next(iter(recipes.values()))
    bundle = empty_bundle(first, shape)
    net = first.build_net(bundle)
    if net.kind == "stream":
        raise RecipeError(
            f"recipe {first.name}",
            expected="stepped or first-spike neurons, whose counts follow from rates",
            got="streams, where they follow from coincidences, which only a run measures",
            fix="train it, and read the ledger.json of the run with --run",
        )
    missing = sorted(set(rates.each) - {layer.name for layer in net.all})
    if missing:
        got = f"rates of {', '.join(missing)}, which it has not"
        raise RecipeError("--run", expected=f"a run of the net of {first.name}", got=got, fix="name another run")
    held = _held(first, bundle)
    for name, recipe in recipes.items():
        rule = recipe.build_rule()
        try:
            # All of a learner's checks but the optimiser's: no step is made, and torch's optimisers take seconds to load.
            rule.check_loss(recipe.loss)
            recipe.temporal.check_kind(net)
            recipe.temporal.check(net, recipe.loss, rule)
            rule.attach(net, seed=recipe.seed)
        except PairError as problem:
            made.append(Priced(name, Book(), Book(), 1, 1, [], str(problem)))
            continue
        made.append(_priced(name, recipe, net, rule, rates, held))
    return made


def _priced(name: str, recipe: Recipe, net: Net, rule: AbstractSpatial, rates: Rates, held: bool) -> Priced:
    scheme, batch, real = recipe.temporal, recipe.batch_size, recipe.encoder.real
    activity = expected(net, rates, batch=batch, steps=recipe.steps, input_real=real, held=held, noise=rule.noise)
    steps = _INTERVALS * (getattr(rule, "interval", None) or 1)
    kept = recipe.optimiser.state_bytes
    habits = scheme.habits(recipe.steps, widest(net, batch))
    lines = memory(net, rule, habits, batch=batch, held=held, optimiser=kept)
    return Priced(name, count_step(net, rule, scheme, activity), count_transport(net, rule, steps), steps, batch, lines)


def expected(net: Net, rates: Rates, *, batch: int, steps: int, input_real: bool, held: bool, noise: Noise) -> Activity:
    """The activity of a batch at these rates; where noise is added to what hidden layers send, all of it is real numbers.

    Args:
        net: of stepped or first-spike neurons.
        rates: of its hidden layers.
        batch: B.
        steps: T.
        input_real: whether the input is real numbers.
        held: whether one input serves all steps.
        noise: of the rule.
    """
    by_rate: dict[float, Activity] = {}

    def at(name: str) -> Activity:
        rate = rates.each.get(name, rates.rest)
        if rate not in by_rate:
            by_rate[rate] = assume(net, batch=batch, steps=steps, rate=rate, input_real=input_real, held=held)
        return by_rate[rate]

    noisy = noise.alpha > 0.0 and noise.site.at_output
    drives: dict[str, Drive] = {}
    synapses, sources = {layer.name: layer for layer in net.synapses}, senders(net)
    for name, place in sources.items():
        drive = at(name if place is None else net.all[place].name).drives[name]
        if noisy and place is not None:
            everything = counted(synapses[name], torch.ones(1, *synapses[name].input_shape), real=True) * batch * steps
            heard = {"traced": everything} if noise.traced else {"learnt": drive.events}
            drive = replace(drive, events=everything, real=True, **heard)
        drives[name] = drive
    spikes = {layer.name: at(layer.name).spikes[layer.name] for layer in net.all if layer.neuron.spiking}
    return Activity(batch, steps, drives, spikes)


def _held(recipe: Recipe, bundle: Bundle) -> bool:
    shape = (1, recipe.steps, *bundle.shape) if bundle.temporal else (1, *bundle.shape)
    given = recipe.encoder(torch.zeros(shape), recipe.steps, generator("cpu", recipe.seed, "cost"))
    return isinstance(given, Held)


def from_ledger(name: str, data: Mapping[str, Any]) -> Priced:
    """What a run measured, from its `ledger.json`.

    Args:
        name: of the rule.
        data: the file.
    """
    lines = [Memory(line["layer"], line["kind"], line["bytes"]) for line in data.get("memory", [])]
    run = data["run"]
    return Priced(
        name, read_book(data["step"]), read_book(run["transport"]), max(1, run["steps"]), data["batch"], lines
    )
