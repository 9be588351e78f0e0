"""Variance and direction of hidden gradients under each rule, at frozen weights: how much of backpropagation's a rule gets.

    python benchmarks/gradient_variance.py [--quick] [--json FILE]

Weights stay as they are. Feedback that learns first sees warm-up batches, as many as six of its windows need but no more than
the protocol has; then all rules get the same random batches, and it learns on. Per layer: Σ Var over its parameters, ‖mean‖²,
and the cosine of the mean with that of backpropagation in the clean net; once at the start and once after 300 steps of
backpropagation. Feedback is updated at every time step, but where it says "as shipped". The paper's own protocol could not be
had. With $APLYSIA_DATA set, a small convolutional net on Fashion-MNIST is measured too, by fewer rules. A drawing is
written beside the JSON.

A small variance alone says little: feedback near zero has next to none. So the cosine stands beside it.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from variance_report import BP, OPZO, PLAIN, claims, picture, show, told

import aplysia
from aplysia.credit.learned_feedback import EveryStep, MomentumFeedback
from aplysia.credit.spatial.zeroth_order import NoBaseline
from aplysia.data.base import Bundle
from aplysia.data.root import VARIABLE, data_root
from aplysia.nets.noise import Noise
from aplysia.recipes import find
from aplysia.rng import generator
from aplysia.train.codec import override
from aplysia.train.recipe import AXES, Recipe

MOMENTA, ALPHAS = (0.0, 0.9, 0.99, 0.999), (0.2, 0.05)


@dataclass(frozen=True)
class Protocol:
    """How long to look.

    Attributes:
        warm_up: most batches before gradients are kept.
        batches: whose gradients are kept.
        training: steps of backpropagation between the two states.
        all_rules: every momentum and noise, or only those of slow feedback and α = .2.
    """

    warm_up: int = 400
    batches: int = 80
    training: int = 300
    all_rules: bool = True

    def warm_up_of(self, rule: Any, steps: int) -> int:
        """Batches of T steps that a rule's feedback is to see first: a window is 1/(1 − λ) updates."""
        feedback = getattr(rule, "feedback", None)
        if not isinstance(feedback, MomentumFeedback):
            return 0
        updates = steps if feedback.update.every_step else 1
        return min(self.warm_up, math.ceil(6 / (1 - feedback.momentum) / updates))


Batch = Callable[[int], tuple[Any, Tensor]]


def opzo(momentum: float, alpha: float) -> Any:
    feedback = MomentumFeedback(momentum=momentum, update=EveryStep())
    return aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=alpha), feedback=feedback)


def name_of_opzo(momentum: float, alpha: float) -> str:
    return f"{OPZO}, λ={momentum:g}, α={alpha:g}"


def rules(everything: bool = True) -> dict[str, Any]:
    """The contestants; zeroth order with its true scale, 1, where the library ships .02 of it."""
    of = aplysia.rules
    made = {
        BP: of.Symmetric(),
        PLAIN: of.ZerothOrder(noise=Noise(antithetic=False), baseline=NoBaseline(), scale=1.0),
        "ZO, antithetic, baseline": of.ZerothOrder(scale=1.0),
    }
    pairs = [(momentum, alpha) for alpha in ALPHAS for momentum in MOMENTA]
    if not everything:
        pairs = [(momentum, ALPHAS[0]) for momentum in MOMENTA[2:]]
    made |= {name_of_opzo(*pair): opzo(*pair) for pair in pairs}
    feedback = MomentumFeedback(momentum=MOMENTA[-1], update=EveryStep())
    return made | {
        f"{OPZO} as shipped": of.PseudoZerothOrder(),
        f"forward gradient, λ={MOMENTA[-1]:g}": of.ForwardGradient(feedback=feedback),
        "DFA": of.DirectFeedback(),
    }


def batches_of(recipe: Recipe, bundle: Bundle) -> Batch:
    """Batch number → input held for T steps, and labels; drawn at random from the training set, a function of the number."""
    split = bundle.train
    images = split.inputs.float() * bundle.scale
    if recipe.normalise:
        mean, spread = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
        images = (images - mean) / spread

    def batch(number: int) -> tuple[Any, Tensor]:
        source = generator("cpu", "gradient variance", number)
        chosen = torch.randint(len(split), (recipe.batch_size,), generator=source)
        return aplysia.Held(images[chosen], recipe.steps), split.labels[chosen]

    return batch


def frozen(net: Any, rule: Any, recipe: Recipe) -> aplysia.Learner:
    """A learner that changes no weight."""
    net = copy.deepcopy(net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.0)
    return aplysia.Learner(net, rule=rule, temporal=recipe.temporal, loss=recipe.loss, optimiser=optimiser, seed=1)


def gradients(net: Any, rule: Any, recipe: Recipe, batch: Batch, protocol: Protocol) -> dict[str, Tensor]:
    """The gradient of each hidden layer in each batch, `[batches, parameters]`."""
    learner = frozen(net, rule, recipe)
    kept: dict[str, list[Tensor]] = {layer.name: [] for layer in learner.net.hidden}
    for number in range(-protocol.warm_up_of(rule, recipe.steps), protocol.batches):
        learner.learn(*batch(number))
        for layer in learner.net.hidden if number >= 0 else []:
            parts = [p.grad.flatten() for p in layer.parameters() if p.grad is not None]
            kept[layer.name].append(torch.cat(parts))
        learner.after()
    for before, after in zip(net.parameters(), learner.net.parameters(), strict=True):
        assert torch.equal(before, after), "weights are to stay as they are"
    return {name: torch.stack(found) for name, found in kept.items()}


def measure(net: Any, recipe: Recipe, batch: Batch, protocol: Protocol, console: Console) -> dict[str, Any]:
    """All rules at these weights."""
    x, _ = batch(0)
    _, spikes = net.predict(x)
    counted = zip(net.hidden, spikes.tolist(), strict=False)
    rates = {layer.name: count / (recipe.steps * recipe.batch_size * layer.units) for layer, count in counted}
    assert all(rate > 0.01 for rate in rates.values()), f"a silent layer shows nothing: {rates}"
    found: dict[str, Any] = {}
    reference: dict[str, Tensor] = {}
    for name, rule in rules(protocol.all_rules).items():
        with console.status(name):
            samples = gradients(net, rule, recipe, batch, protocol)
        means = {layer: kept.mean(0) for layer, kept in samples.items()}
        reference = reference or means
        found[name] = {
            layer: {
                "variance": float(kept.var(0).sum()),
                "mean_square": float(means[layer].square().sum()),
                "cosine": float(torch.cosine_similarity(means[layer], reference[layer], dim=0)),
            }
            for layer, kept in samples.items()
        }
    return {"rates": rates, "rules": found}


def train(net: Any, recipe: Recipe, batch: Batch, steps: int) -> None:
    """Some steps of backpropagation, on batches that no rule is measured on."""
    optimiser = recipe.optimiser.build(net.parameters())
    learner = aplysia.Learner(
        net, rule=aplysia.rules.Symmetric(), temporal=recipe.temporal, loss=recipe.loss, optimiser=optimiser
    )
    for number in range(steps):
        learner.update(*batch(1_000_000 + number))


def accuracy(net: Any, batch: Batch) -> float:
    """On ten batches that are used for nothing else."""
    hits = [(net.predict(x)[0].argmax(1) == y).float().mean() for x, y in (batch(2_000_000 + i) for i in range(10))]
    return float(torch.stack(hits).mean())


def both_states(recipe: Recipe, protocol: Protocol, console: Console) -> dict[str, Any]:
    """One net, at the start and trained."""
    bundle = recipe.data.load(data_root(None), steps=recipe.steps)
    batch, net = batches_of(recipe, bundle), recipe.build_net(bundle)
    made: dict[str, Any] = {"net": recipe.net, "batch": recipe.batch_size, "steps": recipe.steps}
    made |= {"caveat": bundle.caveat, "protocol": vars(protocol), "states": {}}
    for state in ("at the start", f"after {protocol.training} steps of BP"):
        if made["states"]:
            train(net, recipe, batch, protocol.training)
        found = {"training_accuracy": accuracy(net, batch), **measure(net, recipe, batch, protocol, console)}
        made["states"][state] = found
        show(f"{recipe.data.name}, {recipe.net}, {state}", found, console)
    return made


def contests(quick: bool) -> list[tuple[Recipe, Protocol]]:
    """The digits, and Fashion-MNIST where data are."""
    digits = override(find("digits-mlp"), ["net=F128-F128-F128-F10"], AXES)
    if quick:
        return [(digits, Protocol(warm_up=40, batches=10, training=60))]
    made = [(digits, Protocol())]
    if os.environ.get(VARIABLE):
        images = override(find("opzo-fmnist"), ["net=8C3s2-8C3-A2-8C3-A2-F10", "batch_size=64"], AXES)
        made.append((images, Protocol(warm_up=100, all_rules=False)))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer batches, digits only; no figures to quote")
    parser.add_argument("--json", metavar="FILE", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    console = Console()
    results: dict[str, Any] = {"torch": torch.__version__, "nets": {}}
    for recipe, protocol in contests(arguments.quick):
        results["nets"][recipe.data.name] = both_states(recipe, protocol, console)
    results["claims"] = claims(results["nets"])
    for claim in results["claims"]:
        console.print(told(claim), highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        drawn = picture(results)
        if drawn is not None:
            arguments.json.with_suffix(".svg").write_text(drawn)


if __name__ == "__main__":
    main()
