"""Rules of this code base that a reader of the source could check by eye, checked by machine."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import aplysia.credit.spatial
import aplysia.ops.scan

SOURCE = Path(inspect.getfile(aplysia.ops.scan)).parents[1]
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
CORE = [path for path in FILES if path.relative_to(SOURCE).parts[0] in ("ops", "neurons", "nets", "credit")]
SPATIAL = [p for p in FILES if p.parent == SOURCE / "credit" / "spatial" and not p.name.startswith("_")]
TEMPORAL = [p for p in FILES if p.parent == SOURCE / "credit" / "temporal"]


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


each_file = pytest.mark.parametrize("path", FILES, ids=name)


def imports(tree: ast.AST) -> set[str]:
    made: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            made |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            made |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return made


def classes(tree: ast.AST) -> list[ast.ClassDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def bases(node: ast.ClassDef) -> list[str]:
    named = [b.value if isinstance(b, ast.Subscript) else b for b in node.bases]
    return [b.id if isinstance(b, ast.Name) else b.attr for b in named if isinstance(b, ast.Name | ast.Attribute)]


def test_the_source_is_found() -> None:
    assert len(CORE) > 20
    assert len(SPATIAL) >= 8


@pytest.mark.parametrize("path", CORE, ids=name)
def test_nothing_is_reset(path: Path) -> None:
    """State goes in and comes out, so there is nothing to reset. (Outside the core a progress bar must have one for pooch.)"""
    found = [
        n.name
        for n in ast.walk(TREES[path])
        if isinstance(n, ast.FunctionDef) and re.fullmatch(r"_*reset(_.*)?", n.name)
    ]
    assert not found


@each_file
def test_torchvision_and_torchaudio_are_never_imported(path: Path) -> None:
    assert not {m for m in imports(TREES[path]) if m.split(".")[0] in ("torchvision", "torchaudio")}


def test_a_class_is_abstract_or_final() -> None:
    """Only classes named Abstract… (and errors) are subclassed inside the library."""
    ours = {node.name for tree in TREES.values() for node in classes(tree)}
    for path, tree in TREES.items():
        for node in classes(tree):
            for base in bases(node):
                assert base not in ours or base.lstrip("_").startswith("Abstract") or base.endswith("Error"), (
                    f"{name(path)}: {node.name} subclasses the concrete {base}"
                )


def test_an_implemented_method_is_not_overridden_except_where_the_base_says_so() -> None:
    """What does nothing in the base of rules and schemes may be replaced; `error` and `of_logits` of a loss too."""
    may = {"check_net", "check_optimiser", "check_loss", "after", "trained", "observe", "slopes", "plants", "delta"}
    may |= {
        "fresh",
        "memory",
        "predict",
        "endless",
        "plant",
        "skips_zeros",
        "settled",
        "shortens",
        "on_errors",
        "carried",
        "same_step",
        "draw_all",
        "scan_sloped",
        "outer_of_traces",
        "sum_traced",
        "sum_joined",
    }
    # What they say of their costs.
    may |= {"learning", "errors", "transported", "charges"}
    may |= {"error", "of_logits", "__init__", "__post_init__"}
    nodes = {node.name: node for tree in TREES.values() for node in classes(tree)}

    def implemented(node: ast.ClassDef) -> set[str]:
        own = {
            f.name
            for f in node.body
            if isinstance(f, ast.FunctionDef) and not any("abstract" in ast.dump(d) for d in f.decorator_list)
        }
        return own.union(*(implemented(nodes[b]) for b in bases(node) if b in nodes))

    for path in CORE:
        for node in classes(TREES[path]):
            own = {f.name for f in node.body if isinstance(f, ast.FunctionDef)}
            above: set[str] = set().union(*(implemented(nodes[b]) for b in bases(node) if b in nodes))
            assert not (own & above) - may, f"{name(path)}: {node.name} overrides {(own & above) - may}"


@pytest.mark.parametrize("path", CORE, ids=name)
def test_everything_public_is_described(path: Path) -> None:
    tree = TREES[path]
    if tree.body:
        assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
        if isinstance(node, ast.ClassDef) and node.name.startswith("Abstract"):
            for method in node.body:
                abstract = isinstance(method, ast.FunctionDef) and any(
                    "abstract" in ast.dump(d) for d in method.decorator_list
                )
                assert not abstract or ast.get_docstring(method), f"{node.name}.{method.name} has no docstring"  # type: ignore[attr-defined]


def test_space_and_time_do_not_know_each_other() -> None:
    for path in SPATIAL:
        assert not any(m.startswith("aplysia.credit.temporal") for m in imports(TREES[path])), name(path)
    for path in TEMPORAL:
        assert not any(m.startswith("aplysia.credit.spatial") for m in imports(TREES[path])), name(path)


@pytest.mark.parametrize("path", SPATIAL, ids=name)
def test_a_rule_has_a_file_of_its_own_and_imports_no_other_rule(path: Path) -> None:
    if path.name == "__init__.py":
        assert not classes(TREES[path])
        return
    kinds = [
        n for n in classes(TREES[path]) if set(bases(n)) & {"AbstractSpatial", "AbstractChained", "AbstractSeeded"}
    ]
    finals = [n.name for n in kinds if not n.name.startswith("Abstract")]
    assert len(finals) == 1
    assert finals[0].lower().startswith(path.stem.replace("_", ""))
    assert not any(m.startswith("aplysia.credit.spatial") for m in imports(TREES[path]))


@each_file
def test_no_path_of_a_machine_is_in_the_source(path: Path) -> None:
    assert not re.search(r"[\"'\s(](/work|/tmp/|/home/|/Users/|/root/)", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", CORE, ids=name)
def test_nothing_draws_from_the_process_wide_generator(path: Path) -> None:
    """Every draw names its generator, so that a run has no history but its seed."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in (
                "randn",
                "rand",
                "randint",
                "randperm",
                "bernoulli",
                "normal_",
                "uniform_",
                "bernoulli_",
            ):
                assert any(k.arg == "generator" for k in node.keywords), f"line {node.lineno}"
            assert node.func.attr not in ("randn_like", "rand_like", "manual_seed") or path.name == "rng.py", (
                f"line {node.lineno}"
            )
