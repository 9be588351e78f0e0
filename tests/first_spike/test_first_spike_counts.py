"""What is counted (spikes, saturated spikes, shares by layer), and the push for units that stay silent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from first_spike_nets import CASES, CONV, DENSE, Case, assert_fires, attach, each_case, learnt, outs
from torch import Tensor

from aplysia.credit.spatial.readout_only import ReadoutOnly
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.spike_time import Push, SpikeTime
from aplysia.data.splits import train_validation
from aplysia.neurons.windowed import Windowed
from aplysia.ops.first_spike import count_spikes
from aplysia.recipes import find
from aplysia.train.folder import RunFolder
from aplysia.train.learner import Learner
from aplysia.train.log import Progress
from aplysia.train.run import Run


def one_by_one(out: Tensor, top: float | None) -> tuple[int, int]:
    """Spikes and saturated spikes, value by value."""
    values = out.flatten().tolist()
    limit = None if top is None else float(torch.tensor(top, dtype=out.dtype))
    return sum(v > 0 for v in values), sum(limit is not None and v >= limit for v in values)


@each_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spikes_and_saturated_spikes_are_counted_exactly(case: Case, dtype: torch.dtype) -> None:
    net, (x, target) = case.net().to(dtype), case.input()
    x = x.to(dtype)
    assert_fires(net, x)
    done = net(x)
    rule = Symmetric()
    rule.attach(net, seed=0)
    record = SpikeTime().learn(net, x, target, case.loss, rule)
    _, predicted = net.predict(x)
    for n, layer in enumerate(net.all):
        want = one_by_one(done.outs[n].detach(), layer.neuron.saturation) if layer.neuron.spiking else (0, 0)  # type: ignore[attr-defined]
        assert (float(done.spikes[n]), float(done.saturated[n])) == want
        assert record.saturated is not None
        assert (float(record.spikes[n]), float(record.saturated[n])) == want
        assert float(predicted[n]) == want[0]
    assert record.slots == [5 * layer.units for layer in net.all]
    assert torch.equal(record.logits, done.outs[-1][0])
    assert bool(done.saturated.sum() > 0) == case.saturates


@pytest.mark.parametrize("window", [1.0, 0.7, 1.9, 2.3, 3.3])
def test_counts_are_exact_beyond_what_float32_counts(window: float) -> None:
    """17 million spikes and three silent units; a float32 sum of them would end at 2²⁴. Just under T is not saturated."""
    x = torch.full((300, 57_000), window)
    x[0, 0] = x[7, 1] = x[299, 2] = 0.0
    x[5, :7] = torch.nextafter(torch.tensor(window), torch.tensor(0.0))
    fired, saturated = count_spikes(x, window)
    assert (int(fired), int(saturated)) == (17_099_997, 17_099_990)
    fired, saturated = count_spikes(x[:3, :9], None)
    assert (int(fired), int(saturated)) == (26, 0)


def test_the_trainers_metrics_hold_rates_and_saturated_shares_by_layer(tmp_path: Path) -> None:
    """One batch holds the whole training set, so the shares are those of the untrained net."""
    recipe = replace(find("digits-ttfs"), net="F24-F16-F10", epochs=1, batch_size=2000, neuron=Windowed(threshold=0.6))
    folder = RunFolder.create(tmp_path / "r", resume=False)
    summary = Run(recipe, folder, torch.device("cpu"), progress=Progress(1, shown=False)).execute()
    (metrics,) = [json.loads(line) for line in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    bundle = recipe.data.load()
    net = recipe.build_net(bundle)
    train, _ = train_validation(bundle.train, recipe.validation, recipe.seed)
    x = (train.inputs.float() * bundle.scale).unsqueeze(0)
    assert list(metrics["rates"]) == list(metrics["saturated"]) == ["dense1", "dense2"]
    for layer, out in zip(net.hidden, outs(net, x), strict=False):
        fired, saturated = one_by_one(out, 1.0)
        assert metrics["rates"][layer.name] == pytest.approx(fired / out.numel(), abs=2e-5)
        assert metrics["saturated"][layer.name] == pytest.approx(saturated / out.numel(), abs=2e-5)
        assert 0.01 < metrics["saturated"][layer.name] < metrics["rates"][layer.name] < 0.95
    assert list(summary["rates"]) == ["dense1", "dense2"]


# ── revival ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def kill(layer: torch.nn.Module, *units: int) -> None:
    for unit in units:
        layer.weight[unit] = -layer.weight[unit].abs()  # type: ignore[operator, index]


SPIKING = CASES["dense, spiking readout"]


@pytest.mark.parametrize(
    ("case", "rule_name"),
    [(DENSE, "Symmetric"), (CONV, "FeedbackAlignment"), (CONV, "DirectFeedback"), (SPIKING, "Symmetric")],
    ids=["dense", "conv", "conv, seeded", "spiking readout"],
)
def test_a_push_changes_the_rows_of_silent_units_and_nothing_else(case: Case, rule_name: str) -> None:
    net, (x, target) = case.net(), case.input(batch=12)
    rule = attach(rule_name, net)
    kill(net.all[0], 1)
    kill(net.all[1], 0, 3)
    if case is SPIKING:
        kill(net.readout, 2)
    assert_fires(net, x, low=0.02)
    plain = learnt(net, rule, x, target, case.loss)
    pushed = learnt(net, rule, x, target, case.loss, revive=Push(strength=0.25))
    assert plain.keys() == pushed.keys()
    dead = 0
    for layer, out in zip(net.all, outs(net, x), strict=True):
        name = f"{layer.name}.weight"
        for unit in range(len(layer.weight)):
            silent = layer.neuron.spiking and float(out[:, unit].max()) == 0.0
            dead += silent
            want = plain[name][unit] - 0.25 if silent else plain[name][unit]
            assert torch.equal(pushed[name][unit], want)
            if silent:
                assert plain[name][unit].abs().max() == 0.0
    assert dead >= 3 + (case is SPIKING)
    assert all(torch.equal(plain[n], pushed[n]) for n in plain if n.endswith("bias"))


def test_where_a_rule_teaches_no_hidden_layer_nothing_is_pushed() -> None:
    net, (x, target) = DENSE.net(), DENSE.input()
    kill(net.all[0], 1)
    rule = ReadoutOnly()
    rule.attach(net, seed=0)
    assert set(learnt(net, rule, x, target, DENSE.loss, revive=Push())) == {"readout.weight"}


@pytest.mark.parametrize("revive", [None, Push(strength=0.02)], ids=["left alone", "pushed"])
@pytest.mark.parametrize("case", [DENSE, CONV], ids=["dense", "conv"])
def test_a_push_revives_a_dead_unit(case: Case, revive: Push | None) -> None:
    net, (x, target) = case.net(), case.input(batch=16)
    kill(net.hidden[0], 2)
    before = net.hidden[0].weight.detach().clone()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.5)
    learner = Learner(net, rule=Symmetric(), temporal=SpikeTime(revive=revive), loss=case.loss, optimiser=optimiser)
    assert float(outs(net, x)[0][:, 2].max()) == 0.0
    for _ in range(150):
        learner.update(x, target)
    alive = float(outs(net, x)[0][:, 2].max()) > 0.0
    assert alive == (revive is not None)
    assert torch.equal(before[2], net.hidden[0].weight[2]) == (revive is None)
