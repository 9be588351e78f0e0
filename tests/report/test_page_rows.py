"""The numbers of a report: rows out of runs, costs out of ledgers, and folders that are named and left out."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil

import pytest
from page_parts import PRICES, entry, ledger, make_run, make_runs, write

from aplysia.errors import RecipeError, RunError
from aplysia.report.page_command import Request, report
from aplysia.report.page_costs import Energy, Joules, costs
from aplysia.report.page_figures import front, panels, styles, tradeoffs
from aplysia.report.page_rows import Page, PageRow, collect
from aplysia.report.page_runs import Thin
from aplysia.report.page_svg import Scale, cut, shortened, spread
from aplysia.report.page_table import csv_text, markdown, warnings


def named(page: Page, name: str) -> PageRow:
    return next(row for row in page.rows if row.name == name)


def test_runs_that_differ_in_nothing_but_the_seed_make_a_row(tmp_path):
    page = collect([make_runs(tmp_path)])
    assert [row.name for row in page.rows] == ["symmetric", "direct_feedback", "frozen"]
    assert [[run.seed for run in row.runs] for row in page.rows] == [[0, 1, 2]] * 3
    assert page.baseline == "symmetric"  # the only row of backpropagation
    assert page.title == "What does rule change on fashion_mnist?"
    exact = named(page, "symmetric")
    assert exact.accuracy.mean == pytest.approx(90.2)
    assert exact.accuracy.sd == pytest.approx(0.2)
    assert exact.is_baseline
    assert exact.difference is None
    assert exact.rates == {"dense1": pytest.approx(0.11), "dense2": pytest.approx(0.3)}
    assert named(page, "frozen").words == pytest.approx(0.01)


def test_differences_are_paired_over_equal_seeds_and_noise_is_said_plainly(tmp_path):
    page = collect([make_runs(tmp_path)])
    frozen, direct = (named(page, name).difference for name in ("frozen", "direct_feedback"))
    assert frozen is not None
    assert direct is not None
    assert frozen.mean == pytest.approx(0.0)  # -0.4, +0.6, -0.2
    assert frozen.sd == pytest.approx(math.sqrt((0.16 + 0.36 + 0.04) / 2))
    assert frozen.within_noise
    assert direct.mean == pytest.approx(-10 + 0.1 / 3)
    assert direct.within_noise is False
    assert warnings(page) == ["1 of 2 differences is inside the noise: its 95 % interval holds 0."]


def test_only_seeds_that_both_have_are_paired(tmp_path):
    make_runs(tmp_path)
    shutil.rmtree(tmp_path / "bp-0")
    make_run(tmp_path / "frozen-7", seed=7, accuracy=0.1, rule="frozen")
    difference = named(collect([tmp_path]), "frozen").difference
    assert difference is not None
    assert (difference.n, difference.mean) == (2, pytest.approx(0.2))


def test_baseline_by_name(tmp_path):
    page = collect([make_runs(tmp_path)], baseline="frozen", title="Mine?")
    assert (page.baseline, page.title) == ("frozen", "Mine?")
    assert named(page, "symmetric").difference is not None
    with pytest.raises(RunError, match="did you mean 'frozen'"):
        collect([tmp_path], baseline="frozn")


def test_no_baseline_is_chosen_where_none_is_plain(tmp_path):
    for lr in (0.1, 0.2):
        make_run(tmp_path / f"r{lr}", seed=0, accuracy=0.9, lr=lr)
    page = collect([tmp_path])
    assert [row.name for row in page.rows] == ["symmetric, lr=0.1", "symmetric, lr=0.2"]
    assert page.baseline is None
    assert "--baseline" in warnings(page)[0]
    assert "None" not in markdown(page)


def test_one_seed_tells_nothing_from_noise(tmp_path):
    make_run(tmp_path / "a", seed=0, accuracy=0.9)
    make_run(tmp_path / "b", seed=0, accuracy=0.8, rule="frozen")
    assert warnings(collect([tmp_path])) == ["One seed alone tells nothing from noise: frozen."]


def test_a_table_names_its_rows_orders_them_and_asks_the_question(tmp_path):
    make_run(tmp_path / "a-row-s0", seed=0, accuracy=0.8, rule="frozen")
    make_run(tmp_path / "bp-s0", seed=0, accuracy=0.9)
    rows = [{"row": "BP", "slug": "bp", "group": "exact"}, {"row": "A row", "slug": "a-row", "group": None}]
    write(tmp_path, "table.json", {"title": "Why?", "note": "A note.", "baseline": "BP", "rows": rows})
    page = collect([tmp_path])
    assert [(row.name, row.group) for row in page.rows] == [("BP", "exact"), ("A row", "")]
    assert (page.title, page.baseline, page.notes) == ("Why?", "BP", ("A note.",))


def test_costs_are_those_added_up_by_hand(tmp_path):
    row = named(collect([make_runs(tmp_path)]), "symmetric")
    assert row.operations is not None
    assert row.accesses is not None
    assert row.memory is not None
    # A batch of 10: (1000 + 2000 + 500) / 10 forward; the run's transport of 12,000 accesses over its 1,000 samples.
    assert row.operations.parts == {"forward": 350.0, "error": 300.0, "update": 80.0}
    assert row.accesses.parts == {"forward": 350.0, "error": 300.0, "update": 70.0, "transport": 12.0}
    assert row.memory.parts == {"weights": 5000.0, "feedback": 1000.0, "optimiser": 10000.0}
    assert not row.operations.bound
    assert row.needs == ("weight transport", "update locking")


def test_a_part_that_is_not_known_makes_a_lower_bound():
    unknown = ledger()
    unknown["step"].append(entry("dense1", "error", macs=None))
    found = costs(unknown, "here")
    assert found is not None
    assert found.operations.bound
    assert found.operations.total == 730.0
    assert not found.accesses.bound
    without = ledger()
    del without["run"], without["memory"], without["properties"]
    less = costs(without, "here")
    assert less is not None
    assert (less.memory, less.needs) == (None, None)


def test_energy_comes_from_the_function_that_is_handed_in(tmp_path):
    page = collect([make_runs(tmp_path)], energy=PRICES)
    assert {row.energy for row in page.rows} == {Joules(12.0, 10.0, 20.0, True, ("hop",))}
    assert "≥ 12 (10 to 20)" in markdown(page)
    assert "energy: a chip, made up; ≥ is a lower bound, and ranks nothing: no number for hop" in markdown(page)
    assert "energy_lower_bound" in csv_text(page)
    assert "energy" not in markdown(collect([tmp_path]))


def test_a_chip_prices_a_trained_sample(tmp_path, capsys):
    make_run(tmp_path / "a", seed=0, accuracy=0.9, costs=ledger())
    out = tmp_path / "page.csv"
    report(Request((tmp_path,), out, chip="generic-45nm-fp32"))
    [row] = csv.DictReader(out.read_text().splitlines())
    # A batch of 10 has 1000 + 3000 + 800 MACs at 4.6 pJ, 2500 ACs at 0.9, and reads at 50, 3500 forward and 3000 of the error;
    # transport reads 6000 words in 1000 samples and writes them at 50; its words have no price, random numbers neither.
    by_hand = (4800 * 4.6 + 2500 * 0.9 + (6500 + 700) * 50) / 10 + (6000 + 6000) * 50 / 1000
    assert float(row["energy_pj"]) == pytest.approx(by_hand, rel=1e-12)
    assert row["energy_lower_bound"] == "1"
    assert float(row["energy_low_pj"]) < by_hand < float(row["energy_high_pj"])


def test_a_chip_that_is_not_there_is_named(tmp_path):
    make_run(tmp_path / "a", seed=0, accuracy=0.9, costs=ledger())
    with pytest.raises(RecipeError, match="loihi1-davies"):
        report(Request((tmp_path,), chip="loihi1-davis"))


def test_ledgers_of_old_runs_are_passed_over(tmp_path):
    assert costs({"steps": 5064, "transport": {"words": 1}}, "here") is None


def test_damaged_unfinished_and_newer_folders_are_named_and_left_out(tmp_path, capsys):
    good = make_run(tmp_path / "good", seed=0, accuracy=0.9, costs=ledger(surprise=1))
    for name in (
        "no-summary",
        "half-json",
        "nan",
        "bad-line",
        "newer",
        "newer-ledger",
        "bad-ledger",
        "stopped",
        "again",
    ):
        shutil.copytree(good, tmp_path / name)
    (tmp_path / "no-summary" / "summary.json").unlink()
    (tmp_path / "half-json" / "summary.json").write_text('{"test_acc')
    (tmp_path / "nan" / "summary.json").write_text('{"test_accuracy": NaN}')
    (tmp_path / "bad-line" / "metrics.jsonl").write_text("{}}\n{}\n")
    for name, part in (("newer", "summary.json"), ("newer-ledger", "ledger.json")):
        old = json.loads((good / part).read_text())
        write(tmp_path / name, part, old | {"version": 2})
    write(tmp_path / "bad-ledger", "ledger.json", ledger(step=[{"phase": "forward"}]))
    write(tmp_path / "stopped", "summary.json", {"status": "stopped", "test_accuracy": 0.5})
    out = tmp_path / "report.md"
    report(Request((tmp_path, tmp_path / "nowhere"), out))
    page, said = collect([tmp_path, tmp_path / "nowhere"]), capsys.readouterr().err
    left = {one.path.name for one in page.left_out}
    assert left == {path.name for path in tmp_path.iterdir() if path.is_dir()} - {"again"} - {"good"} | {
        "nowhere",
        "good",
    }
    assert [run.path.name for run in page.runs] == ["again"]  # the first of two with the same recipe and seed
    for name in left:
        assert f"left out: {tmp_path / name}: " in said
        assert f"left out: {name}: " in out.read_text()
    assert str(tmp_path) not in out.read_text()
    assert said.count("version 1 or older, got version 2") == 2


def test_a_half_last_line_is_no_damage(tmp_path):
    run = make_run(tmp_path / "run", seed=0, accuracy=0.9)
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 4, "val_acc')
    curve = collect([run]).rows[0].learning
    assert curve is not None
    assert curve.x == (1.0, 2.0, 3.0)
    assert curve.mean == pytest.approx((80.0, 85.0, 90 - 10 / 3))


def test_nothing_finished_is_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="expected a finished run, got none") as caught:
        report(Request((tmp_path / "empty",), tmp_path / "report.html"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_csv_has_all_digits_and_no_formula(tmp_path, capsys):
    make_runs(tmp_path)
    make_run(tmp_path / "evil", seed=0, accuracy=0.5, rule="=1+1")
    report(Request((tmp_path,), form="csv"))
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert float(rows["symmetric"]["accuracy_mean"]) == pytest.approx(90.2, abs=1e-12)
    assert rows["symmetric"]["is_baseline"] == "1"
    assert rows["symmetric"]["difference_mean"] == ""
    assert rows["frozen"]["difference_within_noise"] == "1"
    assert rows["direct_feedback"]["difference_within_noise"] == "0"
    assert rows["symmetric"]["seeds"] == "0 1 2"
    assert float(rows["symmetric"]["operations"]) == 730.0
    assert "'=1+1" in rows
    assert csv_text(collect([tmp_path])).count("\n") == 5


def test_markdown_says_what_the_page_says(tmp_path):
    text = markdown(collect([make_runs(tmp_path)]))
    assert "| symmetric | 90.20 ± 0.20 (3) | 89.70 to 90.70 | baseline | 1 | 1 | 730 | 16 k | weight transport" in text
    assert "inside the noise |" in text
    assert "its 95 % interval holds 0" in text


def test_format_follows_the_name(tmp_path, capsys):
    make_runs(tmp_path / "runs")
    for name, start in (("a.csv", "row,group"), ("a.md", "**What"), ("a.html", "<!doctype html>")):
        report(Request((tmp_path / "runs",), tmp_path / name))
        assert (tmp_path / name).read_text().startswith(start)
    report(Request((tmp_path / "runs",), tmp_path / "b.txt", form="csv"))
    assert (tmp_path / "b.txt").read_text() == (tmp_path / "a.csv").read_text()
    assert "9 runs in 3 rows" in capsys.readouterr().out


def test_thinned_curves_of_equal_length_keep_the_same_points():
    one, other = Thin(), Thin()
    for x in range(1000):
        one.add(x, 1.0)
        other.add(x, 2.0)
    assert one.x == other.x
    assert len(one.x) < 120
    assert one.x[0] == 0.0


def test_front_holds_those_that_nothing_beats():
    # Cheapest, better, worse and dearer, best, as good as the best and dearer.
    assert front([(1.0, 10.0), (2.0, 20.0), (3.0, 15.0), (4.0, 30.0), (5.0, 30.0)]) == [0, 1, 3]
    assert front([(2.0, 1.0), (1.0, 1.0), (1.0, 3.0)]) == [2]


def test_rows_in_a_panel_are_told_apart_by_more_than_colour(tmp_path):
    for n in range(20):
        make_run(tmp_path / f"r{n:02d}", seed=0, accuracy=0.5, lr=0.01 * (n + 1))
    rows = collect([tmp_path], baseline="symmetric, lr=0.01").rows
    styled = styles(rows)
    assert sorted(i for _, members in panels(rows) for i in members) == list(range(20))
    for _, members in panels(rows):
        assert len({styled[i].colour for i in members}) == len(members) <= 8
    assert len(set(styled)) == 20


def test_scales_and_labels():
    assert Scale(0.0, 10.0, 0.0, 100.0).ticks(5) == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert Scale(0.001, 1.0, 0.0, 300.0, log=True)(0.1) == pytest.approx(200.0)
    assert Scale(0.001, 1.0, 0.0, 300.0, log=True).ticks(5) == pytest.approx([0.001, 0.01, 0.1, 1.0])
    assert spread([5.0, 5.0, 5.0], 10.0, 0.0, 100.0) == [5.0, 15.0, 25.0]
    assert spread([99.0, 99.0], 10.0, 0.0, 100.0) == [90.0, 100.0]
    assert cut("a" * 30, 9) == "aaaa…aaaa"[:4] + "…" + "aaaa"
    assert shortened(["fBP random Φ=100 ρ=10 %", "fBP random Φ=10 ρ=1 %", "BP"], 15) == [
        "…Φ=100 ρ=10 %",
        "…Φ=10 ρ=1 %",
        "BP",
    ]


def test_a_lower_bound_takes_no_part_in_the_front(tmp_path):
    def drawn(bound: bool) -> str:
        prices = Energy("a chip", "made up", lambda found: Joules(1.0 * found["step"][2]["macs"], 1.0, 9e3, bound))
        return next(f for f in tradeoffs(collect([tmp_path], energy=prices).rows) if "energy" in f.title).drawings[0]

    make_runs(tmp_path)
    firm, loose = drawn(False), drawn(True)
    assert ' front"' in firm
    assert "›" not in firm
    assert ' front"' not in loose
    assert loose.count("›") == 3
    assert "pJ: ≥ " in loose
