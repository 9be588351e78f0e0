"""How far a rule's feedback, errors and updates are from those of true backpropagation, layer by layer.

For a layer with weights W, feedback B, error δ at its output and weight gradient G; δ* and G* the same by backpropagation on
the same samples, under the same temporal scheme:

    drift           ‖W − B‖ / ‖W‖              sign_agreement   share of weights with sign B = sign W
    angle           ∠(W, B) in degrees         error_cosine     cos(δ, δ*)          gradient_cosine   cos(G, G*)

The first three belong to the layers that own an error slot filled with a matrix, the last two to every layer above which an
error passed. A quantity that is not defined (no matrix, a zero error) is left out, never put to 0.

A measurement taken right after a copy finds perfect agreement by construction. So the probe runs after the optimiser has
stepped and before the rule's own upkeep: with `every` a multiple of a copying interval that is the worst moment there is.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractSpatial, AbstractTemporal
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.nets.layer import Layer, LayerState
from aplysia.nets.net import Input, Net
from aplysia.ops.coincidence import take_coincidences
from aplysia.train.learner import Learner

Measured = dict[str, dict[str, float]]


def measure(learner: Learner, x: Input, target: Tensor) -> Measured:
    """Alignment per layer on one probe batch; weights, gradients and the rule are left as they were."""
    # A look must not teach: some rules learn their feedback from every pass they see.
    net, rule, reference = learner.net, copy.deepcopy(learner.rule), Symmetric()
    # The same random numbers for both, where there are any: what differs is the rule.
    reference.attach(net, seed=rule.seed)
    reference.begin(rule.step)
    with gradients_kept(net):
        errors, gradients = _errors_and_gradients(learner, copy.deepcopy(learner.temporal), x, target, rule)
        true = _errors_and_gradients(learner, copy.deepcopy(learner.temporal), x, target, reference)
    true_errors, true_gradients = true
    found: Measured = {layer.name: _feedback(layer, rule) if layer in net.fed_back else {} for layer in net.synapses}
    for name, row in found.items():
        for key, ours, theirs in (
            ("error_cosine", errors, true_errors),
            ("gradient_cosine", gradients, true_gradients),
        ):
            if name in ours and name in theirs and (cosine := _cosine(ours[name], theirs[name])) is not None:
                row[key] = cosine
    return found


@torch.no_grad()
def _feedback(layer: Layer, rule: AbstractSpatial) -> dict[str, float]:
    weight = layer.effective_weight()
    feedback = None if rule.cuts else rule.slot(layer, weight)
    if feedback is None:
        return {}
    row = {"sign_agreement": float((weight.sign() == feedback.sign()).double().mean())}
    if weight.any():
        row["drift"] = float((weight - feedback).norm() / weight.norm())
    cosine = _cosine(weight, feedback)
    return row if cosine is None else row | {"angle": math.degrees(math.acos(max(-1.0, min(1.0, cosine))))}


def _errors_and_gradients(
    learner: Learner, temporal: AbstractTemporal, x: Input, target: Tensor, rule: AbstractSpatial
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The error at each layer's output, all chunks joined, and the gradient of each weight."""
    net = learner.net
    net.zero_grad(set_to_none=True)
    parts: dict[str, list[Tensor]] = {layer.name: [] for layer in net.all}

    def watch(layer: Layer, _: object, result: tuple[Tensor, LayerState, object]) -> None:
        out = result[0]
        if out.requires_grad:
            # Backward passes run through the chunks in order online and in reverse through time: by place, then.
            place = len(parts[layer.name])
            parts[layer.name].append(torch.zeros_like(out))
            out.register_hook(lambda error: parts[layer.name][place].copy_(error))

    handles = [layer.register_forward_hook(watch) for layer in net.all]
    try:
        temporal.learn(net, x, target, learner.loss, rule, apply=lambda: None)
    finally:
        for handle in handles:
            handle.remove()
    errors = {name: torch.cat([p.flatten() for p in found]) for name, found in parts.items() if found}
    gradients = {layer.name: layer.weight.grad for layer in net.synapses if layer.weight.grad is not None}
    return errors, gradients


@contextmanager
def gradients_kept(net: Net) -> Iterator[None]:
    before = [(p, p.grad) for p in net.parameters()]
    try:
        yield
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient
            take_coincidences(parameter)


def _cosine(a: Tensor, b: Tensor) -> float | None:
    a, b = a.detach().flatten().double(), b.detach().flatten().double()
    norms = float(a.norm() * b.norm())
    return float(a @ b) / norms if norms > 0.0 and math.isfinite(norms) else None
