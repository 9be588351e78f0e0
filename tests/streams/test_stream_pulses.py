"""Coincidence counts left for devices: equal to loops over steps, whole under bits, and what gradients are made of."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from helpers import gradients
from stream_parts import CONV, CONV_SHAPE, learnt, rates, stream_net
from torch import Tensor

from aplysia.credit.loss import WinnerLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.nets.net import Net
from aplysia.neurons.bitstream import Sigmoid
from aplysia.neurons.stream_memory import BlockMean
from aplysia.ops.coincidence import Coincidences, ask_for_coincidences, take_coincidences
from aplysia.ops.stream import AbstractEngine, Bits, Counts, Draws, Expect, Meeting, RankOne
from aplysia.types import Held


def asked(net: Net) -> Net:
    for parameter in net.parameters():
        ask_for_coincidences(parameter)
    return net


def taken(net: Net) -> dict[str, list[Coincidences]]:
    return {f"{layer.name}.{n}": take_coincidences(p) for layer in net.all for n, p in layer.named_parameters()}


Rows = dict[str, list[tuple[Tensor, Tensor]]]


def watched(monkeypatch: pytest.MonkeyPatch) -> Rows:
    """Each step's and sample's gradient spikes and pre-activity, by layer, as they meet at the synapse."""
    met: Rows = defaultdict(list)
    original = Bits.paired

    def watch(self: Bits, meeting: Meeting, unit: Tensor, draws: Draws) -> Tensor:
        met[str(draws.keys[-1])] += list(zip(meeting.delta.clone(), meeting.pre.clone(), strict=True))
        return original(self, meeting, unit, draws)

    monkeypatch.setattr(Bits, "paired", watch)
    return met


@pytest.mark.parametrize("chunk", [1, 5, 16])
def test_counts_equal_a_loop_over_steps_samples_and_cross_points(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    net, (x, target) = asked(stream_net("F7-F6-F4", (5,))), rates((5,), batch=3)
    seen = watched(monkeypatch)
    learnt(net, Held(x, 16), target, chunk=chunk)
    left = taken(net)
    for layer in net.all:
        (counted,), (biased,) = left[f"{layer.name}.weight"], left[f"{layer.name}.bias"]
        up, down = torch.zeros_like(counted.up), torch.zeros_like(counted.down)
        up_bias, down_bias = torch.zeros_like(biased.up), torch.zeros_like(biased.down)
        assert len(seen[layer.name]) == 16 * 3
        for delta, pre in seen[layer.name]:
            for j, line in enumerate(delta.tolist()):
                up_bias[j] += line < 0
                down_bias[j] += line > 0
                for i, bit in enumerate(pre.tolist()):
                    up[j, i] += bit == 1.0 and line < 0
                    down[j, i] += bit == 1.0 and line > 0
        for got, want in ((counted.up, up), (counted.down, down), (biased.up, up_bias), (biased.down, down_bias)):
            assert want.sum() > 0
            assert torch.equal(got, want), layer.name


CASES = {
    "bits": (Bits(), None, ("F7-F6-F4", (5,))),
    "bits, block": (Bits(), BlockMean(), ("F7-F6-F4", (5,))),
    "bits, conv": (Bits(), None, ("4C3s2p1-6C3p1g2-F4", CONV_SHAPE)),
    "bits, conv, pool": (Bits(), None, (CONV, CONV_SHAPE)),
    "counts": (Counts(), BlockMean(), ("F7-F6-F4", (5,))),
    "counts, rank one": (Counts(pairing=RankOne()), BlockMean(), ("F7-F6-F4", (5,))),
    "expect": (Expect(), None, ("F7-F6-F4", (5,))),
}


@pytest.mark.parametrize("transfer", [None, Sigmoid(slope=5.0)], ids=["clipped", "sigmoid"])
@pytest.mark.parametrize(("engine", "memory", "text"), CASES.values(), ids=CASES)
def test_the_gradient_is_unit_times_down_less_up(
    engine: AbstractEngine, memory: BlockMean | None, text: tuple[str, tuple[int, ...]], transfer: Sigmoid | None
) -> None:
    """And asking changes no gradient."""
    net, (x, target) = stream_net(*text, memory=memory, transfer=transfer), rates(text[1], batch=3)
    alone, _ = learnt(net, Held(x, 16), target, engine=engine)
    assert not any(taken(net).values())
    got, _ = learnt(asked(net), Held(x, 16), target, engine=engine)
    left = taken(net)
    assert got.keys() == left.keys()
    pooled = any(layer.pools for layer in net.all)
    for name, (counted,) in left.items():
        assert torch.equal(got[name], alone[name])
        torch.testing.assert_close(counted.unit * (counted.down - counted.up), got[name])
        assert counted.unit > 0
        for side in (counted.up, counted.down):
            assert side.min() >= 0
            assert side.max() > 0
            if isinstance(engine, Bits) and not pooled:
                assert torch.equal(side, side.round())


def test_gradients_and_counts_of_two_batches_add_up() -> None:
    net, (x, target) = asked(stream_net()), rates()
    apart = [learnt(net, Held(x, 16), target, step=step)[0] for step in (0, 1)]
    counted = taken(net)
    rule, scheme = Symmetric(), Coincidence()
    rule.attach(net, seed=0)
    net.zero_grad(set_to_none=True)
    for step in (0, 1):
        rule.begin(step)
        scheme.learn(net, Held(x, 16), target, WinnerLoss(), rule)
    both, again = gradients(net), taken(net)
    for name in both:
        torch.testing.assert_close(both[name], apart[0][name] + apart[1][name])
        assert not torch.equal(apart[0][name], apart[1][name])
        assert len(counted[name]) == len(again[name]) == 2
        for one, other in zip(counted[name], again[name], strict=True):
            assert torch.equal(one.up, other.up)
            assert torch.equal(one.down, other.down)
            assert torch.equal(one.unit, other.unit)


def test_counts_are_handed_over_once() -> None:
    net, (x, target) = asked(stream_net()), rates()
    learnt(net, Held(x, 4), target)
    assert all(len(found) == 1 for found in taken(net).values())
    assert not any(taken(net).values())
