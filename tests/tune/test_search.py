"""A search in one process: the same for every rule, the same again from the same seed, gone on with, and what it leaves."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aplysia.cli import main
from aplysia.errors import AplysiaError, PairError, RecipeError, RunError
from aplysia.recipes import find
from aplysia.train import trainer
from aplysia.train.codec import decode, override
from aplysia.train.folder import RunFolder
from aplysia.train.recipe import AXES, Recipe
from aplysia.tune import command
from aplysia.tune.bench import Bench
from aplysia.tune.command import Request, planned, tune
from aplysia.tune.plan import load

SMALL: dict[str, Any] = {"settings": ("net=F32-F10",), "samples": 200, "epochs": 2}


def request(out: Path, **changes: Any) -> Request:
    return Request(**({"name": "digits-mlp", "trials": 2, "out": out} | SMALL | changes))


def trials(out: Path) -> list[dict[str, str]]:
    with open(out / "trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def aplysia(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["aplysia", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


# ── the search ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_rule_gets_the_same_search_and_its_best_is_a_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["tune", "digits-mlp", "--set", "net=F32-F10", "--rules", "symmetric,direct_feedback", "--trials", "3"]
    words += ["--samples", "200", "--epochs", "2", "--search", "optimiser.lr=0.02:0.5:log", "--device", "cpu"]
    assert aplysia(monkeypatch, *words) == 0
    said, out = capsys.readouterr().out, Path("runs/tune/digits-mlp")
    assert "2 rules × 3 trials" in said
    assert "trials a rule: 3; epochs: 2; training samples: 200, 25% of them held out; seed: 100" in said
    assert "searched for symmetric, direct_feedback: optimiser.lr=0.02:0.5:log" in said

    done = trials(out)
    assert [(row["rule"], row["trial"], row["state"]) for row in done] == [
        (rule, str(n), "done") for rule in ("symmetric", "direct_feedback") for n in range(3)
    ]
    lrs = {
        rule: [row["optimiser.lr"] for row in done if row["rule"] == rule] for rule in ("symmetric", "direct_feedback")
    }
    assert lrs["symmetric"] == lrs["direct_feedback"]  # random trials are the same for all
    assert lrs["symmetric"][0] == "0.2"  # the recipe's own comes first
    assert len(set(lrs["symmetric"])) == 3

    stored = json.loads((out / "study.json").read_text())
    assert stored["budget"] == {
        "trials": 3, "seed": 100, "samples": 200, "epochs": 2, "validation": 0.25, "pruning": True,
    }  # fmt: skip
    for rule, slug in (("symmetric", "symmetric"), ("direct_feedback", "direct-feedback")):
        best = max((row for row in done if row["rule"] == rule), key=lambda row: float(row["held_out_accuracy"]))
        assert stored["rules"][rule]["trials"] == {"done": 3, "pruned": 0, "failed": 0, "running": 0}
        assert stored["rules"][rule]["best"]["accuracy"] == float(best["held_out_accuracy"]) > 0.1
        made = find(str(out / slug / "best.json"))
        settings = [f"rule={rule}", "net=F32-F10", f"optimiser.lr={best['optimiser.lr']}"]
        assert made == override(find("digits-mlp"), settings, AXES)  # its epochs and samples are the recipe's own
    assert aplysia(monkeypatch, "run", str(out / "direct-feedback/best.json"), "--epochs", "1", "--out", "again") == 0
    assert json.loads(Path("again/summary.json").read_text())["rule"] == "direct_feedback"


def test_a_trial_is_an_ordinary_run_of_the_budget(tmp_path: Path) -> None:
    tune(request(tmp_path / "out", trials=1, seed=7, validation=0.5))
    folder = RunFolder(tmp_path / "out" / "symmetric" / "trial-000")
    recipe = decode(Recipe, folder.read_json("recipe.json"), AXES)
    assert recipe == replace(find("digits-mlp"), net="F32-F10", seed=7, validation=0.5, train_samples=200, epochs=2)
    summary = folder.read_json("summary.json")
    assert [float(row["held_out_accuracy"]) for row in trials(tmp_path / "out")] == [summary["val_accuracy"]]


def test_the_same_seed_gives_the_same_trials_and_another_one_others(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        tune(request(tmp_path / name, trials=7, seed=seed, epochs=1, samples=100, search=("optimiser.lr=0.01:1:log",)))
    a, b, c = (trials(tmp_path / name) for name in "abc")
    assert a == b
    assert [row["optimiser.lr"] for row in a][1:] != [row["optimiser.lr"] for row in c][1:]
    assert len({row["optimiser.lr"] for row in a}) == 7


def test_a_second_call_goes_on_to_the_number_in_all(tmp_path: Path) -> None:
    tune(request(tmp_path / "two", trials=2))
    first = trials(tmp_path / "two")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "two").rglob("summary.json")}
    tune(request(tmp_path / "two", trials=4))
    tune(request(tmp_path / "four", trials=4))
    assert trials(tmp_path / "two")[:2] == first
    assert trials(tmp_path / "two") == trials(tmp_path / "four")
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    tune(request(tmp_path / "two", trials=1))  # there are more already
    assert len(trials(tmp_path / "two")) == 4


def test_rules_can_join_a_search_and_then_have_as_many_trials(tmp_path: Path) -> None:
    tune(request(tmp_path / "out", rules="symmetric", trials=2))
    tune(request(tmp_path / "out", rules="readout_only", trials=1))
    tune(request(tmp_path / "out", trials=1))  # no rules named: those there are
    assert [(row["rule"], row["trial"]) for row in trials(tmp_path / "out")] == [
        (rule, str(n)) for rule in ("symmetric", "readout_only") for n in range(2)
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed"),
        ({"epochs": 3}, "epochs"),
        ({"samples": None}, "samples"),
        ({"validation": 0.3}, "validation"),
        ({"pruning": False}, "pruning"),
        ({"search": ("optimiser.lr=0.1:1",)}, "space of symmetric"),
        ({"settings": ("net=F16-F10",)}, "net"),
        ({"settings": ("net=F32-F10", "rule.noise.alpha=0.1")}, "recipe"),
        ({"name": "ssnn-digits", "settings": ()}, "recipe"),
    ],
)
def test_a_search_of_another_budget_space_or_recipe_is_not_mixed_in(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    tune(request(tmp_path, trials=1))
    before = (tmp_path / "study.json").read_text()
    with pytest.raises(RunError, match=said):
        tune(request(tmp_path, **changes))
    assert (tmp_path / "study.json").read_text() == before


# ── pruning and trials that fail ─────────────────────────────────────────────────────────────────────────────────────


def test_trials_below_the_median_are_pruned_and_no_others(tmp_path: Path) -> None:
    # Rates this small learn nothing, so half of the trials lie far below the others from their first epoch on. Of four
    # epochs the first is left alone.
    asked = {"trials": 12, "epochs": 4, "search": ("optimiser.lr=0.000001:0.3:log",)}
    tune(request(tmp_path / "pruned", **asked))
    tune(request(tmp_path / "whole", **asked, pruning=False))
    rows = trials(tmp_path / "pruned")
    cut = [row for row in rows if row["state"] == "pruned"]
    assert cut
    assert all(int(row["trial"]) >= 5 and 2 <= int(row["epochs"]) < 4 for row in cut)
    best = max(float(row["held_out_accuracy"]) for row in rows if row["state"] == "done")
    assert all(float(row["held_out_accuracy"]) < best for row in cut)
    assert all(row["state"] == "done" and row["epochs"] == "4" for row in trials(tmp_path / "whole"))
    counts = json.loads((tmp_path / "pruned" / "study.json").read_text())["rules"]["symmetric"]["trials"]
    assert counts == {"done": 12 - len(cut), "pruned": len(cut), "failed": 0, "running": 0}

    # A pruned trial is a run that can go on.
    folder = RunFolder(tmp_path / "pruned" / "symmetric" / f"trial-{int(cut[0]['trial']):03}")
    assert not folder.finished
    assert folder.has_checkpoint
    with pytest.MonkeyPatch.context() as patch:
        assert aplysia(patch, "run", "digits-mlp", "--resume", "--out", str(folder.path)) == 0
    assert len(folder.metrics()) == 4


def test_weights_that_run_away_are_an_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"trials": 3, "search": ("optimiser.lr=1e36:1e38:log",)}
    assert tune(request(tmp_path, **asked)) == 1
    rows = trials(tmp_path)
    assert [row["state"] for row in rows] == ["failed"] * 3
    assert all(row["held_out_accuracy"] == "0.0" and "expected" in row["why"] for row in rows)
    said = capsys.readouterr().out
    assert "failed: symmetric 0: layer" in said
    assert json.loads((tmp_path / "study.json").read_text())["rules"]["symmetric"]["best"] is None
    assert not (tmp_path / "symmetric" / "best.json").exists()


def test_a_held_out_loss_that_is_not_finite_is_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "evaluate", lambda *_: {"loss": float("inf"), "accuracy": 0.5})
    assert tune(request(tmp_path, trials=1)) == 1
    (row,) = trials(tmp_path)
    assert (row["state"], row["held_out_accuracy"]) == ("failed", "0.0")
    assert row["why"].startswith("loss, validation after epoch 1: expected a finite number, got inf")


def test_a_rule_that_makes_no_sense_on_the_net_ends_the_search(tmp_path: Path) -> None:
    settings = ("net=F16-F16-F10", "standardise=true")
    with pytest.raises(PairError, match="KolenPollack"):
        tune(request(tmp_path, rules="symmetric,kolen_pollack", settings=settings))


def test_a_mistake_of_the_user_ends_the_search_and_the_trial_waits(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    asked = {"name": "fmnist-mlp", "settings": (), "out": tmp_path / "out", "data": tmp_path / "none"}
    for _ in range(3):  # as often as one likes: no trial is used up
        with pytest.raises(AplysiaError):
            tune(request(**asked))
    plan = load(tmp_path / "out")
    assert plan is not None
    bench = Bench(plan, tmp_path / "out", None)
    assert [one.state for one in bench.outcomes()] == ["running"]
    bench.close()


# ── wrong use ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trials": 0}, "--trials"),
        ({"trials": -3}, "--trials"),
        ({"jobs": 0}, "--jobs"),
        ({"validation": 0.0}, "--validation"),
        ({"validation": 1.5}, "--validation"),
        ({"samples": 0}, "train_samples"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"rules": "symmetrik"}, "symmetric"),
        ({"rules": " , "}, "--rules"),
        ({"rules": "symmetric,symmetric"}, "each rule once"),
        ({"search": ("a=1:2",), "space": Path("b.toml")}, "both"),
        ({"search": ("optimiser.lr=1:0.1",)}, "LOW < HIGH"),
        ({"search": ("optimiser.lr=:",)}, "optimiser.lr"),
        ({"search": ("rule.scale=0.1:1",), "rules": "direct_feedback,symmetric"}, "rule.scale"),
        ({"settings": ("net=F32-F11",), "trials": 0}, "--trials"),
        ({"name": "digits-mpl"}, "digits-mlp"),
        ({"storage": "nonsense"}, "--storage"),
        ({"storage": "nonsense://host/db"}, "--storage"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AplysiaError, match=said) as refused:
        tune(request(tmp_path / "out", **changes))
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("trial-*"))


def test_a_run_folder_is_no_folder_for_a_search(tmp_path: Path) -> None:
    tune(request(tmp_path / "out", trials=1))
    with pytest.raises(RunError, match="without a run"):
        tune(request(tmp_path / "out" / "symmetric" / "trial-000"))


def test_a_search_stays_with_its_data_base(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    tune(request(tmp_path / "far", trials=1, storage=url))
    tune(request(tmp_path / "other", trials=1, storage=url))  # one data base serves many searches
    assert not (tmp_path / "far" / "study.db").exists()
    with pytest.raises(RunError, match="repeat the --storage"):
        tune(request(tmp_path / "far", trials=2))
    tune(request(tmp_path / "far", trials=2, storage=url))
    assert [len(trials(tmp_path / name)) for name in ("far", "other")] == [2, 1]
    tune(request(tmp_path / "near", trials=1))
    with pytest.raises(RunError, match="leave out --storage"):
        tune(request(tmp_path / "near", trials=2, storage=url))


def test_without_optuna_the_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunError, match=r"pip install 'aplysia\[tune\]'"):
        tune(request(tmp_path / "out"))


def test_a_damaged_study_is_named(tmp_path: Path) -> None:
    tune(request(tmp_path, trials=1))
    stored = json.loads((tmp_path / "study.json").read_text())
    for damage, said in ((stored | {"version": 2}, "newer"), (stored | {"rules": 3}, "damage"), ([], "damage")):
        (tmp_path / "study.json").write_text(json.dumps(damage))
        with pytest.raises(RunError, match=said):
            tune(request(tmp_path, trials=1))


def test_a_space_by_file_holds_for_all_and_for_one(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('[all]\noptimiser.lr = "0.1:1:log"\n[direct_feedback]\nrule.scale = "0.1:2"\n')
    asked = request(tmp_path / "out", rules="symmetric,direct_feedback", space=file)
    plan = planned(asked, asked.recipe())
    assert [list(one.space) for one in plan.contenders] == [["optimiser.lr"], ["optimiser.lr", "rule.scale"]]


def test_the_command_that_goes_on_names_everything(tmp_path: Path) -> None:
    asked = request(tmp_path, seed=5, pruning=False, search=("optimiser.lr=0.1:1",), jobs=3)
    said = command._again(asked)
    for part in ("--trials 2", "--seed 5", "--no-prune", "--search optimiser.lr=0.1:1", "--jobs 3", "--samples 200"):
        assert part in said


# ── recipes that were written down ───────────────────────────────────────────────────────────────────────────────────


def test_a_recipe_is_taken_by_the_path_of_its_json(tmp_path: Path) -> None:
    tune(request(tmp_path, trials=1))
    assert find(str(tmp_path / "symmetric" / "trial-000" / "recipe.json")).train_samples == 200


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "existing"), ("{", "JSON"), ("[1]", "object"), ('{"name": "x"}', "data"), ('{"nme": "x"}', "nme")],
)
def test_a_json_that_is_no_recipe_is_refused(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "recipe.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=said):
        find(str(path))
