"""Recipe, schedules, optimisers, learner and health: each small part against what it says of itself."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch

import aplysia
from aplysia.credit.loss import MeanOutputLoss, StepwiseLoss
from aplysia.credit.seen import error_by_autograd
from aplysia.credit.temporal.online import EveryStep
from aplysia.credit.temporal.trace import Trace
from aplysia.errors import AplysiaError, PairError, RecipeError, TrainingError
from aplysia.recipes import find, recipes
from aplysia.train.codec import decode, encode, override
from aplysia.train.health import check_finite, silent_layers
from aplysia.train.optimise import SGD, Adam, AdamW, Constant, Cosine, Step
from aplysia.train.recipe import AXES, Recipe
from aplysia.types import Cost, Held


def batch(seed: int = 0) -> tuple[Held, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return Held(torch.rand(8, 6, generator=source) * 3, 4), torch.randint(0, 3, (8,), generator=source)


def net() -> aplysia.Net:
    return aplysia.mlp(6, [12, 12], 3, seed=3)


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_shipped_recipe_is_called_as_its_function_and_survives_json(name: str) -> None:
    recipe = recipes()[name]()
    assert recipe.name == name
    assert decode(Recipe, encode(recipe, AXES), AXES) == recipe


@pytest.mark.parametrize("name", sorted(recipes()))
def test_every_field_of_a_recipe_can_be_written_down(name: str) -> None:
    assert encode(recipes()[name](), AXES).keys() == {f.name for f in fields(Recipe)}


def test_settings_reach_the_parts_in_any_order() -> None:
    for order in (1, -1):
        settings = ["rule=direct_feedback", "rule.scale=0.5", "neuron.reset=hard", "temporal.update=every_step"][
            ::order
        ]
        recipe = override(find("digits-mlp"), settings, AXES)
        assert recipe.rule == aplysia.rules.DirectFeedback(scale=0.5)
        assert encode(recipe, AXES)["neuron"]["reset"]["kind"] == "hard"
        assert isinstance(recipe.temporal, Trace)
        assert isinstance(recipe.temporal.update, EveryStep)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("epochs", -1),
        ("validation", 1.0),
        ("dropout", 1.0),
        ("gain", 0.0),
        ("clip", 0.0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_refused_by_key(key: str, value: float) -> None:
    with pytest.raises(RecipeError, match=f"^{key}: expected"):
        replace(find("digits-mlp"), **{key: value})


def test_schedules() -> None:
    assert [Constant().factor(e, 4) for e in range(4)] == [1.0] * 4
    assert [Cosine().factor(e, 4) for e in (0, 2)] == pytest.approx([1.0, 0.5])
    assert Cosine(floor=0.2).factor(4, 4) == pytest.approx(0.2)
    assert [Step().factor(e, 100) for e in (0, 49, 50, 74, 75)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("settings", [SGD(lr=0.3, momentum=0.5), Adam(lr=0.02), AdamW(lr=0.02, weight_decay=0.1)])
def test_optimisers_get_their_settings(settings: SGD | Adam | AdamW) -> None:
    built = settings.build([torch.nn.Parameter(torch.ones(2))])
    assert type(built).__name__ == type(settings).__name__
    for key in ("lr", "weight_decay"):
        assert built.param_groups[0][key] == getattr(settings, key)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_layer_may_begin_to_learn_later_than_others(nesterov: bool) -> None:
    """As under a feedback that warms up; with momentum it does what torch's own unfused steps do."""
    source = torch.Generator().manual_seed(3)
    ours = [torch.nn.Parameter(torch.randn(5, generator=source)) for _ in range(2)]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    fused = SGD(lr=0.1, nesterov=nesterov).build(ours)
    plain = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, nesterov=nesterov, fused=False, foreach=False)
    for step in range(4):
        for place, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            gradient = torch.randn(5, generator=source) if place == 0 or step > 1 else None
            a.grad, b.grad = gradient, None if gradient is None else gradient.clone()
        fused.step()
        plain.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_update_is_learn_step_after() -> None:
    x, y = batch()
    nets = [net(), net()]
    optimisers = [torch.optim.SGD(n.parameters(), lr=0.1) for n in nets]
    first, second = (
        aplysia.Learner(n, rule=aplysia.rules.FeedbackAlignment(), optimiser=o, seed=1)
        for n, o in zip(nets, optimisers, strict=True)
    )
    for _ in range(3):
        first.update(x, y)
        second.learn(x, y)
        optimisers[1].step()
        second.after()
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    assert not torch.equal(nets[0].readout.weight, net().readout.weight)
    assert first.steps == 3


def test_clipping_bounds_the_step() -> None:
    x, y = batch()
    trained = net()
    before = [p.detach().clone() for p in trained.parameters()]
    learner = aplysia.Learner(
        trained, rule=aplysia.rules.Symmetric(), optimiser=torch.optim.SGD(trained.parameters(), lr=1.0), clip=1e-3
    )
    learner.update(x, y)
    moved = math.sqrt(
        sum(float((p.detach() - b).square().sum()) for p, b in zip(trained.parameters(), before, strict=True))
    )
    assert 0.5e-3 < moved <= 1.001e-3


def test_the_cost_adds_up() -> None:
    x, y = batch()
    trained = net()
    learner = aplysia.Learner(
        trained, rule=aplysia.rules.Symmetric(), optimiser=torch.optim.SGD(trained.parameters(), lr=0.1)
    )
    for _ in range(5):
        learner.update(x, y)
    words = 5 * (12 * 12 + 3 * 12)
    assert learner.cost == Cost(events=5, words=words, bits=32 * words, writes=words)
    assert (Cost(words=None) + Cost(words=3)).words is None


@pytest.mark.parametrize(
    "temporal", [aplysia.temporal.Trace(), aplysia.temporal.Traceless(), aplysia.temporal.ThroughTime(truncation=2)]
)
def test_a_loss_known_only_at_the_end_is_refused_online(temporal: aplysia.AbstractTemporal) -> None:
    trained = net()
    with pytest.raises(PairError, match="known only at the end"):
        aplysia.Learner(
            trained,
            rule=aplysia.rules.Symmetric(),
            optimiser=torch.optim.SGD(trained.parameters(), lr=0.1),
            temporal=temporal,
            loss=MeanOutputLoss(),
        )


def test_the_stepwise_loss_is_what_its_docstring_says() -> None:
    source = torch.Generator().manual_seed(0)
    out = torch.randn(3, 5, 4, generator=source, dtype=torch.float64)
    y = torch.tensor([0, 3, 1, 1, 2])
    c, total = 0.3, 0.0
    for t in range(3):
        for b in range(5):
            o = out[t, b]
            ce = -float(o[y[b]]) + math.log(float(o.exp().sum()))
            mse = sum((float(o[k]) - (k == int(y[b]))) ** 2 for k in range(4)) / 4
            total += ((1 - c) * ce + c * mse) / 3 / 5
    assert float(StepwiseLoss(mse_share=c).value(out, y, 3)) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_closed_form_of_the_error_is_autograds(share: float) -> None:
    source = torch.Generator().manual_seed(0)
    out = torch.randn(3, 5, 4, generator=source, dtype=torch.float64) * 3
    y = torch.tensor([0, 3, 1, 1, 2])
    loss = StepwiseLoss(mse_share=share)
    (value, error), (want, derivative) = loss.error(out, y, 7), error_by_autograd(loss, out, y, 7)
    torch.testing.assert_close(value, want, rtol=1e-12, atol=0)
    torch.testing.assert_close(error, derivative, rtol=1e-12, atol=1e-16)
    assert float(derivative.abs().max()) > 1e-3


def test_nan_weights_are_named_even_when_the_loss_is_fine() -> None:
    broken = net()
    with torch.no_grad():
        broken.all[1].weight[0, 0] = float("nan")
    x, y = batch()
    loss = StepwiseLoss().value(broken(x).outs[-1], y, 4)
    assert bool(loss.isfinite())  # a unit whose membrane is NaN just falls silent
    with pytest.raises(TrainingError, match=r"layer dense2, here: expected finite values in its weight"):
        check_finite(broken, loss, "here")
    check_finite(net(), torch.zeros(()), "here")


def test_silence_is_told_by_layer() -> None:
    said = silent_layers(net(), {"dense1": 0.2, "dense2": 0.0049})
    assert len(said) == 1
    assert said[0].startswith("layer dense2 is silent")


def test_errors_are_one_sentence() -> None:
    error = AplysiaError("here", expected="a", got="b", fix="do c")
    assert str(error) == "here: expected a, got b; do c."
