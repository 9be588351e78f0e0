"""What the documents say is executed: the worked example of CONTRIBUTING.md, the snippets and commands of the README."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(), re.M | re.S)


def commands(document: str) -> list[str]:
    lines = [line for block in blocks(document, "console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ aplysia")]


def run(command: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env=dict(os.environ),
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_the_worked_example_is_a_whole_rule_that_trains(tmp_path: Path) -> None:
    (example,) = blocks("CONTRIBUTING.md", "python")
    (tmp_path / "fading_signs.py").write_text(example)
    (command,) = commands("CONTRIBUTING.md")
    said = run(command + " --epochs 2 --set net=F32-F32-F10", tmp_path)
    accuracy = float(re.findall(r"test accuracy (\d+\.\d+)%", said)[0])
    assert accuracy > 40  # chance is 10


@pytest.mark.parametrize("number", range(len(blocks("README.md", "python"))))
def test_the_snippets_of_the_readme_run(tmp_path: Path, number: int) -> None:
    (tmp_path / "snippet.py").write_text(blocks("README.md", "python")[number])
    done = subprocess.run([sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_snippet_on_many_processes_runs_in_one(tmp_path: Path) -> None:
    (snippet,) = blocks("docs/many_runs.md", "python")
    (tmp_path / "snippet.py").write_text(snippet)
    done = subprocess.run([sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", commands("README.md"))
def test_the_commands_of_the_readme_are_accepted(tmp_path: Path, command: str) -> None:
    """Commands on data that are not shipped are parsed and refused for the missing data alone; demo has a test of its own."""
    if command.startswith("aplysia demo"):
        pytest.skip("tests/test_demo.py runs it")
    if "digits" in command or command.startswith("aplysia list"):
        run(command + (" --epochs 1" if command.startswith("aplysia run") else ""), tmp_path)
        return
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command), "--data", str(tmp_path / "none")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=dict(os.environ) | {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"},
    )
    assert re.search(r"error: .*(data set|download|fetch)", done.stderr), done.stderr


def test_the_page_on_exchange_runs_from_its_top_to_its_end(tmp_path: Path) -> None:
    for package in ("nir", "snntorch"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extras 'nir' and 'peers')")
    for command in commands("docs/exchange.md"):
        said = run(command, tmp_path)
        if "export" in command:
            assert "weights equal bit for bit" in said
    page = "\n".join(blocks("docs/exchange.md", "python"))
    (tmp_path / "page.py").write_text(page)
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_no_document_names_a_file_that_is_not_there() -> None:
    for document in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/design.md",
        "docs/neurons.md",
        "docs/nets.md",
        "docs/devices.md",
        "docs/results.md",
        "docs/tuning.md",
        "docs/report.md",
        "docs/exchange.md",
    ):
        text = (ROOT / document).read_text()
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
            assert ((ROOT / document).parent / link).exists(), f"{document} links to {link}"
