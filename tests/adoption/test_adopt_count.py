"""Counts of adopted models, against counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from adoption_parts import BATCH, CLASSES, INPUTS, STEPS, adopted, batch, each_model, model_of, quiet, run
from test_adopt_seeded import outputs
from torch import Tensor, nn

import aplysia
from aplysia.adoption.calls.convolution import Convolution
from aplysia.errors import PairError
from aplysia.ledger.amount import Phase
from aplysia.ledger.count import count_transport
from aplysia.nets.noise import Noise

SLOTS = STEPS * BATCH


def books(name: str, rule: Any) -> tuple[Any, Any, list[int], int]:
    """Learner, book, spikes of the hidden sites, inputs that are not 0."""
    model = model_of(name)
    learner = adopted(model, rule)
    x, y = batch()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    book = learner.count(x, y)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(p.grad is not None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    names = tuple(site.name for site in learner.net.hidden)
    _, outs = outputs(model_of(name), x, names)
    return learner, book, [int((out != 0).sum()) for out in outs], int((x != 0).sum())


@each_model
def test_chained_rules(name: str) -> None:
    if name == "torch":
        with pytest.raises(PairError, match="neurons of a library we know"):
            books(name, aplysia.rules.Symmetric())
        return
    learner, book, (one, two), given = books(name, aplysia.rules.FrozenBackprop(interval=2))
    assert min(one, two, given) > 0
    first, second, third = (weight.name for weight in learner.net.synapses)
    # The input's kind nobody said: real numbers. What neurons send are spikes.
    assert book.layer(first, Phase.FORWARD).macs == given * 24
    assert book.layer(first, Phase.FORWARD).acs == 0
    assert book.layer(second, Phase.FORWARD).acs == one * 16
    assert book.layer(third, Phase.FORWARD).acs == two * CLASSES
    assert book.layer(second, Phase.FORWARD).macs == 0
    assert book.layer(second, Phase.FORWARD).dense == SLOTS * 24 * 16
    assert book.layer(second, Phase.ERROR).macs == SLOTS * 24 * 16
    assert book.layer(third, Phase.ERROR).words == SLOTS * CLASSES
    assert book.layer(first, Phase.ERROR).macs == 0
    assert book.layer(second, Phase.UPDATE).acs == one * 16
    assert book.layer(second, Phase.UPDATE).forward_writes == 24 * 16
    sites = [site.name for site in learner.net.hidden]
    assert [book.layer(site, Phase.FORWARD).spikes for site in sites] == [one, two]
    assert [book.layer(site, Phase.FORWARD).updates for site in sites] == [SLOTS * 24, SLOTS * 16]
    assert book.layer(sites[0], Phase.FORWARD).address_bits == one * 5
    assert [book.layer(site, Phase.ERROR).updates for site in sites] == [SLOTS * 24, SLOTS * 16]
    moved = count_transport(learner.net, learner.rule, 4).total().words
    for step in range(4):
        learner.update(*batch(step))
    assert moved == learner.cost.words == 2 * (24 * 16 + 16 * CLASSES)


@pytest.mark.parametrize("name", ["snntorch", "spikingjelly, sequence", "norse, steps"])
def test_direct_rules(name: str) -> None:
    learner, book, (one, two), _ = books(name, aplysia.rules.DirectFeedback())
    sites = [site.name for site in learner.net.hidden]
    assert [book.layer(site, Phase.ERROR).macs for site in sites] == [SLOTS * CLASSES * 24, SLOTS * CLASSES * 16]
    assert book.total(Phase.ERROR).words == 2 * SLOTS * CLASSES
    assert book.total(Phase.UPDATE).acs == one * 16 + two * CLASSES
    rule = aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.2))
    _, book, _, _ = books(name, rule)
    # Noise makes real numbers of what neurons send.
    assert book.layer(learner.net.synapses[1].name, Phase.FORWARD).acs == 0
    assert book.layer(learner.net.synapses[1].name, Phase.FORWARD).macs == one * 16
    assert book.total(Phase.NOISE).random_numbers == -(-STEPS // 2) * BATCH * (24 + 16)


def test_readout_only_updates_the_readout() -> None:
    learner, book, (_, two), _ = books("snntorch", aplysia.rules.ReadoutOnly())
    assert book.total(Phase.UPDATE).acs == two * CLASSES
    assert book.layer("fc2", Phase.UPDATE).acs == 0
    assert [book.layer(site.name, Phase.ERROR).updates for site in learner.net.hidden] == [0, 0]


@pytest.mark.parametrize(("pool", "spikes"), [("MaxPool2d", True), ("AvgPool2d", False)])
def test_behind_a_pool(pool: str, spikes: bool) -> None:
    with quiet():
        import snntorch as snn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.lif = nn.Conv2d(1, 3, 3, padding=1), snn.Leaky(beta=0.5, threshold=0.2)
            self.pool, self.b = getattr(nn, pool)(2), nn.Linear(3 * 4 * 4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            potential = self.lif.init_leaky()
            outs = []
            for _ in range(STEPS):
                fired, potential = self.lif(self.a(x), potential)
                outs.append(self.b(self.pool(fired).flatten(1)))
            return torch.stack(outs)

    torch.manual_seed(0)
    model = Model()
    x, y = torch.rand(BATCH, 1, 8, 8), torch.randint(0, CLASSES, (BATCH,))
    learner = aplysia.adopt(
        model,
        aplysia.rules.Symmetric(),
        optimiser=torch.optim.SGD(model.parameters(), lr=0.1),
        loss=lambda out, target: nn.functional.cross_entropy(out.mean(0), target),
        example=(x, y),
    )
    book = learner.count(x, y)
    met: list[int] = []
    model.b.register_forward_pre_hook(lambda module, args: met.append(int((args[0] != 0).sum())))
    model(x)
    told = book.layer("b", Phase.FORWARD)
    assert sum(met) > 0
    assert (told.acs, told.macs) == ((sum(met) * CLASSES, 0) if spikes else (0, sum(met) * CLASSES))
    # 3 × 3 taps, less those beyond the edges: 8 + 2·7 = 22 pairs of rows.
    assert book.layer("a", Phase.FORWARD).dense == STEPS * BATCH * 22 * 22 * 3


def test_a_recurrent_weight_hears_spikes() -> None:
    with quiet():
        import snntorch as snn

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc1 = nn.Linear(INPUTS, 16)
                self.lif1 = snn.RLeaky(beta=0.6, threshold=0.3, linear_features=16)
                self.fc2 = nn.Linear(16, CLASSES)

            def forward(self, x: Tensor) -> Tensor:
                spikes, potential = self.lif1.init_rleaky()
                outs = []
                for step in x:
                    spikes, potential = self.lif1(self.fc1(step), spikes, potential)
                    outs.append(self.fc2(spikes))
                return torch.stack(outs)

        torch.manual_seed(3)
        model = Model()
        learner = adopted(model, aplysia.rules.Symmetric())
        x, y = batch()
        book = learner.count(x, y)
        heard: list[int] = []
        model.lif1.recurrent.register_forward_pre_hook(lambda module, args: heard.append(int((args[0] != 0).sum())))
        run(model, x)
    assert sum(heard) > 0
    assert book.layer("lif1.recurrent", Phase.FORWARD).acs == sum(heard) * 16


@pytest.mark.parametrize(
    ("shape", "weight", "geometry"),
    [
        ((2, 7), (4, 2, 3), Convolution((2,), (1,), (1,))),
        ((4, 6, 5), (6, 2, 3, 2), Convolution((1, 2), (1, 0), (2, 1), groups=2)),
        ((1, 3, 4, 3), (2, 1, 2, 2, 2), Convolution((1, 1, 1), (0, 1, 0), (1, 1, 1))),
    ],
)
def test_fan_out_of_any_convolution(shape: tuple[int, ...], weight: tuple[int, ...], geometry: Convolution) -> None:
    """One entry at a time, and how many outputs move."""
    from types import SimpleNamespace

    from aplysia.ledger.reach import fan_out

    current = geometry.output_shape(shape, torch.Size(weight))
    layer: Any = SimpleNamespace(
        geometry=geometry, weight=torch.empty(weight), drive_shape=shape, current_shape=current
    )
    told = fan_out(layer).flatten()
    for place in range(told.numel()):
        one = torch.zeros(told.numel(), dtype=torch.float64)
        one[place] = 1.0
        out = geometry.forward(one.view(1, *shape), torch.ones(weight, dtype=torch.float64))
        assert int((out != 0).sum()) == int(told[place])
