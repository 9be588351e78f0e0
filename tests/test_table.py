"""`aplysia table`: only what is missing is trained, and nothing that happens meanwhile changes a number."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aplysia.errors import RunError
from aplysia.grid.command import FAILED, INTERRUPTED, Request, make, show
from aplysia.report.cells import cell, read
from aplysia.tables import find
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.run import Run

TABLES = """
from dataclasses import replace
from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.recipes import find
from aplysia.tables.base import Published, Row, Table

BASE = replace(find("digits-mlp"), net="F16-F10", epochs=1, validation=0.0, compiled=False)

def tiny() -> Table:
    random = Row("random Φ", replace(BASE, rule=FeedbackAlignment()), Published(90.0, "nobody"))
    return Table(title="tiny?", rows=(Row("BP", BASE), random), baseline="BP")

def broken() -> Table:
    return Table(title="broken?", rows=(Row("bad net", replace(BASE, net="F16-F7")), Row("BP", BASE)), baseline="BP")

def long() -> Table:
    return Table(title="long?", rows=(Row("BP", replace(BASE, epochs=20, net="F64-F64-F10")),), baseline="BP")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the tables above in it, which is the current one."""
    (tmp_path / "mine.py").write_text(TABLES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table `tiny` over two seeds, trained once for all tests that only look at it."""
    place = tmp_path_factory.mktemp("trained")
    (place / "mine.py").write_text(TABLES)
    assert make(Request(name=f"{place}/mine.py:tiny", seeds="0,1", out=place / "out", jobs=1)) == 0
    return place / "out"


@pytest.fixture
def store(trained: Path, place: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(trained, place / "out"))


def tiny(**changes: object) -> Request:
    return replace(Request(name="mine.py:tiny", seeds="0,1", out=Path("out"), jobs=1), **changes)


def stamps(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in sorted(folder.rglob("*")) if "-s" in p.parent.name and p.is_file()}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same_weights(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def whole(name: str, folder: Path) -> Path:
    """The first row's first cell, trained in this process without a table around it."""
    recipe = find(name).rows[0].cell(0)
    quiet = Progress(recipe.epochs, shown=False)
    Run(recipe, RunFolder.create(folder, resume=False), torch.device("cpu"), progress=quiet).execute()
    return folder


# ── what is there afterwards ─────────────────────────────────────────────────────────────────────────────────────────


def test_cells_are_ordinary_runs_and_the_numbers_are_theirs(store: Path, place: Path) -> None:
    names = {path.name for path in store.iterdir() if path.is_dir()}
    assert names == {"bp-s0", "bp-s1", "random-phi-s0", "random-phi-s1"}
    assert {"table.json", "table.md", "table.html"} <= {path.name for path in store.iterdir()}
    found = {name: json.loads((store / name / "summary.json").read_text()) for name in names}
    stored = json.loads((store / "table.json").read_text())
    accuracy = [100 * found[f"bp-s{seed}"]["test_accuracy"] for seed in (0, 1)]
    assert stored["rows"][0]["accuracy"]["mean"] == pytest.approx(sum(accuracy) / 2)
    assert stored["rows"][1]["words_of_bp"] == 0
    assert same_weights(whole("mine.py:tiny", place / "alone"), store / "bp-s0")


def test_a_second_call_trains_nothing_and_shows_the_same(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, text = stamps(store), (store / "table.md").read_text()
    assert make(tiny()) == 0
    assert "2 rows × 2 seeds, 0 to train" in capsys.readouterr().out
    assert stamps(store) == before
    assert (store / "table.md").read_text() == text


def test_show_only_reads(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(store / "bp-s1")
    for name in ("table.json", "table.md", "table.html"):
        (store / name).unlink()
    before = sorted(store.rglob("*"))
    assert show(tiny(seeds=None)) == 0
    said = capsys.readouterr().out
    assert "missing: BP s1" in said
    assert re.search(r"^random Φ +\d+\.\d\d ± \d+\.\d\d \(2\) +[+-]", said, re.M)
    assert re.search(r"^BP +\d+\.\d\d \(1\) +baseline", said, re.M)
    assert "[1] nobody (confirmed)" in said
    assert sorted(store.rglob("*")) == before


def test_an_export_is_small_names_no_folder_and_can_be_shown(
    store: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(tiny(seeds=None, export=Path("kept"))) == 0
    first = capsys.readouterr().out.partition("exported")[0]
    files = [path for path in Path("kept").rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in files) < 1_000_000
    assert not [path for path in files if str(place) in path.read_text()]
    assert {path.name for path in Path("kept/bp-s0").iterdir()} == {"summary.json", "recipe.json", "run.json"}
    shutil.rmtree(store)
    assert show(tiny(seeds=None, out=Path("kept"))) == 0
    assert capsys.readouterr().out == first
    with pytest.raises(RunError, match="other than --out"):
        show(tiny(out=Path("kept"), export=Path("kept")))


# ── what does not fit ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("settings", [("batch_size=32",), ("rule=direct_feedback",), ("neuron.leak=0.7",)])
@pytest.mark.parametrize("act", [make, show], ids=["make", "show"])
def test_cells_of_another_recipe_are_refused(store: Path, settings: tuple[str], act: Callable[[Request], int]) -> None:
    before = stamps(store)
    key, _, value = settings[0].partition("=")
    with pytest.raises(RunError, match=rf"bp-s0: expected a cell with {re.escape(key)}={value}.*choose another --out"):
        act(tiny(settings=settings, rows=("BP",), seeds="7"))  # even where the cells asked for are not there yet
    assert stamps(store) == before


def test_a_recipe_written_before_a_key_existed_and_another_choice_of_kernels_still_fit(store: Path) -> None:
    path = store / "bp-s0" / "recipe.json"
    stored = json.loads(path.read_text())
    del stored["clip"]
    path.write_text(json.dumps(stored | {"compiled": None}))
    assert make(tiny()) == 0


@pytest.mark.parametrize("text", ["{", '{"test_accuracy": 0.9}', '{"test_accuracy": "high", "transport": 3}', "[]"])
def test_a_damaged_summary_is_named_and_the_rest_is_shown(
    store: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "bp-s1" / "summary.json").write_text(text)
    for act in (show, make):
        assert act(tiny()) == FAILED
        said = capsys.readouterr().out
        assert re.search(r"failed: BP s1: .*bp-s1/summary\.json: expected", said)
        assert re.search(r"^BP +\d+\.\d\d \(1, 1 failed\)", said, re.M)


def test_a_lost_summary_is_computed_again_from_the_checkpoint(store: Path) -> None:
    path = store / "bp-s1" / "summary.json"
    before, kept = json.loads(path.read_text()), (store / "bp-s1" / "metrics.jsonl").read_text()
    path.unlink()
    assert make(tiny()) == 0
    assert json.loads(path.read_text())["test_accuracy"] == before["test_accuracy"]
    assert (store / "bp-s1" / "metrics.jsonl").read_text() == kept


def test_a_failing_row_stops_no_other(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(Request(name="mine.py:broken", seeds="0", out=Path("out"), jobs=1)) == FAILED
    said = capsys.readouterr().out
    assert re.search(r"^bad net +failed ", said, re.M)
    assert re.search(r"^BP +\d+\.\d\d \(1\)", said, re.M)
    assert re.search(r"^failed: bad net s0: .*F10\.$", said, re.M)
    assert json.loads(Path("out/table.json").read_text())["rows"][0]["failed"]["0"].endswith("F10.")


def test_two_calls_do_not_train_into_one_folder(store: Path) -> None:
    import fcntl

    with open(store / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="at work"):
            make(tiny())
    assert make(tiny()) == 0


# ── what is stopped ──────────────────────────────────────────────────────────────────────────────────────────────────


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def epochs(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_workers(folder: Path, times: int) -> threading.Thread:
    """Kill as many processes of this one's, each when it has trained for a while."""

    def kill() -> None:
        killed: list[int | None] = []
        for _ in range(times):
            until(lambda: [p for p in multiprocessing.active_children() if p.pid not in killed])
            (process,) = [p for p in multiprocessing.active_children() if p.pid not in killed]
            began, facts = time.time(), folder / "run.json"
            until(lambda began=began, facts=facts: facts.exists() and facts.stat().st_mtime > began)
            until(lambda: epochs(folder) >= 2)
            assert process.pid is not None
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_a_killed_process_is_replaced_once(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = Request(name="mine.py:long", seeds="0", out=Path("out"), jobs=1)
    folder = Path("out/bp-s0")
    for times, code in ((2, FAILED), (1, 0)):
        thread = kill_workers(folder, times)
        assert make(request) == code
        thread.join()
        assert ("ended by signal 9 2 times" in capsys.readouterr().out) is (code == FAILED)
    assert same_weights(whole("mine.py:long", place / "alone"), folder)


def start(place: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "aplysia",
        "table",
        "mine.py:long",
        "--seeds",
        "0,1",
        "--out",
        "out",
        "--jobs",
        "1",
    ]
    return subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_a_table_stopped_in_every_way_ends_with_the_weights_of_one_that_never_was(place: Path) -> None:
    folder = place / "out" / "bp-s0"
    for how in ("ctrl-c", "kill -9", "sigterm"):
        before, process = epochs(folder), start(place)
        until(lambda before=before: epochs(folder) > before)
        if how == "ctrl-c":  # as a terminal does: to every process
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGKILL if how == "kill -9" else signal.SIGTERM)
        said, errors = process.communicate(timeout=60)  # which returns when the last process with these pipes has ended
        assert "Traceback" not in errors
        assert not (folder / "summary.json").exists()
        assert (folder / "checkpoint.safetensors").exists()
        assert not (place / "out" / "bp-s1").exists()
        if how != "kill -9":
            assert process.returncode == INTERRUPTED, errors
            assert "missing: BP s0" in said
            (again,) = re.findall(r"go on with:  aplysia (.*)", errors)
            assert again == "table mine.py:long --seeds 0,1 --out out --jobs 1"
    assert make(Request(name="mine.py:long", seeds="0", out=Path("out"), jobs=1)) == 0
    assert json.loads((folder / "run.json").read_text())["resumed_at"]
    assert same_weights(whole("mine.py:long", place / "alone"), folder)


def test_read_knows_nothing_of_a_folder_that_is_not_there(place: Path) -> None:
    table = find("mine.py:tiny")
    assert read(table, Path("nowhere")).summaries == {}
    assert cell(Path("out"), table.rows[1], 3).path == Path("out/random-phi-s3")
