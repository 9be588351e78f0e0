"""The benchmarks run, leave what the page needs, and the page says what they left. No test here looks at a clock."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import bounds
import floors
import pytest
import suite
import torch
import traffic
from fit import power_law, upper_half

import aplysia

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
MADE = ("start", "conv_step", "events", "products", "winograd", "rules_table", "scaling")
METHODS = {"bptt", "ottt_bp", "direct_feedback", "pseudo_zeroth_order"}
FULL = {"ottt_bp_full", "direct_feedback_full", "bptt_full"}
WHOLE = {f"{name}{end}_all_steps" for name in ("ottt_bp", "direct_feedback") for end in ("", "_bf16")}
NARROW = {"ottt_bp_bf16", "direct_feedback_bf16", "pseudo_zeroth_order_bf16"}

A_RULE = '''
from dataclasses import dataclass

from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.credit.contract import AbstractChained


@dataclass(kw_only=True)
class Upside(AbstractChained):
    """Errors through the negative of the weights."""

    paper, claims, summary = FeedbackAlignment.paper, frozenset(), "a rule of a user"

    def start(self, net):
        return {}

    def feedback(self, layer, weight):
        return -weight
'''


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a quick run of the new benchmarks leaves, with a rule of a user's own in reach."""
    folder = tmp_path_factory.mktemp("suite")
    plugins = folder / "plugins"
    plugins.mkdir()
    (plugins / "upside.py").write_text(A_RULE)
    words = ["--quick", "--out", str(folder / "results"), *(word for name in MADE for word in ("--only", name))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APLYSIA_PLUGINS", str(plugins))
        patch.setenv("OMP_NUM_THREADS", "1")
        assert suite.main(words) == 0
    return folder / "results"


def stored(left: Path, name: str) -> dict[str, Any]:
    return json.loads((left / f"{name}.json").read_text())


@pytest.mark.parametrize("name", MADE)
def test_every_file_says_where_its_numbers_are_from(left: Path, name: str) -> None:
    found = stored(left, name)
    told = found["provenance"]
    assert found["quick"] is True
    assert told["machine"]["threads"] == found["threads"] >= 1
    assert told["machine"].keys() >= {"device_name", "cores", "caches", "torch", "python"}
    assert told["versions"]["aplysia"] == aplysia.__version__
    assert told.keys() >= {"commit", "date"}
    text = json.dumps(found)
    assert str(left.parent) not in text
    assert str(ROOT) not in text


def test_the_conv_benchmark_compares_the_same_net_and_no_silent_one(left: Path) -> None:
    found = stored(left, "conv_step")
    rates = found["spike_rates"]
    assert METHODS | {"relu"} <= rates.keys()
    assert min(min(layers) for layers in rates.values()) > 0.01
    for peer in ("spikingjelly_bptt", "norse_bptt"):
        assert peer in found["missing"] or rates[peer] == pytest.approx(rates["ottt_bp"], abs=1e-6)
    assert found["times_floor"].keys() == METHODS | FULL
    assert found["milliseconds"].keys() >= METHODS | {"floor_chained", "floor_direct", "relu_channels_last"}
    assert found["peak_memory_bytes"]["ottt_bp"] > 0
    if "best_peer" in found:
        assert (
            found["ratio_to_best_peer"].keys() == found["ratio_to_best_relu"].keys() == METHODS | FULL | NARROW | WHOLE
        )
    assert found["peak_memory_bytes_kept"]["ottt_bp"] > 0


def test_the_products_of_backpropagation_are_counted_alike_by_hand_and_by_torch(left: Path) -> None:
    found = stored(left, "conv_step")
    assert found["work"]["ottt_bp"]["operations"] == sum(found["floor"]["operations"].values())
    assert found["work"]["direct_feedback"]["operations"] < found["work"]["ottt_bp"]["operations"]
    for row in stored(left, "scaling")["axes"]["width"]["points"]:
        assert row["ottt_bp"]["operations"] == row["ottt_bp"]["floor_operations"]


def test_the_events_benchmark_has_both_products_of_both_nets_and_where_sums_stop_paying(left: Path) -> None:
    found = stored(left, "events")
    assert found["largest_share"].keys() == {"float32", "bfloat16"}
    assert found["cases"].keys() == {"dense", "conv"}
    for told in found["cases"].values():
        for part in ("forward", "weight gradient"):
            assert len(told[part]["sums_ms"]) == len(told["shares"]) > 2
            assert min(told[part]["sums_ms"]) > 0
            assert told[part]["full_ms"].keys() == {"float32", "bfloat16"}
    import events

    assert events.crossing([0.1, 0.2, 0.4], [1.0, 2.0, 4.0], 3.0) == pytest.approx(0.3)
    assert events.crossing([0.1, 0.2], [1.0, 2.0], 3.0) is None


def test_the_products_benchmark_says_which_are_taken(left: Path) -> None:
    large, small = stored(left, "products")["cases"]
    for part in ("forward", "error"):
        assert large[part]["taken"] == ("times_faster" in large[part]) == torch.backends.mkldnn.is_available()
        assert not small[part]["taken"]
        assert list(small[part]["ms"]) == ["torch"]


def test_the_winograd_benchmark_has_times_and_rounding_of_all_three_products(left: Path) -> None:
    (case,) = stored(left, "winograd")["cases"]
    for part in ("forward", "error", "weight gradient"):
        told = case[part]
        assert set(told["ms"]) == {"tiles", "float32", "bfloat16"}
        assert 1e-8 < told["rounding"]["float32"] < 1e-5 < told["rounding"]["bfloat16"]
        assert told["rounding"]["tiles"] < 1e-5
        assert told["times_rounding"] == pytest.approx(told["rounding"]["tiles"] / told["rounding"]["float32"])


def test_the_rules_table_has_every_rule_even_a_user_s_and_dashes_where_a_pair_is_refused(left: Path) -> None:
    found = stored(left, "rules_table")
    assert {"symmetric", "direct_feedback", "upside"} <= set(found["rules"])
    assert len(found["rules"]) == len(aplysia.rules.__all__) + 1
    for name, kind in found["kinds"].items():
        assert sorted([*kind["relative_to_bp"], *kind["refused"]]) == sorted(found["rules"]), name
        assert kind["relative_to_bp"]["symmetric"] == 1.0
        assert all("expected" in why for why in kind["refused"].values())
    assert not found["kinds"]["LIF, traces"]["refused"]
    assert "zeroth_order" in found["kinds"]["streams, counts"]["refused"]


def test_the_scaling_benchmark_has_curves_floors_and_the_limits_of_the_machine(left: Path) -> None:
    found = stored(left, "scaling")
    assert list(found["axes"]) == ["T", "depth", "width"]
    for axis in found["axes"].values():
        assert len(axis["values"]) == len(axis["points"]) > 1
        for row in axis["points"]:
            assert row.keys() == METHODS
            assert all(case["floor_milliseconds"]["median"] > 0 for case in row.values())
        assert all(laws["time"]["exponent"] is not None for laws in axis["exponents"].values())
    assert all(case["peak_bytes"] > 0 for case in found["axes"]["T"]["points"][-1].values())
    assert found["limits"]["gemm_gflops"].keys() == {"float32", "bfloat16"}
    assert found["limits"]["gigabytes_per_second"] > 0


def test_the_start_benchmark_runs_whole_processes(left: Path) -> None:
    found = stored(left, "start")
    ms = found["milliseconds"]
    assert ms.keys() >= {"import torch", "import aplysia", "aplysia --help", "first epoch"}
    assert all(0 < told["low"] <= told["median"] <= told["high"] for told in ms.values())
    assert found["missing"].keys() == {"first epoch, compiled, cold", "first epoch, compiled, warm"}


def test_the_page_is_made_of_what_is_there_and_says_what_is_not(left: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib (extra 'figures')")
    import page_speed

    results = tmp_path / "results"
    shutil.copytree(left, results)
    page_speed.main(["--results", str(results), "--docs", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / "speed.md").read_text()
    assert "no `train_step.json`" in text
    assert "no `conv_step.json`" not in text
    assert "says nothing about speed" in text
    assert "| `upside` |" in text
    assert "| `zeroth_order` |" in text
    assert re.search(r"\| `zeroth_order` \|.* – \|", text)
    for picture in re.findall(r"\]\((.+\.svg)\)", text):
        drawn = (tmp_path / "docs" / picture).read_text()
        assert "ottt_bp" in drawn
        assert "</svg>" in drawn
    # Numbers come from the files: another number, another page.
    changed = stored(left, "conv_step")
    changed["samples_per_second"]["ottt_bp"] = 123456.0
    (results / "conv_step.json").write_text(json.dumps(changed))
    (results / "scaling.json").unlink()
    page_speed.main(["--results", str(results), "--docs", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / "speed.md").read_text()
    assert "123,456.0" in text
    assert "no `scaling.json`" in text


def test_the_suite_goes_on_when_one_fails_and_keeps_the_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.py").write_text("raise SystemExit(3)")
    (tmp_path / "mute.py").write_text("")
    (tmp_path / "good.py").write_text("import sys; open(sys.argv[sys.argv.index('--json') + 1], 'w').write('{}')")
    monkeypatch.setattr(suite, "HERE", tmp_path)
    monkeypatch.setattr(suite, "BENCHMARKS", {"bad": False, "mute": True, "good": True})
    out = tmp_path / "out"
    out.mkdir()
    (out / "bad.json").write_text("older")
    assert suite.main(["--out", str(out)]) == 1
    assert (out / "bad.json").read_text() == "older"
    assert "provenance" in json.loads((out / "good.json").read_text())
    assert sorted(path.name for path in out.iterdir()) == ["bad.json", "good.json"]
    told = capsys.readouterr()
    assert "[1/3] bad: exit status 3" in told.out
    assert "[3/3] good: done" in told.out
    assert "bad (exit status 3)" in told.err
    assert "mute (left no file)" in told.err
    assert suite.main(["--out", str(out), "--only", "good"]) == 0


def test_the_suite_knows_every_benchmark_it_names() -> None:
    for name, takes_device in suite.BENCHMARKS.items():
        source = (BENCHMARKS / f"{name}.py").read_text()
        assert "--json" in source
        assert takes_device == ("command.parser" in source), name


# --- the fit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-0.5, 0.0, 1.0, 2.3])
def test_a_known_power_law_is_found(exponent: float) -> None:
    xs = [1.0, 2.0, 4.0, 8.0, 16.0]
    law = power_law(xs, [3.0 * x**exponent for x in xs])
    assert law is not None
    assert law.exponent == pytest.approx(exponent, abs=1e-12)
    assert law.factor == pytest.approx(3.0)
    assert law.error == pytest.approx(0.0, abs=1e-9)


def test_the_standard_error_is_that_of_a_regression() -> None:
    # By hand: logs (0, 1, 2) against (0, 1, 3): slope 3/2, residuals 1/6, −1/3, 1/6, so s² = 1/6 and the error √(1/12).
    law = power_law([1.0, torch.e, torch.e**2], [1.0, torch.e, torch.e**3])
    assert law is not None
    assert law.exponent == pytest.approx(1.5)
    assert law.error == pytest.approx((1 / 12) ** 0.5)


def test_what_does_not_grow_is_left_out_by_the_upper_half() -> None:
    xs = [2.0**k for k in range(10)]
    ys = [100.0 + x**2 for x in xs]
    whole, upper = power_law(xs, ys), power_law(*upper_half(xs, ys))
    assert whole is not None
    assert upper is not None
    assert upper.points == 5
    assert abs(upper.exponent - 2) < abs(whole.exponent - 2) < 1.8
    assert upper_half([3.0, 1.0, 2.0], [30.0, 10.0, 20.0]) == ([2.0, 3.0], [20.0, 30.0])


def test_no_law_goes_through_one_point_or_through_nothing() -> None:
    assert power_law([2.0], [1.0]) is None
    assert power_law([1.0, 2.0], [0.0, 1.0]) is None
    law = power_law([1.0, 2.0], [1.0, 2.0])
    assert law is not None
    assert law.error is None


# --- floors, counted work, the roof ------------------------------------------------------------------------------------


def test_a_floor_is_the_products_of_the_net_the_first_layer_once() -> None:
    net = aplysia.mlp(20, [30], 10)
    assert floors.operations(net, batch=4, steps=3) == {
        "forward": 2 * (4 * 20 * 30 + 12 * 30 * 10),
        "weight gradients": 2 * (4 * 20 * 30 + 12 * 30 * 10),
        "input gradients": 2 * 12 * 30 * 10,
    }
    for part, step in floors.parts(net, batch=4, steps=3).items():
        assert traffic.of(step).operations == floors.operations(net, batch=4, steps=3)[part]


def test_floors_are_summed_within_a_round_and_made_of_the_fastest_variant() -> None:
    floor = floors.Floor(aplysia.mlp(20, [30], 10), 4, 3, {"narrow": {"dtype": torch.bfloat16}, "wide": {}})
    made = floor.contestants()
    assert len(made) == 6
    for step in made.values():
        step()
    seconds = {name: [1.0, 2.0, 3.0] if name.endswith("wide") else [2.0, 9.0, 9.0] for name in made}
    seconds["ours"] = [6.0, 6.0, 18.0]
    told = floor.settle(seconds)
    assert told["variant"] == "wide"
    assert seconds == {"ours": [6.0, 6.0, 18.0], "floor_chained": [3.0, 6.0, 9.0], "floor_direct": [2.0, 4.0, 6.0]}
    assert told["gflops"]["floor_chained"]["wide"] == pytest.approx(sum(told["operations"].values()) / 6.0 / 1e9)
    assert floors.times(seconds, {"ours": floors.CHAINED}) == {"ours": 2.0}
    assert floors.times(seconds, {"ours": floors.DIRECT}) == {"ours": 3.0}


def test_the_page_says_what_bounds_the_dense_step(left: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib (extra 'figures')")
    import page_speed

    race = stored(left, "conv_step")
    ratios = dict.fromkeys(METHODS | FULL, 2.0)
    race |= {"steps": 6, "spike_rates": [0.1, 0.2], "best_peer": "a", "best_hoisted_peer": "b"}
    race |= {"ratio_to_best_peer": ratios, "ratio_to_best_hoisted_peer": ratios}
    race["times_floor"]["ottt_bp"] = race["times_floor"]["ottt_bp_full"] = 4.0
    del race["net"]
    (tmp_path / "train_step.json").write_text(json.dumps({"quick": False, "T6": race}))
    shutil.copy(left / "scaling.json", tmp_path)
    text = page_speed.page(tmp_path, tmp_path)
    assert "### What bounds it at T = 6" in text
    assert "`ottt_bp` 4.00" in text
    assert "**`ottt_bp`**: It leaves the zeros of spikes out of its products" in text
    assert "**`ottt_bp_full`**: Its own products are the smaller part of it, 25%" in text
    assert "Machine and commit were not recorded." in text


def test_bytes_are_what_operations_read_and_write() -> None:
    a, b = torch.zeros(8, 4), torch.zeros(4, 2)
    assert traffic.of(lambda: a @ b) == (2 * 8 * 4 * 2, 4 * (8 * 4 + 4 * 2 + 8 * 2))
    assert traffic.of(lambda: a.t()[1:]) == (0, 0)
    # What repeats itself is stored once.
    assert traffic.of(lambda: a[:1].expand(100, 4) + 0.0).bytes == 4 * (4 + 400)


def test_the_roof_is_memory_left_of_the_ridge_and_products_right_of_it() -> None:
    roof = bounds.Roof(gflops=100.0, narrow=200.0, gigabytes=10.0)
    assert roof.ridge == 10.0
    assert roof.allows(5.0) == 50.0
    assert roof.allows(50.0) == 100.0
    moved = bounds.Case("moved", ms=10.0, floor_ms=1.0, operations=10**8, bytes=8 * 10**7)
    assert moved.bound(roof) == "memory"
    assert "left of the ridge" in bounds.sentences(moved, roof)
    dense = bounds.Case("dense", ms=10.0, floor_ms=9.5, operations=9 * 10**8, bytes=10**6)
    assert dense.bound(roof) == "products"
    assert "right of the ridge" in bounds.sentences(dense, roof)
    assert "little but its own products, 95%" in bounds.sentences(dense, roof)
    idle = bounds.Case("idle", ms=10.0, floor_ms=1.0, operations=10**6, bytes=10**5)
    assert idle.bound(roof) == "calls and element-wise work"


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.name)
def test_a_benchmark_names_no_machine_and_needs_neither_torchvision_nor_torchaudio(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"[\"'\s(](/work|/tmp/|/home/|/Users/|/root/)", text)
    names = {n.names[0].name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import)}
    names |= {n.module or "" for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)}
    assert not {name for name in names if name.split(".")[0] in ("torchvision", "torchaudio")}


def test_what_fires_is_the_same_in_every_round() -> None:
    """Nets are not to learn the batch they are timed on: where zeros are left out, another net is another step."""
    import train_step

    for factor in (1.0, train_step.BUSY):
        step = train_step.ours(aplysia.rules.Symmetric(), aplysia.temporal.Trace(), 6, factor=factor)
        first = step().spikes
        assert bool((first[:2] > 0).all())
        for _ in range(5):
            last = step().spikes
        assert torch.equal(first, last)
    assert train_step.rates(6)[0] < train_step.rates(6, train_step.BUSY)[0] < 0.4
