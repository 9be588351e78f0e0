"""Rules that plant errors at the sites, on models of four libraries."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adoption_parts import (
    BATCH,
    CLASSES,
    adopted,
    batch,
    cross_entropy,
    each_model,
    gradients,
    hidden_names,
    model_of,
    run,
)
from torch import Tensor, nn

import aplysia
from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.local import Readouts
from aplysia.errors import PairError
from aplysia.nets.noise import Noise

READOUT = {"Torch": "fc3", "Model": "fc3"}
RULES = {
    "DFA": lambda: aplysia.rules.DirectFeedback(scale=1.0),
    "DKP": lambda: aplysia.rules.DirectKolenPollack(scale=1.0),
    "LL": aplysia.rules.LocalLoss,
    "OPZO": lambda: aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.2)),
    "OPZO + LL": lambda: aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.2), local=Readouts()),
}


def outputs(model: nn.Module, x: Tensor, names: tuple[str, ...]) -> tuple[Tensor, list[Tensor]]:
    """What a plain run gives, and each named module's outputs, `[T, B, N]`, with their graph."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    handles = []
    for name in names:

        def hook(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            seen[name].append(output[0] if isinstance(output, tuple) else output)

        handles.append(model.get_submodule(name).register_forward_hook(hook))
    out = run(model, x)
    for handle in handles:
        handle.remove()
    return out, [torch.cat(outs).view(len(x), BATCH, -1) for outs in seen.values()]


@each_model
def test_direct_feedback_is_what_plain_autograd_gives_for_the_same_errors(name: str) -> None:
    """The oracle leaves the graph whole: each segment's gradient is asked for by itself."""
    model, twin = model_of(name), model_of(name)
    x, y = batch()
    learner = adopted(model, aplysia.rules.DirectFeedback(scale=1.0))
    record = learner.learn(x, y)
    found = gradients(model)

    sites = hidden_names(twin)
    readout = READOUT.get(type(twin).__name__, "4")
    pieces: list[Tensor] = []
    handle = twin.get_submodule(readout).register_forward_hook(lambda module, args, output: pieces.append(output))
    out, outs = outputs(twin, x, sites)
    handle.remove()
    assert torch.equal(out, record.output)
    loss = cross_entropy(out, y)
    error = torch.cat(torch.autograd.grad(loss, pieces, retain_graph=True)).view(len(x), BATCH, CLASSES)
    modules = list(dict(twin.named_modules()))
    segments = [
        modules[: modules.index(sites[0]) + 1],
        modules[modules.index(sites[0]) + 1 : modules.index(sites[1]) + 1],
    ]
    assert list(learner.rule.tensors) == list(sites)
    for site, segment, sent in zip(sites, segments, outs, strict=True):
        seeds = error @ learner.rule.tensors[site]
        for key, p in twin.named_parameters():
            if key.rpartition(".")[0] in segment:
                (gradient,) = torch.autograd.grad(sent, p, seeds.view_as(sent), retain_graph=True)
                assert float(gradient.norm()) > 0.0, key
                assert float((found.pop(key) - gradient).norm()) <= 1e-6 * float(gradient.norm()), key
    for key, p in twin.named_parameters():
        if key in found:
            (gradient,) = torch.autograd.grad(loss, p, retain_graph=True)
            assert float((found.pop(key) - gradient).norm()) <= 1e-6 * float(gradient.norm()), key
    assert not found


@pytest.mark.parametrize("rule", RULES)
@each_model
def test_every_rule_learns_and_every_hidden_layer_moves(name: str, rule: str) -> None:
    model = model_of(name)
    start = {key: p.detach().clone() for key, p in model.named_parameters()}
    learner = adopted(model, RULES[rule](), lr=0.1)
    x, y = batch()
    losses = [float(learner.update(x, y).loss) for _ in range(120)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    for key, p in model.named_parameters():
        if p.ndim > 1:
            assert not torch.equal(p, start[key]), key


@each_model
def test_without_noise_the_forward_pass_is_the_model_s_own_bit_for_bit(name: str) -> None:
    model = model_of(name)
    x, y = batch()
    with torch.no_grad():
        clean = run(model, x)
    record = adopted(model, aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.0))).learn(x, y)
    assert torch.equal(record.output, clean)
    hidden = [g for key, g in gradients(model).items() if key in ("fc1.weight", "0.weight", "fc2.weight", "2.weight")]
    # M starts at zero and learns from noise alone.
    assert len(hidden) == 2
    assert not any(g.any() for g in hidden)


@each_model
def test_noise_is_there_while_it_learns_and_at_no_other_time(name: str) -> None:
    model = model_of(name)
    x, y = batch()
    with torch.no_grad():
        clean = run(model, x)
    learner = adopted(model, aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.2)))
    assert not torch.allclose(learner.learn(x, y).output, clean, rtol=1e-3)
    with torch.no_grad():
        assert torch.equal(run(model, x), clean)


@pytest.mark.parametrize("rule", RULES)
def test_steps_one_by_one_and_a_whole_sequence_learn_the_same(rule: str) -> None:
    found = []
    for name in ("spikingjelly, steps", "spikingjelly, sequence"):
        model = model_of(name)
        learner = adopted(model, RULES[rule]())
        for step in range(3):
            learner.update(*batch(step))
        found.append({key: p.detach() for key, p in model.named_parameters()} | learner.rule.tensors)
    assert found[0].keys() == found[1].keys()
    for key, tensor in found[0].items():
        assert torch.allclose(tensor, found[1][key], rtol=1e-4, atol=1e-6), key


def test_the_feedback_learnt_from_noise_is_the_weight_above() -> None:
    """For a linear way from the site to the readout, E[õ zᵀ]/α is that very matrix."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.site, self.fc2 = nn.Linear(20, 16), nn.Identity(), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc2(self.site(self.fc1(x)))

    torch.manual_seed(0)
    model = Linear()
    source = torch.Generator().manual_seed(1)
    x, y = torch.randn(256, 20, generator=source), torch.randint(0, 4, (256,), generator=source)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.0)
    rule = aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=1.0, antithetic=False))
    loss = nn.functional.cross_entropy
    learner = aplysia.adopt(model, rule, optimiser=optimiser, loss=loss, example=(x, y), at=("site",))
    for _ in range(600):
        learner.update(x, y)
    learnt, weight = rule.tensors["site"], model.fc2.weight.detach()
    # Each entry of M is a mean over about B·(1 + λ)/(1 − λ) products of variance near E[õ²]: six such errors.
    momentum = rule.feedback.momentum
    samples = 256 * (1 + momentum) / (1 - momentum)
    assert samples > 10_000
    spread = (learner.learn(x, y).output.square().mean() / samples).sqrt()
    corrected = learnt / (1 - momentum**600)
    assert float((corrected - weight).abs().max()) < 6 * float(spread)
    assert float(weight.abs().max()) > 20 * float(spread)


def test_local_losses_can_be_laid_beside_a_chained_rule() -> None:
    model, alone = model_of("snntorch"), model_of("snntorch")
    x, y = batch()
    adopted(model, aplysia.rules.Symmetric(local=Readouts())).learn(x, y)
    adopted(alone, aplysia.rules.Symmetric()).learn(x, y)
    with_it, without = gradients(model), gradients(alone)
    assert torch.equal(with_it["fc3.weight"], without["fc3.weight"])
    assert not torch.allclose(with_it["fc1.weight"], without["fc1.weight"], rtol=1e-2)


def test_named_sites_are_the_only_ones() -> None:
    learner = adopted(model_of("snntorch"), aplysia.rules.DirectFeedback(), at=("lif2",))
    assert list(learner.rule.tensors) == ["lif2"]
    x, y = batch()
    learner.learn(x, y)
    # Both lower layers are one segment, which runs on plain autograd.
    twin = model_of("snntorch")
    pieces: list[Tensor] = []
    twin.fc3.register_forward_hook(lambda module, args, output: pieces.append(output))
    out, (sent,) = outputs(twin, x, ("lif2",))
    loss = cross_entropy(out, y)
    error = torch.stack(torch.autograd.grad(loss, pieces, retain_graph=True))
    (gradient,) = torch.autograd.grad(sent, twin.fc1.weight, error @ learner.rule.tensors["lif2"])
    found = gradients(learner.release())["fc1.weight"]
    assert float((found - gradient).norm()) <= 1e-6 * float(gradient.norm()) > 0.0


@pytest.mark.parametrize("kind", [aplysia.rules.ForwardGradient, aplysia.rules.ZerothOrder])
def test_rules_that_need_the_inside_of_neurons_or_losses_are_refused(kind: type[AbstractSpatial]) -> None:
    with pytest.raises(PairError, match=f"adopt, rule {kind.__name__}: expected a rule .*PseudoZerothOrder"):
        adopted(model_of("snntorch"), kind())


@pytest.mark.parametrize("rule", RULES)
@each_model
def test_under_autocast_they_learn_and_remember_in_float32(name: str, rule: str) -> None:
    model = model_of(name)
    learner = adopted(model, RULES[rule]())
    for step in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            learner.learn(*batch(step))
        assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients(model).values())
        learner.optimiser.step()
        learner.after()
    assert all(t.dtype == torch.float32 for t in learner.rule.tensors.values() if t.is_floating_point())
