"""What adoption refuses, what it gives back, and how it sits in a user's own loop."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from adoption_parts import BATCH, adopted, batch, cross_entropy, each_model, gradients, model_of, plain, run, sites_of
from torch import Tensor, nn

import aplysia
from aplysia.adoption.call import Call
from aplysia.adoption.calls.linear import AllToAll
from aplysia.errors import PairError, RunError
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net
from aplysia.nets.noise import Noise
from aplysia.neurons.lif import LIF
from aplysia.ops.geometry import Dense

RULES = {
    "symmetric": aplysia.rules.Symmetric,
    "frozen": lambda: aplysia.rules.FrozenBackprop(interval=2),
    "OPZO": lambda: aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.2)),
    "DKP": aplysia.rules.DirectKolenPollack,
}
each_rule = pytest.mark.parametrize("rule", RULES)


class Odd(nn.Module):
    """Three ways of using weights that we do not know, among one that we do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 6)
        self.mixed = nn.Bilinear(6, 6, 5)
        self.memory = nn.LSTM(5, 4, batch_first=True)
        self.own = nn.Parameter(torch.randn(4, 3) / 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.fc(x))
        y, _ = self.memory(self.mixed(y, y).unsqueeze(1))
        return torch.matmul(y[:, 0], self.own)


class Matmul(aplysia.AbstractCall):
    """y = x·W, the weight stored the other way round than in a linear layer."""

    functions: ClassVar[tuple[Callable[..., Any], ...]] = (torch.matmul,)

    def read(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        drive, weight = args
        return Call(drive, weight, None, Turned(), axes=1)


class Turned(AllToAll):
    """`[M, N]` in place of `[N, M]`."""

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return drive @ weight

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        return (delta @ feedback.t()).view(drive_shape)

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        return pre.t() @ delta


def odd_batch() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(5)
    return torch.randn(7, 6, generator=source), torch.randint(0, 3, (7,), generator=source)


def adopt_odd(model: nn.Module, **options: Any) -> Any:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = nn.functional.cross_entropy
    rule = aplysia.rules.FrozenBackprop(interval=1)
    return aplysia.adopt(model, rule, optimiser=optimiser, loss=loss, example=odd_batch(), **options)


def test_one_error_names_every_leftover_and_both_ways_out() -> None:
    with pytest.raises(PairError) as caught:
        adopt_odd(Odd())
    said = str(caught.value)
    for part in (
        "mixed (Bilinear): weight (5, 6, 6)",
        "memory (LSTM): weight_ih_l0 (16, 5)",
        "own (4, 3)",
        "bias_hh_l0 (16,)",
    ):
        assert part in said, part
    assert "fc" not in said
    assert re.search(r'leave=\([^)]*"own"[^)]*\)', said)
    assert re.search(r'leave=\([^)]*"mixed"[^)]*"memory"[^)]*\)', said)
    assert "calls=(" in said
    assert "AbstractCall" in said
    assert "\n" not in said


def test_what_is_left_out_learns_by_plain_autograd_and_the_report_says_so() -> None:
    torch.manual_seed(0)
    model = Odd()
    twin = copy.deepcopy(model)
    learner = adopt_odd(model, leave=("mixed", "memory", "own"))
    x, y = odd_batch()
    record = learner.learn(x, y)
    out = twin(x)
    assert torch.equal(out, record.output)
    nn.functional.cross_entropy(out, y).backward()
    for key, gradient in gradients(twin).items():
        assert torch.allclose(gradients(model)[key], gradient, rtol=1e-6, atol=1e-9), key
    text = str(learner.report)
    assert text.count("left to plain autograd, as asked") == 3
    assert "words of feedback" not in text


def test_a_call_of_one_s_own_makes_a_weight_swappable() -> None:
    torch.manual_seed(0)
    model = Odd()
    twin = copy.deepcopy(model)
    learner = adopt_odd(model, leave=("mixed", "memory"), calls=(Matmul(),))
    assert [weight.name for weight in learner.net.fed_back] == ["own"]
    x, y = odd_batch()
    learner.learn(x, y)
    nn.functional.cross_entropy(twin(x), y).backward()
    for key, gradient in gradients(twin).items():
        assert torch.allclose(gradients(model)[key], gradient, rtol=1e-6, atol=1e-9), key
    learner.rule.tensors["own"].zero_()
    model.zero_grad()
    learner.learn(x, y)
    assert not gradients(model)["fc.weight"].any()
    assert gradients(model)["own"].any()


def test_models_of_ours_and_compiled_ones_are_refused() -> None:
    net = Net([Layer("one", Dense(), (6,), (3, 6), LIF())], seed=5)
    compiled = torch.compile(nn.Sequential(nn.Linear(6, 3)), backend="eager")
    for model, said in ((compiled, "adopt the model that was compiled"), (net, "use aplysia.Learner")):
        with pytest.raises(PairError, match=said):
            aplysia.adopt(
                model,
                aplysia.rules.Symmetric(),
                optimiser=torch.optim.SGD(model.parameters(), lr=0.1),
                loss=nn.functional.cross_entropy,
                example=odd_batch(),
            )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"at": ("lif9",)}, r"adopt\(at=…\): expected names of modules .* got lif9"),
        ({"at": ("lif3",)}, "runs before the readout, fc3"),
        ({"leave": ("fc9",)}, r"adopt\(leave=…\)"),
        ({"readout": "lif1"}, "a module with weights, of fc1, fc2, fc3"),
        ({"leave": ("fc1", "fc2", "fc3")}, "forward met none"),
    ],
)
def test_names_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(PairError, match=said):
        adopted(model_of("snntorch"), aplysia.rules.DirectFeedback(), **options)


def test_sites_have_to_be_named_where_no_library_is_known() -> None:
    with pytest.raises(PairError, match=r"hidden spiking modules of a library we know .* at=\("):
        adopted(model_of("torch"), aplysia.rules.DirectFeedback(), at=())


def test_a_loss_that_is_no_number_is_refused() -> None:
    model = model_of("torch")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for loss in (lambda out, y: out, lambda out, y: 1.0, lambda out, y: torch.ones(())):
        with pytest.raises(PairError, match="one number that depends on the model's parameters"):
            aplysia.adopt(
                model, aplysia.rules.Symmetric(), optimiser=optimiser, loss=loss, example=batch(), forward=run
            )


@each_rule
@each_model
def test_released_it_is_the_model_it_was(name: str, rule: str) -> None:
    model = model_of(name)
    keys, modules = list(model.state_dict()), dict(model.named_modules())
    learner = adopted(model, RULES[rule]())
    groups = len(learner.optimiser.param_groups)
    learner.update(*batch())
    released = learner.release()
    assert released is model
    assert list(model.state_dict()) == keys
    assert all(module is modules[key] for key, module in model.named_modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert groups - len(learner.optimiser.param_groups) == (rule == "DKP")
    with pytest.raises(PairError, match="adopt it again"):
        learner.learn(*batch())
    twin = model_of(name)
    twin.load_state_dict(model.state_dict())
    x, y = batch(4)
    out, expected = plain(twin, x, y)
    got, found = plain(model, x, y)
    assert torch.equal(out, got)
    assert all(torch.equal(found[key], gradient) for key, gradient in expected.items())


@each_rule
def test_an_error_in_the_user_s_forward_leaves_nothing_behind(rule: str) -> None:
    model = model_of("torch")
    broken = False

    def forward(model: nn.Module, x: Tensor) -> Tensor:
        out = run(model, x)
        if broken:
            raise ZeroDivisionError
        return out

    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    parts = {
        "optimiser": optimiser,
        "loss": cross_entropy,
        "example": batch(),
        "forward": forward,
        "at": sites_of(model),
    }
    learner = aplysia.adopt(model, RULES[rule](), **parts)
    broken = True
    with pytest.raises(ZeroDivisionError):
        learner.learn(*batch())
    assert not any(module._forward_hooks for module in model.modules())
    assert type(model.fc1(torch.ones(20)).grad_fn).__name__ == type(nn.Linear(20, 3)(torch.ones(20)).grad_fn).__name__


@each_rule
@each_model
def test_going_on_from_a_state_is_going_on(name: str, rule: str) -> None:
    whole = adopted(model_of(name), RULES[rule]())
    for step in range(6):
        whole.update(*batch(step))
    first = adopted(model_of(name), RULES[rule]())
    for step in range(3):
        first.update(*batch(step))
    model = model_of(name, seed=11)
    model.load_state_dict(first.release().state_dict())
    second = adopted(model, RULES[rule]())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in range(3, 6):
        second.update(*batch(step))
    expected, got = whole.release().state_dict(), second.release().state_dict()
    assert all(torch.equal(tensor, got[key]) for key, tensor in expected.items())
    assert whole.cost == second.cost


def test_a_state_of_something_else_is_refused() -> None:
    learner = adopted(model_of("torch"), aplysia.rules.DirectFeedback())
    with pytest.raises(RunError, match="the learner's own state"):
        learner.load_state_dict(learner.release().state_dict())
    other = adopted(model_of("torch"), aplysia.rules.DirectFeedback(), at=("spike1",))
    with pytest.raises(PairError, match="saved tensors"):
        learner.load_state_dict(other.state_dict())


@pytest.mark.parametrize("rule", ["symmetric", "frozen", "DKP"])
def test_gradients_of_several_batches_add_up(rule: str) -> None:
    single = []
    for seed in (0, 1):
        alone = adopted(model_of("torch"), RULES[rule]())
        alone.learn(*batch(seed))
        single.append(gradients(alone.release()))
    learner = adopted(model_of("torch"), RULES[rule]())
    learner.learn(*batch(0))
    learner.learn(*batch(1))
    for key, gradient in gradients(learner.release()).items():
        assert torch.allclose(gradient, single[0][key] + single[1][key], rtol=1e-5, atol=1e-8), key


def test_batches_of_one_optimiser_step_meet_different_noise() -> None:
    learner = adopted(model_of("torch"), aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.2)), lr=0.0)
    x, y = batch()
    outs = [learner.learn(x, y).output, learner.learn(x, y).output]
    learner.after()
    outs.append(learner.learn(x, y).output)
    again = adopted(model_of("torch"), aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.2)), lr=0.0)
    assert torch.equal(again.learn(x, y).output, outs[0])
    assert not torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])
    assert not torch.equal(outs[1], outs[2])


@each_model
def test_under_autocast_values_are_the_model_s_own(name: str) -> None:
    x, y = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, expected = plain(model_of(name), x, y)
        model = model_of(name)
        record = adopted(model, aplysia.rules.Symmetric()).learn(x, y)
    assert torch.equal(out, record.output)
    for key, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32
        # Eight bits of mantissa, and sums over time in another order.
        assert float((gradient - expected[key]).norm()) < 0.02 * float(expected[key].norm()), key


def test_a_batch_of_another_size_and_clipping() -> None:
    learner = adopted(model_of("snntorch"), aplysia.rules.DirectFeedback(), clip=1e-3)
    start = [p.detach().clone() for p in learner.release().parameters()]
    learner = adopted(model_of("snntorch"), aplysia.rules.DirectFeedback(), clip=1e-3)
    x, y = batch()
    learner.update(x[:, : BATCH // 2], y[: BATCH // 2])
    moved = torch.stack([(p - q).detach().norm() for p, q in zip(learner.release().parameters(), start, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.1 * 1e-3, rel=1e-3)


def test_a_batch_whose_targets_do_not_fit_is_named() -> None:
    learner = adopted(model_of("snntorch"), aplysia.rules.DirectFeedback())
    x, y = batch()
    with pytest.raises(PairError, match="adopted module lif1: expected 5 samples"):
        learner.learn(x, y[:5])


def test_the_report_has_a_row_for_every_module() -> None:
    text = str(adopted(model_of("snntorch"), aplysia.rules.DirectFeedback()).report)
    for line in (
        "fc1",
        "lif1",
        "fc2",
        "lif2",
        "fc3",
        "readout, by its exact gradient",
        "cut here, its error is planted",
    ):
        assert line in text, line
    assert "plain autograd inside the neuron" in text
