"""`aplysia cost`: counts of recipes without training, special cases of the papers' formulas, and its speed."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from aplysia.cli import app
from aplysia.data.catalogue import datasets
from aplysia.data.digits import Digits
from aplysia.errors import RecipeError, RunError
from aplysia.ledger.amount import Phase
from aplysia.ledger.chip import chips
from aplysia.ledger.memory import totals
from aplysia.nets.noise import Noise
from aplysia.recipes import find
from aplysia.train.codec import override
from aplysia.train.cost import (
    Priced,
    Rates,
    asked,
    assumed_rates,
    empty_bundle,
    expected,
    from_ledger,
    measured_rates,
    price,
)
from aplysia.train.folder import RunFolder
from aplysia.train.recipe import AXES
from aplysia.train.run import Run

FROZEN = "frozen:interval=10:transport=cyclic:transport.fraction=0.01"
FOUR = ("generic-45nm-fp32", "loihi1-davies", "reram-isaac", "spinnaker1")


def priced(recipe: str, rules: str, *settings: str) -> dict[str, Priced]:
    made = price(asked(override(find(recipe), settings, AXES), rules), assumed_rates(0.1))
    return {one.rule: one for one in made}


def words(one: Priced) -> float:
    found = one.counts()[Phase.TRANSPORT]["words"]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("net", "fed_back"),
    [
        ("vgg7", 9 * (64 * 128 + 128 * 256 + 256**2 + 256 * 512 + 512**2) + 512 * 4 * 4 * 10),
        ("vgg11", 9 * (2 * 128**2 + 128 * 256 + 2 * 256**2 + 256 * 512 + 3 * 512**2) + 512 * 4 * 4 * 10),
    ],
)
def test_vgg_nets_of_frozen_backpropagation_on_four_chips(net: str, fed_back: int) -> None:
    rules = f"symmetric,{FROZEN},direct_feedback,pseudo_zeroth_order,kolen_pollack"
    began = time.monotonic()
    found = priced(f"fbp-cifar10-{net}", rules)
    table = {(name, chip): one.energy(chips()[chip]) for name, one in found.items() for chip in FOUR}
    spent = time.monotonic() - began
    assert spent < 5.0
    assert found["pseudo_zeroth_order"].refused, "noise has no place in a spike time"
    assert not any(one.refused for name, one in found.items() if name != "pseudo_zeroth_order")
    # Φ/ρ = 10/0.01: a thousand times fewer words, up to a hundredth being rounded to whole words.
    assert words(found["symmetric"]) == fed_back / 256
    assert words(found["symmetric"]) / words(found[FROZEN]) == pytest.approx(1000, rel=2e-3)
    assert words(found["direct_feedback"]) == words(found["kolen_pollack"]) == 0
    for chip in FOUR:
        value = {name: table[name, chip].value for name in found}
        if chip == "spinnaker1":  # no number for anything that tells these rules apart, and it says so
            assert value["direct_feedback"] == value[FROZEN] == value["symmetric"]
            assert {"mac", "word", "feedback_write"} <= set(table["symmetric", chip].unknown)
        else:
            assert value["direct_feedback"] < value[FROZEN] < value["symmetric"], chip
    assert all(table["symmetric", chip].lower_bound for chip in FOUR)


@pytest.mark.parametrize("net", ["VGG7", "VGG11"])
def test_opzo_is_priced_on_the_same_nets_with_stepped_neurons(net: str) -> None:
    text = {
        "VGG7": "64C3-128C3-P2-256C3-256C3-P2-512C3-512C3-P2-F10",
        "VGG11": "128C3-128C3-128C3-P2-256C3-256C3-256C3-P2-512C3-512C3-512C3-512C3-P2-F10",
    }[net]
    found = priced("cifar10-conv-s", "symmetric,pseudo_zeroth_order", f"net={text}")
    opzo, bp = found["pseudo_zeroth_order"], found["symmetric"]
    assert not opzo.refused
    assert words(opzo) == 0
    assert opzo.counts()[Phase.NOISE]["random_numbers"] > 0
    for chip in FOUR:
        assert opzo.energy(chips()[chip]).value != bp.energy(chips()[chip]).value


def test_costs_of_a_dense_net_are_those_of_the_opzo_papers_formulas() -> None:
    """Hidden layers of n units, m classes: BP sends an error back for 2·n² a layer and step or n², OPZO for m·n."""
    found = priced("fmnist-mlp", "symmetric,pseudo_zeroth_order,direct_feedback", "net=F50-F50-F50-F10")
    bp, opzo, direct = (
        found[name].counts()[Phase.ERROR] for name in ("symmetric", "pseudo_zeroth_order", "direct_feedback")
    )
    n, m, steps = 50, 10, 6
    assert bp["macs"] == steps * (2 * n * n + m * n)
    assert direct["macs"] == steps * 3 * m * n
    assert opzo["macs"] == steps * 3 * m * n


def test_a_rule_that_says_rho_and_phi_moves_rho_n_words_every_phi_steps() -> None:
    found = priced(
        "digits-mlp", "symmetric,frozen:interval=7,frozen:interval=4:transport=random:transport.fraction=0.25"
    )
    all_of_them = 128 * 128 + 10 * 128
    batch = find("digits-mlp").batch_size
    one, seven, quarter = (words(found[name]) for name in found)
    assert one == all_of_them / batch
    assert seven == pytest.approx(all_of_them / batch / 7, rel=1e-12)
    assert quarter == pytest.approx(all_of_them / batch / 16, rel=1e-12)


def test_learnt_weights_are_paid_by_the_batch() -> None:
    small, large = (priced("digits-mlp", "symmetric", f"batch_size={size}")["symmetric"] for size in (1, 64))
    writes = [one.counts()[Phase.UPDATE]["forward_writes"] for one in (small, large)]
    assert writes[0] == 64 * writes[1] == 64 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
    forward = [one.counts()[Phase.FORWARD] for one in (small, large)]
    assert forward[0]["macs"] == forward[1]["macs"]
    assert totals(large.lines)["saved"] == 64 * totals(small.lines)["saved"]


def test_spikes_follow_the_rates_of_each_layer() -> None:
    recipe = find("digits-mlp")
    rates = Rates({"dense1": 0.25, "dense2": 0.5}, 0.0, "")
    counts = price({"bp": recipe}, rates)[0].counts()[Phase.FORWARD]
    assert counts["spikes"] == 6 * (0.25 + 0.5) * 128
    assert counts["acs"] == 6 * (0.25 * 128 * 128 + 0.5 * 128 * 10)
    with pytest.raises(RecipeError, match="which it has not"):
        price({"bp": recipe}, Rates({"conv9": 0.5}, 0.0, ""))
    for rate in (-0.1, 1.1, math.nan):
        with pytest.raises(RecipeError, match="in \\[0, 1\\]"):
            assumed_rates(rate)


def test_noise_on_what_is_sent_makes_it_real_numbers() -> None:
    recipe = find("digits-mlp")
    net = recipe.build_net(empty_bundle(recipe, None))
    options: dict[str, Any] = {"batch": 2, "steps": 6, "input_real": True, "held": True}
    quiet = expected(net, assumed_rates(0.1), **options, noise=Noise(alpha=0.0))
    noisy = expected(net, assumed_rates(0.1), **options, noise=Noise(alpha=0.2))
    assert torch.equal(noisy.drives["dense1"].events, quiet.drives["dense1"].events)
    assert not quiet.drives["dense2"].real
    assert noisy.drives["dense2"].real
    assert int(noisy.drives["dense2"].events.sum()) == 2 * 6 * 128


def test_what_is_known_of_data_before_they_are_loaded() -> None:
    bundle, outline = Digits().load(), Digits().outline
    assert (outline.shape, outline.classes, outline.temporal) == (bundle.shape, bundle.classes, bundle.temporal)
    unknown = [
        name for name, dataset in datasets().items() if not name.startswith("image_") and dataset().outline is None
    ]
    assert not unknown
    with pytest.raises(RecipeError, match="--input"):
        empty_bundle(find("opzo-imagenet"), None)
    assert empty_bundle(find("opzo-imagenet"), (3, 224, 224)).classes == 1000


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = replace(find("digits-mlp"), epochs=1, train_samples=256)
    folder = tmp_path_factory.mktemp("cost") / "run"
    Run(recipe, RunFolder.create(folder, resume=False), torch.device("cpu")).execute()
    return folder


def test_rates_and_counts_of_a_run(finished: Path, tmp_path: Path) -> None:
    rates = measured_rates(finished)
    assert rates.said.startswith("measured")
    assert set(rates.each) == {"dense1", "dense2"}
    data = json.loads((finished / "ledger.json").read_text(encoding="utf-8"))
    exact = from_ledger("bp", data)
    near = price({"bp": find("digits-mlp")}, rates)[0]
    # Real images have dark pixels, which cost nothing: a count from rates knows only of spikes.
    assert exact.counts()[Phase.FORWARD]["macs"] < near.counts()[Phase.FORWARD]["macs"]
    assert exact.counts()[Phase.TRANSPORT] == near.counts()[Phase.TRANSPORT]
    with pytest.raises(RunError, match="a finished run"):
        measured_rates(tmp_path)


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["cost", *words])


def test_the_tables_say_what_was_assumed_and_what_is_not_known(finished: Path) -> None:
    shown = run(
        "digits-mlp", "--chip", "loihi1-davies", "--chip", "reram-isaac", "--rules", "symmetric,direct_feedback"
    )
    assert shown.exit_code == 0, shown.output
    for word in (
        "rates assumed: every hidden unit fires at 0.1",
        "≥",
        "lower bound, and ranks nothing; no number for mac",
        "saved",
    ):
        assert word in shown.output
    assert "counts only, no energy" in run("digits-mlp").output
    assert "measured: the test set" in run("digits-mlp", "--run", str(finished)).output
    refused = run("fbp-fmnist", "--rules", "pseudo_zeroth_order")
    assert "no place in a spike time" in refused.output


def test_json_and_csv_hold_the_same_numbers() -> None:
    options = ("digits-mlp", "--chip", "generic-45nm-fp32", "--rules", "symmetric")
    data = json.loads(run(*options, "--format", "json").stdout)
    (row,) = data["rules"]
    lines = [line.split(",") for line in run(*options, "--format", "csv").stdout.splitlines()]
    parts = {line[2]: float(line[3]) for line in lines[1:]}
    phases = row["energy"]["generic-45nm-fp32"]["by_phase"]
    assert parts == {name: part["value"] for name, part in phases.items()}
    assert sum(parts.values()) == pytest.approx(row["energy"]["generic-45nm-fp32"]["value"])
    assert {line["kind"] for line in row["memory"]} >= {"weights", "saved", "traces", "optimiser"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("digits-mlp", "--chip", "loihi2"), "nobody has published"),
        (("digits-mlp", "--format", "xml"), "table, json or csv"),
        (("digits-mlp", "--rate", "0.1", "--run", "x"), "either --rate or --run"),
        (("opzo-imagenet", "--input", "3,224"), "three sizes"),
        (("ssnn-digits",), "coincidences"),
        (("digits-mlp", "--rules", "symetric"), "symmetric"),
        (("digits-mlp", "--run", "nowhere"), "a finished run"),
    ],
)
def test_each_mistake_has_its_sentence(words: tuple[str, ...], sentence: str) -> None:
    failed = run(*words)
    assert failed.exit_code != 0
    assert sentence in str(failed.exception)
