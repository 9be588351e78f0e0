"""Tables by name, by path and from plugin folders; wrong use ends in one sentence and trains nothing."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from aplysia.cli import main
from aplysia.errors import AplysiaError, RecipeError
from aplysia.grid.choose import parse_seeds, pick
from aplysia.recipes import find as find_recipe
from aplysia.rules import __all__ as rules
from aplysia.tables import find, tables
from aplysia.tables.base import Published, Row, Table, slug

BASE = find_recipe("digits-mlp")
OWN = """
from aplysia.recipes import find
from aplysia.tables.base import Row, Table

def helper():
    return 3

def my_table() -> Table:
    return Table(title="mine?", rows=(Row("BP", find("digits-mlp")),), baseline="BP")
"""


def aplysia(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The command in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["aplysia", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


# ── discovery ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_table_that_ships_is_sound_and_writes_its_recipes() -> None:
    for name, function in tables().items():
        assert function.__doc__ is not None, name
        table = find(name)
        assert table.name == name
        assert table.title
        assert all(row.published is None or row.published.source for row in table.rows)


def test_the_digits_table_has_every_rule() -> None:
    table = find("digits-rules")
    assert {type(row.recipe.rule).__name__ for row in table.rows} == set(rules)
    assert table.rows[0].name == table.baseline == "symmetric"
    assert all(row.recipe.compiled is False and row.recipe.data.name == "digits" for row in table.rows)


def test_a_table_of_the_users_own_by_path_and_from_a_plugin_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    for text in (f"{tmp_path}/mine.py", f"{tmp_path}/mine.py:my_table"):
        assert find(text).name == "my-table"
    assert "my-table" not in tables()
    monkeypatch.setenv("APLYSIA_PLUGINS", str(tmp_path))
    assert find("my-table").title == "mine?"
    assert "helper" not in tables()
    assert aplysia(monkeypatch, "list", "tables") == 0
    said = capsys.readouterr().out
    assert re.search(r"^my-table +mine\? +1 +BP$", said, re.M)
    assert re.search(r"^digits-rules ", said, re.M)
    (tmp_path / "other.py").write_text(OWN)
    with pytest.raises(RecipeError, match="one function of this name"):
        tables()


# ── wrong use ────────────────────────────────────────────────────────────────────────────────────────────────────────

REFUSED = {
    "unknown table": (["digit-rules"], "did you mean 'digits-rules'"),
    "no such file": (["nowhere.py:f"], "no such file"),
    "file without a table": (["none.py"], "define a function annotated -> Table"),
    "other function": (["mine.py:mi_table"], "did you mean 'my-table'"),
    "bad seeds": (["digits-rules", "--seeds", "0,x"], "--seeds: expected whole numbers"),
    "negative seed": (["digits-rules", "--seeds", "-1"], "--seeds: expected whole numbers"),
    "no seeds": (["digits-rules", "--seeds", ""], "--seeds: expected whole numbers"),
    "range backwards": (["digits-rules", "--seeds", "3-1"], "--seeds: expected whole numbers"),
    "seed twice": (["digits-rules", "--seeds", "0-2,1"], "each seed once"),
    "bad pattern": (["digits-rules", "--rows", "symmetrical"], "did you mean 'symmetric'"),
    "one bad pattern of two": (["digits-rules", "--rows", "symmetric", "--rows", "zzz*"], "known: "),
    "no jobs": (["digits-rules", "--jobs", "0"], "--jobs"),
    "unknown key": (["digits-rules", "--set", "epoch=1"], "row 'symmetric', epoch: .*did you mean 'epochs'"),
    "key of one rule": (["digits-rules", "--set", "rule.scale=1"], "row '.*', rule.scale"),
    "seed as a setting": (["digits-rules", "--set", "seed=3"], "use --seeds"),
    "bad device": (["digits-rules", "--device", "gpu"], "auto, cpu or cuda"),
    "nothing to show": (["digits-rules", "--show"], "leave out --show"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_wrong_use_ends_in_one_sentence_and_leaves_nothing(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "none.py").write_text("def helper():\n    return 3\n")
    before = {path for path in tmp_path.rglob("*") if path.suffix != ".pyc"}
    arguments, says = REFUSED[case]
    assert aplysia(monkeypatch, "table", *arguments) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert errors[0].endswith(".")
    assert re.search(says, errors[0])
    left = {path for path in tmp_path.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}
    assert left == before


def test_a_place_that_is_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("")
    assert aplysia(monkeypatch, "table", "digits-rules", "--out", str(tmp_path / "out")) == 1
    assert "error: " in capsys.readouterr().err


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "seeds"), [("0", (0,)), ("0,1,2", (0, 1, 2)), ("3, 1", (3, 1)), ("0-2,7", (0, 1, 2, 7)), ("4-4", (4,))]
)
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


def test_rows_are_picked_by_name_folder_and_group() -> None:
    names = ("BP", "fBP Φ=10", "fBP Φ=[100]", "FA")
    made = Table(title="t", rows=tuple(Row(n, BASE, group="random" if n == "FA" else "") for n in names), baseline="BP")

    def picked(*patterns: str) -> list[str]:
        return [row.name for row in pick(made, patterns)]

    assert picked() == list(names)
    assert picked("fbp*") == ["fBP Φ=10", "fBP Φ=[100]"]
    assert picked("random", "bp") == ["BP", "FA"]
    assert picked("fBP Φ=[100]") == ["fBP Φ=[100]"]
    assert picked("fbp-phi-1?") == ["fBP Φ=10"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("fBP Φ=1000", "fbp-phi-1000"), ("sign_symmetric, fixed", "sign-symmetric-fixed"), ("Leak 0.5", "leak-0.5")),
        *(("BP (ours)", "bp-ours"), ("Käse", "kase"), ("../..", "")),
    ],
)
def test_names_of_folders_are_plain(name: str, text: str) -> None:
    assert slug(name) == text


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Table(title="t", rows=(), baseline="a"), "at least one row"),
        (lambda: Table(title="t", rows=(Row("a", BASE),), baseline="b"), "a baseline that is a row"),
        (lambda: Table(title="t", rows=(Row("a b", BASE), Row("A-B", BASE)), baseline="a b"), "share the folder a-b"),
        (lambda: Table(title="t", rows=(Row("a", BASE), Row("a", BASE)), baseline="a"), "rename one"),
        (lambda: Table(title="t", rows=(Row("…", BASE),), baseline="…"), "with a letter or digit"),
        (lambda: Published(0.98, ""), "published source"),
        (lambda: Published(980, "x"), "published value"),
        (lambda: Published(-1, "x"), r"a number in \[0, 100\]"),
        (lambda: Published(-1, "x", unit="points"), "published unit"),  # type: ignore[arg-type]
        (lambda: Published(1, "x", "sure"), "published certainty"),  # type: ignore[arg-type]
    ],
)
def test_a_table_that_makes_no_sense_is_refused(make: object, says: str) -> None:
    with pytest.raises(AplysiaError, match=says):
        make()  # type: ignore[operator]


def test_settings_change_every_row_and_nothing_else() -> None:
    table = Table(title="t", rows=(Row("a", BASE), Row("b", replace(BASE, steps=4))), baseline="a")
    changed = table.changed(["epochs=2"])
    assert [row.recipe for row in changed.rows] == [replace(row.recipe, epochs=2) for row in table.rows]
    assert changed.settings == ("epochs=2",)
    assert table.changed([]) is table
    assert Published(-0.5, "x", unit="pp").value == -0.5
