"""The weight mirror learns the forward weights from noise: without bias, for every geometry, and the angle falls.

For each weight the mean of R independent estimates gives t = (mean − W)/(standard error), with R − 1 = 199 degrees of
freedom. The bound |t| < 6.5 is missed by a right estimator with probability 6e-10 per weight, under 1e-6 for all the
weights of this file together, were the seed drawn anew.
"""

from __future__ import annotations

import pytest
import torch
from helpers import DENSE

from aplysia.credit.spatial.weight_mirror import WeightMirror
from aplysia.errors import RecipeError
from aplysia.nets.net import Net
from aplysia.nets.zoo import build

NETS = {
    "dense": ("F6-F8-F4", (5,)),
    "convolution with padding": ("2C3-3C3-F2", (1, 4, 4)),
    "stride and padding": ("2C3-3C3s2p1-F2", (1, 5, 5)),
    "groups and no padding": ("4C3-4C3p0g2-F2", (2, 4, 4)),
    "even kernel, pools": ("2C3-A2-3C2p1-P2-F2", (1, 6, 6)),
    "padding around a tiny image": ("2C3-A2-3C3p1-F2", (1, 4, 4)),
}


def phases(net: Net, rule: WeightMirror, count: int) -> dict[str, torch.Tensor]:
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    made: dict[str, list[torch.Tensor]] = {layer.name: [] for layer in net.fed_back}
    for step in range(count):
        rule.after(net, optimiser, step)
        for name, kept in made.items():
            kept.append(rule.tensors[name].clone())
    return {name: torch.stack(kept) for name, kept in made.items()}


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("name", list(NETS))
def test_an_estimate_is_unbiased(name: str, standardise: bool) -> None:
    net, rule = build(*NETS[name], standardise=standardise, seed=2).double(), WeightMirror(rate=1.0, samples=8)
    rule.attach(net, seed=7)
    count = 200
    for layer in net.fed_back:
        made = phases(net, rule, count)[layer.name]
        t = (made.mean(0) - layer.effective_weight().detach()) / (made.std(0) / count**0.5)
        assert made.std(0).min() > 1e-3
        assert t.abs().max() < 6.5
        assert 0.7 < t.square().mean() < 1.4 or t.numel() < 100


@pytest.mark.parametrize("name", list(NETS))
def test_the_angle_falls(name: str) -> None:
    net, rule = build(*NETS[name], seed=2).double(), WeightMirror(rate=0.05, samples=32)
    rule.attach(net, seed=7)

    def cosine(layer_name: str) -> float:
        w, b = net.layers[layer_name].weight.flatten(), rule.tensors[layer_name].flatten()
        return float(torch.nn.functional.cosine_similarity(w, b, dim=0).detach())

    names = [layer.name for layer in net.fed_back]
    before = {n: cosine(n) for n in names}
    phases(net, rule, 150)
    for n in names:
        assert cosine(n) > max(0.93, before[n])


def test_a_tap_that_only_ever_sees_padding_stays_finite() -> None:
    """On an image of 1 × 1 the outer taps of a padded 3 × 3 kernel see no input at all: there is nothing to divide by."""
    net = build("2C3-A2-3C3-F2", (1, 2, 2), seed=2).double()
    rule = WeightMirror(rate=0.5)
    rule.attach(net, seed=7)
    phases(net, rule, 3)
    for layer in net.fed_back:
        assert torch.isfinite(rule.tensors[layer.name]).all()


def test_the_mirror_looks_only_every_interval() -> None:
    net, rule = DENSE.net(), WeightMirror(interval=3)
    rule.attach(net, seed=7)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    changed = []
    for step in range(7):
        before = {name: tensor.clone() for name, tensor in rule.tensors.items()}
        cost = rule.after(net, optimiser, step)
        changed.append(any(not torch.equal(before[name], rule.tensors[name]) for name in before))
        assert bool(cost.random_numbers) is changed[-1]
    assert changed == [False, False, True, False, False, True, False]


def test_the_forward_weights_are_left_alone() -> None:
    net, rule = DENSE.net(), WeightMirror()
    rule.attach(net, seed=7)
    before = [p.detach().clone() for p in net.parameters()]
    phases(net, rule, 3)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("settings", [{"rate": 0.0}, {"rate": 1.5}, {"samples": 0}, {"interval": 0}])
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(RecipeError):
        WeightMirror(**settings)
