"""Rules that send errors down layer by layer, on models of four libraries."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from adoption_parts import (
    adopted,
    batch,
    cross_entropy,
    each_model,
    gradients,
    hidden_names,
    model_of,
    plain,
    quiet,
    run,
    spiking_rates,
)
from torch import Tensor, nn

import aplysia
from aplysia.credit.contract import AbstractChained, AbstractSpatial

CHAINED = [rule for rule in map(aplysia.rules.__dict__.get, aplysia.rules.__all__) if issubclass(rule, AbstractChained)]


@each_model
def test_symmetric_is_the_library_s_own_backpropagation(name: str) -> None:
    model = model_of(name)
    x, y = batch()
    assert all(0.02 < rate < 0.95 for rate in spiking_rates(model, x, hidden_names(model)))
    out, expected = plain(model, x, y)
    learner = adopted(model, aplysia.rules.Symmetric())
    record = learner.learn(x, y)
    assert torch.equal(record.output, out)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        assert float(gradient.abs().max()) > 0.0, key
        assert float((found[key] - gradient).norm()) <= 1e-6 * float(gradient.norm()), key


@each_model
def test_frozen_at_interval_1_is_the_library_s_own_backpropagation(name: str) -> None:
    ours, theirs = model_of(name), model_of(name)
    learner = adopted(ours, aplysia.rules.FrozenBackprop(interval=1))
    optimiser = torch.optim.SGD(theirs.parameters(), lr=0.1)
    for step in range(4):
        x, y = batch(step)
        learner.update(x, y)
        cross_entropy(run(theirs, x), y).backward()
        optimiser.step()
        optimiser.zero_grad()
    start = model_of(name).state_dict()
    for key, weight in theirs.state_dict().items():
        assert torch.allclose(ours.state_dict()[key], weight, rtol=1e-6, atol=1e-7), key
        assert "weight" not in key or not torch.equal(weight, start[key]), key


@each_model
def test_fixed_feedback_is_what_a_model_with_other_weights_on_the_way_back_gives(name: str) -> None:
    """The oracle runs plain autograd, with each product's value from W and its derivative from B."""
    model = model_of(name)
    x, y = batch()
    learner = adopted(model, aplysia.rules.FeedbackAlignment(scale=1.5))
    feedback = {key: tensor.clone() for key, tensor in learner.rule.tensors.items()}
    assert len(feedback) == 2

    class Crossed(nn.Module):
        def __init__(self, inner: nn.Linear, back: Tensor) -> None:
            super().__init__()
            self.inner, self.back = inner, back

        def forward(self, below: Tensor) -> Tensor:
            value = nn.functional.linear(below.detach(), self.inner.weight, self.inner.bias)
            error = nn.functional.linear(below, self.back)
            return value + error - error.detach()

    twin = copy.deepcopy(model)
    for key, back in feedback.items():
        parent, _, last = key.rpartition(".")
        setattr(twin.get_submodule(parent), last, Crossed(twin.get_submodule(key), back))  # type: ignore[arg-type]
        if isinstance(twin, nn.Sequential):
            twin[int(last)].step_mode = getattr(model[0], "step_mode", "s")
    cross_entropy(run(twin, x), y).backward()
    expected = {key.replace(".inner", ""): g for key, g in gradients(twin).items()}
    learner.learn(x, y)
    found = gradients(model)
    _, symmetric = plain(model, x, y)
    for key, gradient in expected.items():
        assert float((found[key] - gradient).norm()) <= 2e-6 * float(gradient.norm()), key
    differs = [key for key in expected if not torch.allclose(symmetric[key], expected[key], rtol=1e-3)]
    assert len(differs) >= 3


@pytest.mark.parametrize("kind", CHAINED, ids=lambda kind: kind.__name__)
@each_model
def test_every_chained_rule_learns(name: str, kind: type[AbstractSpatial]) -> None:
    model = model_of(name)
    learner = adopted(model, kind(), lr=0.3)
    x, y = batch()
    losses = [float(learner.update(x, y).loss) for _ in range(60)]
    assert losses[-1] < 0.8 * losses[0]
    fed = learner.net.fed_back
    assert [layer.weight.shape[0] for layer in fed] == [16, 4]


def test_words_are_counted_as_in_a_net_of_ours() -> None:
    learner = adopted(model_of("snntorch"), aplysia.rules.FrozenBackprop(interval=2))
    for step in range(4):
        learner.update(*batch(step))
    assert learner.cost.words == 2 * (24 * 16 + 16 * 4)
    assert learner.steps == 4


def test_convolutions_of_all_kinds_and_batch_norm() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(2, 6, 3, stride=2, padding=1, bias=False)
            self.norm = nn.BatchNorm2d(6)
            self.b = nn.Conv2d(6, 8, (3, 1), padding="same", dilation=(2, 1), groups=2)
            self.c = nn.Conv1d(8, 4, 3, padding="valid")
            self.d = nn.Conv3d(1, 2, 2)
            self.e = nn.Linear(2 * 3 * 13, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.tanh(self.norm(self.a(x)))
            x = torch.tanh(self.b(x)).flatten(2)
            x = torch.tanh(self.c(x))
            x = torch.tanh(self.d(x.unsqueeze(1).unsqueeze(-1).expand(-1, -1, -1, -1, 2)))
            return self.e(x.flatten(1))

    torch.manual_seed(0)
    model = Model()
    x, y = torch.randn(5, 2, 8, 8), torch.randint(0, 4, (5,))
    ours = copy.deepcopy(model)
    optimiser = torch.optim.SGD(ours.parameters(), lr=0.1)
    loss = nn.functional.cross_entropy
    learner = aplysia.adopt(
        ours, aplysia.rules.FrozenBackprop(interval=1), optimiser=optimiser, loss=loss, example=(x, y)
    )
    assert [layer.name for layer in learner.net.fed_back] == ["b", "c", "d", "e"]
    record = learner.learn(x, y)
    out = model(x)
    assert torch.equal(out, record.output)
    loss(out, y).backward()
    found = gradients(ours)
    for key, p in model.named_parameters():
        assert torch.allclose(found[key], p.grad, rtol=1e-5, atol=1e-7), key
    assert torch.equal(ours.norm.running_mean, model.norm.running_mean)
    assert "norm" in str(learner.report)
    assert "errors pass its gain" in str(learner.report)


def test_recurrent_weights_are_swapped_too() -> None:
    with quiet():
        import snntorch as snn

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc1 = nn.Linear(20, 16)
                self.lif1 = snn.RLeaky(beta=0.6, threshold=0.3, linear_features=16)
                self.fc2 = nn.Linear(16, 4)

            def forward(self, x: Tensor) -> Tensor:
                spikes, potential = self.lif1.init_rleaky()
                outs = []
                for step in x:
                    spikes, potential = self.lif1(self.fc1(step), spikes, potential)
                    outs.append(self.fc2(spikes))
                return torch.stack(outs)

        torch.manual_seed(3)
        model = Model()
        x, y = batch()
        out, expected = plain(model, x, y)
        learner = adopted(model, aplysia.rules.FrozenBackprop(interval=1))
        assert [layer.name for layer in learner.net.fed_back] == ["lif1.recurrent", "fc2"]
        record = learner.learn(x, y)
        assert torch.equal(record.output, out)
        for key, gradient in expected.items():
            assert torch.allclose(gradients(model)[key], gradient, rtol=1e-5, atol=1e-8), key


def test_a_residual_join_is_the_library_s_own() -> None:
    with quiet():
        from spikingjelly.activation_based import functional, layer, neuron

        class Block(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.norm = layer.Conv2d(4, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4)
                self.lif = neuron.LIFNode(v_threshold=0.3)

            def forward(self, x: Tensor) -> Tensor:
                return self.lif(self.norm(self.conv(x))) + x

        def made() -> nn.Sequential:
            torch.manual_seed(3)
            stem = (layer.Conv2d(1, 4, 3, padding=1), neuron.LIFNode(v_threshold=0.05))
            model = nn.Sequential(*stem, Block(), Block(), layer.Flatten(), layer.Linear(4 * 6 * 6, 4))
            functional.set_step_mode(model, "m")
            return model

        def forward(model: nn.Module, x: Tensor) -> Tensor:
            functional.reset_net(model)
            return model(x.expand(5, *x.shape))

        source = torch.Generator().manual_seed(0)
        x, y = torch.rand(6, 1, 6, 6, generator=source), torch.randint(0, 4, (6,), generator=source)
        ours, theirs = made(), made()
        rates = _rates(theirs, x, forward)
        assert min(rates) > 0.02, rates
        theirs = made()
        out = forward(theirs, x)
        cross_entropy(out, y).backward()
        optimiser = torch.optim.SGD(ours.parameters(), lr=0.1)
        parts = {"optimiser": optimiser, "loss": cross_entropy, "example": (x, y), "forward": forward}
        learner = aplysia.adopt(ours, aplysia.rules.FrozenBackprop(interval=1), **parts)
        record = learner.learn(x, y)
    assert torch.equal(record.output, out)
    assert [weight.name for weight in learner.net.fed_back] == ["2.conv", "3.conv", "5"]
    for key, gradient in gradients(theirs).items():
        assert torch.allclose(gradients(ours)[key], gradient, rtol=1e-5, atol=1e-8), key
    assert torch.equal(ours[2].norm.running_mean, theirs[2].norm.running_mean)


def _rates(model: nn.Module, x: Tensor, forward: Callable[[nn.Module, Tensor], Tensor]) -> list[float]:
    rates: list[float] = []
    for name, module in model.named_modules():
        if name.endswith("lif") or name == "1":
            module.register_forward_hook(lambda module, args, output: rates.append(float(output.detach().mean())))
    forward(model, x)
    assert len(rates) == 3, rates
    return rates
