"""Intervals that are searched: as text, as a file, by default; what makes no sense is refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aplysia.credit.contract import AbstractSpatial
from aplysia.errors import AplysiaError, RecipeError
from aplysia.plugins import catalogue
from aplysia.recipes import find
from aplysia.train.codec import describe, override
from aplysia.train.recipe import AXES
from aplysia.tune.space import Range, default_space, fitted, parse_range, parse_search, read_spaces

BASE = find("digits-mlp")
RULES = catalogue(AXES[AbstractSpatial], AbstractSpatial)


def one_sentence(error: AplysiaError) -> bool:
    return re.fullmatch(r"[^\n]+: expected [^\n]+, got [^\n]+; [^\n]+\.", str(error)) is not None


# ── text ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("text", ["0.01:1:log", "-1:2", "3:4", "1e-05:0.1:log"])
def test_an_interval_is_read_and_written(text: str) -> None:
    interval = parse_range("key", text)
    assert interval.text == text
    assert parse_range("key", interval.text) == interval


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1:",
        ":",
        "1:2:3",
        "1:2:lin",
        "a:b",
        "2:1",
        "1:1",
        "0:1:log",
        "-1:1:log",
        "nan:1",
        "0:inf",
        "1:2:log:log",
    ],
)
def test_an_interval_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_range("optimiser.lr", text)
    assert one_sentence(refused.value)
    assert "optimiser.lr" in str(refused.value)


@pytest.mark.parametrize("texts", [["0.1:1"], ["=1:2"], ["a=1:2", "a=1:3"]])
def test_a_search_without_a_key_or_with_one_twice_is_refused(texts: list[str]) -> None:
    with pytest.raises(RecipeError) as refused:
        parse_search(texts)
    assert one_sentence(refused.value)


def test_the_ends_of_an_interval() -> None:
    linear, log = Range(0.0, 100.0), Range(1e-4, 1.0, log=True)
    assert linear.near_end(4.0)
    assert linear.near_end(96.0)
    assert not linear.near_end(6.0)
    assert log.near_end(1.2e-4)
    assert not log.near_end(1e-3)
    assert linear.holds(100.0)
    assert not linear.holds(100.1)


# ── fitting a recipe ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_keys_that_take_whole_numbers_are_searched_in_those() -> None:
    space = fitted(parse_search(["steps=2:10", "neuron.leak=0.1:0.9", "clip=0.5:2"]), BASE)
    assert {key: interval.whole for key, interval in space.items()} == {
        "steps": True,
        "neuron.leak": False,
        "clip": False,
    }


def test_a_second_name_of_a_key_is_taken() -> None:
    assert list(fitted(parse_search(["stream_length=2:10"]), BASE)) == ["steps"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimiser.rate=0.1:1", "optimiser"),
        ("learning_rate=0.1:1", "learning_rate"),
        ("rule.scale=0.1:1", "rule.scale"),
        ("rule=1:2", "a number"),
        ("name=1:2", "a number"),
        ("steps=1.5:4", "whole"),
        ("steps=0:4", "at least 1"),
        ("neuron.leak=0.1:1.5", "leak"),
    ],
)
def test_what_the_recipe_does_not_take_is_refused_before_anything_is_trained(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as refused:
        fitted(parse_search([text]), BASE)
    assert one_sentence(refused.value)


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least one key"):
        fitted({}, BASE)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_of_spaces(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('[all]\noptimiser.lr = "0.01:1:log"\n[direct_feedback]\n"rule.scale" = "0.1:2"\n[symmetric]\n')
    assert read_spaces(file, RULES) == {
        "all": {"optimiser.lr": Range(0.01, 1.0, log=True)},
        "direct_feedback": {"rule.scale": Range(0.1, 2.0)},
        "symmetric": {},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[direct_feedbak]\na = '1:2'", "direct_feedback"),
        ("optimiser.lr = '1:2", "TOML"),
        ("lr = '1:2'", "outside"),
        ("[all]\nlr = '2:1'", "LOW < HIGH"),
        ("[all]\nlr = [1, 2]", "LOW:HIGH"),
        (b"\xff", "TOML"),
    ],
)
def test_a_file_that_holds_none_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    file = tmp_path / "space.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecipeError, match=said) as refused:
        read_spaces(file, RULES)
    assert one_sentence(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file"):
        read_spaces(tmp_path / "none.toml", RULES)


# ── what rules name ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_learning_rate_is_searched_around_the_recipes() -> None:
    assert default_space(BASE) == {"optimiser.lr": Range(0.02, 2.0, log=True)}


@pytest.mark.parametrize("name", RULES)
def test_what_a_rule_names_can_be_set_and_holds_its_own_default(name: str) -> None:
    recipe = override(BASE, [f"rule={name}"], AXES)
    now = {key: text for key, text, _ in describe(recipe, AXES)}
    space = fitted(default_space(recipe), recipe)
    assert "optimiser.lr" in space
    for key, interval in space.items():
        assert interval.low < float(now[key]) < interval.high, key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("direct_feedback", "scale"),
        ("zeroth_order", "scale"),
        ("direct_kolen_pollack", "rate"),
        ("kolen_pollack", "decay"),
        ("pseudo_zeroth_order", "feedback.momentum"),
        ("forward_gradient", "feedback.momentum"),
        ("weight_mirror", "rate"),
        ("local_loss", "local.weight"),
    ],
)
def test_rules_with_a_scale_of_their_own_name_it(name: str, key: str) -> None:
    assert f"rule.{key}" in default_space(override(BASE, [f"rule={name}"], AXES))


def test_the_document_lists_what_rules_name() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tuning.md").read_text(encoding="utf-8")
    named = [
        f"| `{name}` | `rule.{key}` | {low:g} to {high:g}{', log' if log else ''} |"
        for name, rule in RULES.items()
        for key, (low, high, log) in rule.tunable.items()  # type: ignore[attr-defined]
    ]
    assert re.findall(r"^\| `\w+` \| `rule\..*$", text, re.M) == named
