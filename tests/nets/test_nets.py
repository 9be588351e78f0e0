"""A net owns its numbers: no state between calls, none shared between nets, masks for a whole sequence, one seed."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import ClassVar

import pytest
import torch
from helpers import CASES, DENSE, Case, assert_alive, each_case, expanded
from torch import Tensor

from aplysia.errors import DataError, RecipeError
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net, chunks, steps_of
from aplysia.nets.route import Route
from aplysia.nets.zoo import build
from aplysia.neurons.base import AbstractStepped, State
from aplysia.neurons.lif import LIF
from aplysia.ops.geometry import Dense
from aplysia.types import Held


def test_two_layers_of_one_name_are_refused() -> None:
    layer = build("F4-F3", (5,)).all[0]
    with pytest.raises(RecipeError, match="different names"):
        Net([layer, layer])


def test_running_one_net_never_changes_another() -> None:
    a, b = DENSE.net(seed=3), DENSE.net(seed=4)
    x, _ = DENSE.input()
    assert_alive(a, x)
    alone = [out.clone() for out in a(x[3:], a(x[:3]).states).outs]
    half = a(x[:3])
    b(x)
    b.predict(x)
    copy.deepcopy(a)(x)
    assert all(torch.equal(p, q) for p, q in zip(alone, a(x[3:], half.states).outs, strict=True))


@each_case
def test_a_call_leaves_nothing_behind(case: Case) -> None:
    net, (x, _) = case.net(), case.input()
    assert_alive(net, x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    first = net(x).outs
    other, _ = case.input(steps=4, batch=5, seed=9)
    net(other)
    second = net(x).outs
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(net.state_dict()[name], before[name]) for name in before)


def test_states_handed_in_are_not_written_to() -> None:
    net, (x, _) = DENSE.net(), DENSE.input()
    half = net(x[:3])
    kept = [state.neuron[0].clone() for state in half.states]
    net(x[3:], half.states)
    assert all(torch.equal(state.neuron[0], k) for state, k in zip(half.states, kept, strict=True))


def test_a_net_that_is_let_go_is_collected() -> None:
    """No list of nets, layers or neurons is kept anywhere."""
    net, (x, target) = DENSE.net(), DENSE.input()
    done = net(x)
    torch.nn.functional.cross_entropy(done.outs[-1].mean(0), target).backward()
    refs = [
        weakref.ref(net),
        *(weakref.ref(layer) for layer in net.all),
        *(weakref.ref(layer.weight) for layer in net.all),
    ]
    del net, done
    gc.collect()
    assert [ref() for ref in refs] == [None] * len(refs)


@each_case
def test_a_held_input_equals_the_same_input_written_out(case: Case) -> None:
    net, (x, _) = case.net(), case.input()
    held = x if isinstance(x, Held) else Held(x[0], 7)
    assert_alive(net, held)
    for a, b in zip(net(held).outs, net(expanded(held)).outs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_chunks_cover_the_input_once() -> None:
    x = torch.arange(11)
    for size in (1, 3, 11, 20):
        assert torch.equal(torch.cat(list(chunks(x, size))), x)  # type: ignore[arg-type]
        held = list(chunks(Held(x, 11), size))
        assert sum(steps_of(part) for part in held) == 11
        assert max(steps_of(part) for part in held) == min(size, 11)


def test_the_initial_weights_depend_on_seed_and_name_alone() -> None:
    a, b = build("F6-F5-F4", (3,), seed=1), build("F6-F5-F4", (3,), seed=1)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    torch.rand(3)
    assert torch.equal(build("F6-F5-F4", (3,), seed=1).all[1].weight, a.all[1].weight)
    other = build("F6-F5-F4", (3,), seed=2)
    assert not any(torch.equal(p.weight, q.weight) for p, q in zip(a.all, other.all, strict=True))
    # A layer's draw is its own: other layers, and their order, have no say.
    layers = [Layer(name, Dense(), (4,), (4, 4), LIF()) for name in ("one", "two", "three")]
    forward = Net(layers, seed=5)
    kept = {layer.name: layer.weight.detach().clone() for layer in forward.all}
    backward = Net([Layer(name, Dense(), (4,), (4, 4), LIF()) for name in ("three", "one", "two")], seed=5)
    assert all(torch.equal(layer.weight, kept[layer.name]) for layer in backward.all)
    assert not torch.equal(kept["one"], kept["two"])


def test_building_a_net_does_not_touch_the_process_wide_generator() -> None:
    state = torch.get_rng_state()
    build("F6-F4", (3,), seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_weights_have_the_stated_law() -> None:
    net = build("F400-F300-F10", (500,), seed=0)
    for layer, variance in zip(net.all, (2 / 500, 2 / 400, 1 / 300), strict=True):
        # The sample variance of n normal numbers has a relative standard error of √(2/n); six of them.
        n = layer.weight.numel()
        assert float(layer.weight.detach().var()) == pytest.approx(variance, rel=6 * (2 / n) ** 0.5)
        assert abs(float(layer.weight.detach().mean())) < 6 * (variance / n) ** 0.5
        assert layer.bias is not None
        assert not layer.bias.any()


def test_standardised_weights_have_mean_0_and_unit_norm_times_gain() -> None:
    net = build("F40-F4", (30,), standardise=True, seed=0).double()
    layer = net.all[0]
    assert net.readout.weight_gain is None
    with torch.no_grad():
        layer.weight.mul_(17.0).add_(3.0)
        layer.weight_gain.mul_(2.0)
    weight = layer.effective_weight()
    torch.testing.assert_close(weight.mean(1), torch.zeros(40, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(weight.var(1) * 30, torch.full((40,), 4.0, dtype=torch.float64), rtol=1e-5, atol=0)


# --- dropout ----------------------------------------------------------------------------------------------------------


def with_dropout(p: float) -> Net:
    net = DENSE.net()
    for layer in net.hidden:
        layer.dropout = p
    return net


def test_one_mask_silences_a_unit_for_the_whole_sequence() -> None:
    net, (x, _) = with_dropout(0.5), DENSE.input(steps=9)
    assert_alive(net, x)
    done = net(x, None, Route(generator=torch.Generator().manual_seed(1)))
    for out, state in zip(done.outs[:-1], done.states, strict=False):
        assert set(state.mask.unique().tolist()) == {0.0, 2.0}
        assert set(out.unique().tolist()) == {0.0, 2.0}
        assert not out[:, state.mask == 0].any()
        assert out[:, state.mask > 0].any()
    assert done.states[-1].mask is None


def test_a_mask_is_the_same_in_chunks_and_new_for_the_next_sequence() -> None:
    net, (x, _) = with_dropout(0.5), DENSE.input(steps=9)
    whole = net(x, None, Route(generator=torch.Generator().manual_seed(1)))
    source, states, parts = torch.Generator().manual_seed(1), None, []
    for part in x.split(2):
        done = net(part, states, Route(generator=source))
        states = done.states
        parts.append(done.outs[-1])
    torch.testing.assert_close(torch.cat(parts), whole.outs[-1], rtol=1e-12, atol=1e-12)
    again = net(x, None, Route(generator=source))
    assert not torch.equal(again.states[0].mask, whole.states[0].mask)


def test_without_a_generator_nothing_is_dropped() -> None:
    x, _ = DENSE.input()
    assert all(torch.equal(a, b) for a, b in zip(with_dropout(0.5)(x).outs, DENSE.net()(x).outs, strict=True))
    assert torch.equal(with_dropout(0.5).predict(x)[0], DENSE.net().predict(x)[0])


def test_dropout_keeps_the_mean_and_counts_true_spikes() -> None:
    """Over n = 4,000 masks the mean output of the first layer is that without dropout, within six standard errors."""
    net = with_dropout(0.3)
    one, _ = DENSE.input(steps=2, batch=1)
    x = one.expand(2, 4000, 10)
    plain, done = net(x), net(x, None, Route(generator=torch.Generator().manual_seed(1)))
    got, want = done.outs[0].mean(1), plain.outs[0].mean(1)
    assert want.any()
    assert (got - want).abs().max() < 6 * (0.3 / 0.7 / 4000) ** 0.5
    assert done.spikes[0] == plain.spikes[0]


# --- counts and refusals ----------------------------------------------------------------------------------------------


def test_spikes_are_counted_per_layer() -> None:
    net, (x, _) = (
        CASES["conv, soft, attached, average and max pool, groups, stride"].net(),
        None or CASES["conv, soft, attached, average and max pool, groups, stride"].input(),
    )
    assert_alive(net, x)
    done = net(x)
    for n, (layer, out) in enumerate(zip(net.all, done.outs, strict=True)):
        assert int(done.spikes[n]) == (int((out != 0).sum()) if layer.neuron.spiking else 0)
    chunked = net.predict(x, chunk=2)[1]
    assert torch.equal(chunked, done.spikes)


class AlwaysFires(AbstractStepped):
    """One 1 per unit and step, without the memory."""

    spiking: ClassVar[bool] = True
    summary: ClassVar[str] = "always fires"

    @property
    def decay(self) -> float:
        return 0.0

    def init(self, current: Tensor) -> State:
        return ()

    def scan(self, currents: Tensor, state: State, *, through_time: bool) -> tuple[Tensor, State]:
        return torch.ones(1).expand(currents.shape), state


def test_spike_counts_stay_exact_beyond_single_precision() -> None:
    """2²⁴ + 1 spikes cannot be held in single precision; the count is said to be an exact integer."""
    steps = (2**24 + 1) // 97
    assert 97 * steps == 2**24 + 1
    layer = Layer("only", Dense(), (1,), (97, 1), AlwaysFires(), bias=False)
    with torch.no_grad():
        layer.weight.zero_()
    _, _, counts = layer(Held(torch.zeros(1, 1), steps))
    assert int(counts.spikes) == 2**24 + 1


def test_an_input_that_does_not_fit_is_refused_in_one_sentence() -> None:
    net = DENSE.net()
    for bad in (torch.zeros(3, 2, 9), Held(torch.zeros(2, 9), 3), torch.zeros(3, 10)):
        with pytest.raises(DataError) as caught:
            net(bad)
        assert "\n" not in str(caught.value)
        assert "(10,)" in str(caught.value)
