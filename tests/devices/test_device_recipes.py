"""Devices in recipes: written down and read back, presets as documented, nets that train on them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from device_parts import array, by_hand, one, pulsed

from aplysia.credit.spatial.kolen_pollack import KolenPollack
from aplysia.devices.base import AbstractCell, AbstractDevice
from aplysia.devices.constant_step import ConstantStep
from aplysia.devices.ideal import Ideal
from aplysia.devices.presets import AbstractPreset, Ecram, EcramMo, ReramEs
from aplysia.devices.tiki_taka import TikiTaka
from aplysia.errors import PairError, RecipeError
from aplysia.plugins import catalogue
from aplysia.recipes import find
from aplysia.train.codec import decode, encode, override
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.optimise import SGD, Pulsed
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.run import Run

DOC = (Path(__file__).parents[2] / "docs" / "devices.md").read_text(encoding="utf-8")
DEVICES = catalogue(AXES[AbstractDevice], AbstractDevice)
PRESETS = {name: cls() for name, cls in DEVICES.items() if issubclass(cls, AbstractPreset)}


def changed(recipe: str, *assignments: str) -> Recipe:
    return override(find(recipe), ["optimiser=pulsed", *(f"optimiser.{a}" for a in assignments)], AXES)


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_is_written_down_and_read_back(name: str) -> None:
    recipe = changed("digits-mlp", f"device={name}")
    data = json.loads(json.dumps(encode(recipe, AXES)))
    assert data["optimiser"]["device"]["kind"] == name
    assert decode(Recipe, data, AXES) == recipe
    assert type(recipe.optimiser.device) is DEVICES[name]  # type: ignore[attr-defined]
    assert DEVICES[name].summary


def test_settings_of_devices_are_set_by_their_keys() -> None:
    recipe = changed(
        "ssnn-digits", "device=soft_bounds", "device.quantum=0.005", "device.spread.cycle=0.3", "several=1"
    )
    device = recipe.optimiser.device  # type: ignore[attr-defined]
    assert (device.quantum, device.spread.cycle) == (0.005, 0.3)
    pair = changed(
        "ssnn-digits", "device=tiki_taka", "device.fast=ecram", "device.fast.bound=2", "device.slow.bound=0.7"
    )
    device = pair.optimiser.device  # type: ignore[attr-defined]
    assert isinstance(device.fast, Ecram)
    assert (device.quantum, device.bound) == (0.004, 0.7)
    assert decode(Recipe, encode(pair, AXES), AXES) == pair
    with pytest.raises(RecipeError, match=r"device.fast.*'ideal'"):
        changed("ssnn-digits", "device=tiki_taka", "device.fast=ideal")
    with pytest.raises(RecipeError, match=r"quantum"):
        changed("ssnn-digits", "device=ecram", "device.quantum=0.1")


def test_presets_are_those_of_the_page() -> None:
    """Every number of the table is read back from the code, in the units of the source."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\d.e-]+) \| ([−\d.]+) … ([\d.]+) \| (.+?) \|(.*)\|$", DOC, re.M)
    assert {row[0] for row in rows} == PRESETS.keys()
    for name, law, quantum, low, high, spreads, own in rows:
        device = PRESETS[name].law
        assert DEVICES[law] is type(device)
        assert float(quantum) == device.quantum == PRESETS[name].quantum
        assert float(high) == pytest.approx(1.0 + device.centre)
        assert float(low.replace("−", "-")) == pytest.approx(device.centre - 1.0)
        said = {key: float(number) for key, number in re.findall(r"(\w+) ([\d.]+)", spreads)}
        assert said == pytest.approx({k: v for k, v in vars(device.spread).items() if v != 0.0})
        plain = type(device)(centre=device.centre, quantum=device.quantum)
        other = {k: v for k, v in vars(device).items() if k not in ("spread", "bound") and v != getattr(plain, k)}
        assert {k: float(n.replace("−", "-")) for k, n in re.findall(r"(\w+) ([−\d.]+)", own)} == pytest.approx(other)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_scale_to_the_bound(name: str) -> None:
    """Four times the bound, four times everything; quiet ones have no noise of pulses and writes."""
    small, large = (replace(PRESETS[name], bound=bound) for bound in (1.0, 4.0))
    start = torch.linspace(-0.6, 0.6, 60, dtype=torch.float64)
    (a, cells), (b, large_cells) = array(small, start), array(large, 4.0 * start)
    for device, weight, own in ((small, a, cells), (large, b, large_cells)):
        pulsed(device, weight, own, 3, 1, seed=1)
    torch.testing.assert_close(b, 4.0 * a)
    assert not torch.equal(a, start)
    spread = replace(PRESETS[name], quiet=True).law.spread
    assert spread.cycle == spread.additive == spread.write == 0.0
    assert spread == replace(small.law.spread, cycle=0.0, additive=0.0, write=0.0)


@pytest.mark.parametrize("preset", [Ecram(), EcramMo()])
def test_shifted_ranges_have_their_symmetry_point_at_0(preset: AbstractPreset) -> None:
    device = replace(preset.law, spread=type(preset.law.spread)(), slope_spread=0.0)
    _, cells = array(device, torch.zeros(3, dtype=torch.float64))
    assert device.symmetry(cells).abs().max() < 1e-9


def test_the_exponential_preset_is_the_law_of_its_source() -> None:
    """y₊ = 1 + 1.18445·exp(5·z), y₋ = 1 + 0.081404·exp(−5·z), z = −w/(half the range) ∕ 2 − ½."""
    device = ReramEs(quiet=True)
    weight, cells = array(device, torch.linspace(-0.7, 0.7, 15, dtype=torch.float64))
    before = weight.clone()

    def z(w: float, cell: dict[str, float]) -> float:
        return -0.5 * 2.0 * w / (cell["high"] - cell["low"]) - 0.5

    for up, down in ((5, 0), (0, 5)):
        weight.copy_(before)
        pulsed(device, weight, cells, up, down)
        for i in range(15):
            want = by_hand(
                float(before[i]),
                "+" * up + "-" * down,
                one(cells, i),
                0.00135,
                lambda w, cell: 1.0 + 1.18445 * 2.718281828459045 ** (5.0 * z(w, cell)),
                lambda w, cell: 1.0 + 0.081404 * 2.718281828459045 ** (-5.0 * z(w, cell)),
            )
            assert float(weight[i]) == pytest.approx(want, abs=1e-12)


def run(recipe: Recipe, path: Path, *, resume: bool = False) -> dict:
    folder = RunFolder.create(path, resume=resume)
    return Run(recipe, folder, torch.device("cpu"), progress=Progress(recipe.epochs, shown=False)).execute()


def lif(device: AbstractDevice, **changes: object) -> Recipe:
    base = replace(find("digits-mlp"), net="F32-F10", steps=4, epochs=3)
    return replace(base, optimiser=Pulsed(lr=0.3, device=device), **changes)


@pytest.mark.parametrize(
    "device",
    [
        Ideal(bound=1.5),
        ConstantStep(quantum=0.005, bound=1.5),
        PRESETS["gokmen_vlasov"],
        TikiTaka(fast=ConstantStep(quantum=0.01), slow=ConstantStep(quantum=0.005), columns=None, rate=0.1),
    ],
    ids=lambda device: type(device).__name__,
)
def test_a_spiking_net_of_devices_learns_the_digits(device: AbstractDevice, tmp_path: Path) -> None:
    """Without coincidences; chance is 0.1."""
    summary = run(lif(device), tmp_path / "run")
    assert all(rate > 0.01 for rate in summary["rates"].values())
    assert summary["test_accuracy"] > 0.75


def test_a_stream_net_is_trained_by_its_coincidences_alone(tmp_path: Path) -> None:
    """All batches are whole: in a smaller last one each coincidence would stand for more than a pulse."""
    recipe = changed("ssnn-digits", "lr=0.5", "device=constant_step", "device.quantum=0.02", "device.bound=2")
    recipe = replace(recipe, epochs=1, steps=16, validation=0.0, train_samples=1024)
    summary = run(recipe, tmp_path / "run")
    assert all(0.01 < rate < 0.99 for rate in summary["rates"].values())
    assert summary["test_accuracy"] > 0.75


def test_a_clipped_gradient_is_refused_for_coincidences(tmp_path: Path) -> None:
    recipe = changed("ssnn-digits", "device=constant_step", "device.quantum=0.05")
    with pytest.raises(PairError, match="clip=none"):
        run(replace(recipe, epochs=1, clip=1e-3), tmp_path / "run")


def test_learning_feedback_by_the_optimisers_increments_is_refused(tmp_path: Path) -> None:
    """A device's step depends on the weight, so two arrays cannot make it the same."""
    with pytest.raises(PairError, match="KolenPollack"):
        run(lif(ConstantStep(), rule=KolenPollack(), net="F16-F16-F10"), tmp_path / "run")


def test_every_kind_of_cell_can_be_a_part_of_a_pair() -> None:
    for cls in DEVICES.values():
        if issubclass(cls, AbstractCell):
            pair = TikiTaka(fast=cls(), slow=cls(bound=0.5), rate=0.5, columns=None)
            weight, cells = array(pair, torch.linspace(-1.0, 1.0, 12).view(3, 4))
            writes = pulsed(pair, weight, cells, 5, 1)
            assert writes >= 6 * 12
            assert torch.isfinite(weight).all()


def test_the_other_optimisers_do_not_mind_a_seed() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    assert isinstance(SGD().build([parameter], seed=5), torch.optim.SGD)
