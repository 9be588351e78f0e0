"""A new file is found without an edit elsewhere; what cannot be found or loaded is told in one sentence."""

from __future__ import annotations

import ast
import pickle
import sys
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from aplysia import plugins
from aplysia.errors import RecipeError

BASE = """
from abc import ABC, abstractmethod
class AbstractRule(ABC):
    @abstractmethod
    def go(self): ...
"""
RULE = """
from dataclasses import dataclass
from {package}.base import AbstractRule
@dataclass(frozen=True)
class {cls}(AbstractRule):
    scale: float = 1.0
    def go(self): return "{cls}"
"""


class Shop:
    """A package of rules made for one test."""

    def __init__(self, root: Path, name: str) -> None:
        self.folder, self.name = root / name, name
        self.folder.mkdir()
        self.write("__init__", "")
        self.write("base", BASE)
        self.rule("first", "FirstRule")

    def write(self, stem: str, text: str) -> None:
        (self.folder / f"{stem}.py").write_text(text)

    def rule(self, stem: str, *classes: str) -> None:
        self.write(stem, "".join(RULE.format(package=self.name, cls=cls) for cls in classes))

    @property
    def base(self) -> type:
        return __import__(f"{self.name}.base", fromlist=["AbstractRule"]).AbstractRule


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Shop:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv(plugins.FOLDERS, raising=False)
    return Shop(tmp_path, f"shop_{abs(hash(request.node.nodeid))}")


def test_walk_names_by_file_or_by_class(shop: Shop) -> None:
    shop.rule("pair", "HTTPRule", "Other")
    shop.write("again", f"from {shop.name}.first import FirstRule\n")  # what is imported is not defined here
    shop.write("_tools", "x = 1\n")
    shop.write("middle", f"from {shop.name}.base import AbstractRule\nclass AbstractSeeded(AbstractRule): ...\n")
    found = plugins.walk(shop.name, shop.base)
    assert {name: cls.__name__ for name, cls in found.items()} == {
        "first": "FirstRule",
        "http": "HTTPRule",
        "other": "Other",
    }


def test_a_class_with_a_method_left_abstract_is_not_final(shop: Shop) -> None:
    shop.write("half", f"from {shop.name}.base import AbstractRule\nclass Half(AbstractRule): ...\n")
    assert "half" not in plugins.walk(shop.name, shop.base)


def test_an_import_error_is_never_skipped(shop: Shop) -> None:
    shop.write("broken", "import a_module_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        plugins.walk(shop.name, shop.base)


def test_a_plain_module_gives_its_classes_short_and_long(shop: Shop) -> None:
    shop.rule("many", "SoftRule", "HardRule")
    module = f"{shop.name}.many"
    assert sorted(plugins.walk(module, shop.base)) == ["hard", "soft"]
    assert plugins.resolve("soft", module, shop.base) is plugins.resolve("soft_rule", module, shop.base)


def test_resolve_tells_near_names(shop: Shop) -> None:
    with pytest.raises(RecipeError, match=r"rule: expected the name of a rule.*got 'frist'; did you mean 'first'"):
        plugins.resolve("frist", shop.name, shop.base)


def test_a_user_file_by_path(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "my-rule.py"
    mine.write_text(RULE.format(package=shop.name, cls="Mine"))
    monkeypatch.chdir(tmp_path)
    cls = plugins.resolve("my-rule.py", shop.name, shop.base)
    assert cls is plugins.resolve(f"{mine}:Mine", shop.name, shop.base)  # one file is one class, however it is named
    assert plugins.source_of(cls) == mine
    assert plugins.source_of(shop.base) is None
    assert pickle.loads(pickle.dumps(cls())) == cls()
    name = plugins.name_of(cls, shop.name, shop.base)
    assert name == f"{mine}:Mine"
    assert plugins.resolve(name, shop.name, shop.base) is cls


def test_two_user_files_with_the_same_class_name(shop: Shop, tmp_path: Path) -> None:
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(
            RULE.format(package=shop.name, cls="Mine") + f"    folder = '{folder}'\n"
        )
        found.append(plugins.resolve(str(tmp_path / folder / "mine.py"), shop.name, shop.base))
    first, second = found
    assert first is not second
    assert (vars(first)["folder"], vars(second)["folder"]) == ("a", "b")
    assert type(pickle.loads(pickle.dumps(first()))) is first
    assert plugins.name_of(first, shop.name, shop.base) != plugins.name_of(second, shop.name, shop.base)


@pytest.mark.parametrize(
    ("text", "body", "sentence"),
    [
        ("gone.py", None, "expected a Python file, got no such file"),
        ("x.py", "x = 1\n", "expected a class derived from AbstractRule that leaves no method abstract, got none"),
        ("x.py", "A B", "expected one class derived from AbstractRule, got 2: A, B; choose one by '.*x.py:A'"),
        ("x.py:AA", "A BB", "got 'AA'; did you mean 'A'"),
        ("x.py", "def f(:\n", r"x\.py, line 1: expected a file that can be imported, got SyntaxError"),
        ("x.py", "a = 1\n\nb = 1 / 0\n", r"x\.py, line 3: .* got ZeroDivisionError: division by zero; mend the file"),
    ],
)
def test_sentences_about_user_files(shop: Shop, tmp_path: Path, text: str, body: str | None, sentence: str) -> None:
    if body is not None:
        plain = "=" in body or "def" in body
        code = body if plain else "".join(RULE.format(package=shop.name, cls=cls) for cls in body.split())
        (tmp_path / "x.py").write_text(code)
    with pytest.raises(RecipeError, match=sentence):
        plugins.resolve(str(tmp_path / text), shop.name, shop.base)


def test_a_file_that_failed_can_be_mended_and_keeps_its_cause(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("raise KeyError('k')\n")
    before = set(sys.modules)
    with pytest.raises(RecipeError) as caught:
        plugins.load_file(file, shop.base)
    assert {name for name in set(sys.modules) - before if name.startswith("aplysia_file_x")} == set()
    assert isinstance(caught.value.__cause__, KeyError)
    file.write_text(RULE.format(package=shop.name, cls="Mine"))
    assert list(plugins.load_file(file, shop.base)) == ["x"]


def test_plugin_folders(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "new.py").write_text(RULE.format(package=shop.name, cls="New"))
    (extra / "for_another_axis.py").write_text("x = 1\n")
    monkeypatch.setenv(plugins.FOLDERS, str(extra))
    assert list(plugins.catalogue(shop.name, shop.base)) == ["first", "new"]
    cls = plugins.resolve("new", shop.name, shop.base)
    assert plugins.name_of(cls, shop.name, shop.base) == "new"
    (extra / "first.py").write_text(RULE.format(package=shop.name, cls="Mine"))
    with pytest.raises(
        RecipeError, match=r"rule 'first': expected one class.*two, from .*first and .*first\.py; rename"
    ):
        plugins.catalogue(shop.name, shop.base)
    monkeypatch.setenv(plugins.FOLDERS, str(tmp_path / "nowhere"))
    with pytest.raises(RecipeError, match=r"APLYSIA_PLUGINS: expected folders that exist, got '.*nowhere'"):
        plugins.extra_folders()


def test_a_class_from_nowhere_has_no_name(shop: Shop) -> None:
    stray = type("Stray", (shop.base,), {"go": lambda self: None})
    with pytest.raises(RecipeError, match=r"got .*Stray; put it into a file of its own"):
        plugins.name_of(stray, shop.name, shop.base)


def test_the_shipped_axes_are_found() -> None:
    from aplysia.ops.scan import AbstractReset, HardReset, SoftReset
    from aplysia.ops.surrogate import AbstractSurrogate

    assert plugins.walk("aplysia.ops.scan", AbstractReset) == {"soft": SoftReset, "hard": HardReset}
    assert {"arctan", "rectangle", "sigmoid", "triangle"} <= set(
        plugins.walk("aplysia.ops.surrogate", AbstractSurrogate)
    )


class AbstractThing(ABC):
    @abstractmethod
    def go(self) -> None: ...


class OneThing(AbstractThing):
    def go(self) -> None: ...


class _Hidden(AbstractThing):
    def go(self) -> None: ...


def test_a_module_object_will_do_and_hidden_classes_stay_hidden() -> None:
    assert plugins.walk(sys.modules[__name__], AbstractThing) == {"one": OneThing}


@pytest.mark.parametrize("module", ["plugins", "train.codec", "train.log"])
def test_torch_is_not_imported(module: str) -> None:
    """The command line imports these before it knows whether it needs torch at all."""
    source = Path(plugins.__file__).parent / (module.replace(".", "/") + ".py")
    imported: set[str] = set()
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    ours = {name for name in imported if name.startswith("aplysia")}
    assert ours <= {"aplysia.errors", "aplysia.plugins"}
    assert {name.partition(".")[0] for name in imported - ours} <= sys.stdlib_module_names
