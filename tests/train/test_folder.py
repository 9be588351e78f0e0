"""Nothing that happens to a run, at any instant, leaves half a file under a name that is read."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aplysia.errors import RunError
from aplysia.train import folder as folder_module
from aplysia.train.folder import (
    CHECKPOINT,
    METRICS,
    PREVIOUS,
    RunFolder,
    append_whole,
    flatten,
    unflatten,
    write_atomic,
)

torch.set_num_threads(1)
WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3)}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", resume=False)


def mounted(path: Path, options: str) -> Iterator[Path]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    if os.name == "nt" or os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "small", "size=256k")


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "sealed", "size=256k,ro")


def hidden(path: Path) -> list[str]:
    return [p.name for p in path.iterdir() if p.name.startswith(".")]


# ── whole files and whole lines ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "expected room for this file, got no space left on device; free some"),
        (errno.EROFS, "expected a folder that can be written, got a read-only file system; choose another --out"),
        (errno.EACCES, "expected a folder that can be written, got permission denied; choose another --out"),
        (errno.EIO, "expected a place that can be written, got Input/output error"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, sentence: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    write_atomic(tmp_path / "a.json", "old")
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(RunError, match=sentence):
        write_atomic(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"
    assert not hidden(tmp_path)


def test_an_interrupt_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "a", b"x")
    assert not list(tmp_path.iterdir())


def test_a_full_disk(small: Path) -> None:
    run = RunFolder.create(small / "run", resume=False)
    run.save_checkpoint(WEIGHTS, {"epoch": 1})
    run.append_metrics({"epoch": 1})
    with pytest.raises(RunError, match=r"checkpoint\.safetensors: .* no space left on device"):
        run.save_checkpoint({"w": torch.zeros(100_000)}, {"epoch": 2})
    assert run.load_checkpoint()[1] == {"epoch": 1}
    with pytest.raises(RunError, match=r"metrics\.jsonl: .* no space left on device"):
        run.append_metrics({"epoch": 2, "text": "x" * 300_000})
    assert run.metrics() == [{"epoch": 1}]
    assert (run.path / METRICS).read_bytes() == b'{"epoch": 1}\n'
    assert not hidden(run.path)


def test_half_a_line_is_taken_back(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write, calls = os.write, []

    def short(file: int, data: memoryview) -> int:
        if calls:
            raise OSError(errno.ENOSPC, "full")
        calls.append(write(file, data[:5]))
        return calls[0]

    run.append_metrics({"epoch": 1})
    monkeypatch.setattr(os, "write", short)
    with pytest.raises(RunError, match="no space left on device"):
        run.append_metrics({"epoch": 2})
    assert calls == [5]
    assert (run.path / METRICS).read_bytes() == b'{"epoch": 1}\n'


def test_a_read_only_file_system(sealed: Path) -> None:
    with pytest.raises(RunError, match="got a read-only file system; choose another --out"):
        RunFolder.create(sealed / "run", resume=False)
    with pytest.raises(RunError, match="got a read-only file system"):
        RunFolder.create(sealed, resume=False)
    with pytest.raises(RunError, match="got a read-only file system"):
        append_whole(sealed / "x", b"x")


# ── the folder ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_with_a_run_is_taken_only_to_resume(run: RunFolder) -> None:
    RunFolder.create(run.path, resume=False)  # still empty
    run.write_json("recipe.json", {})
    with pytest.raises(
        RunError, match="one that holds a run; go on with that run by --resume, or choose another folder"
    ):
        RunFolder.create(run.path, resume=False)
    assert RunFolder.create(run.path, resume=True).read_json("recipe.json") == {}


def test_litter_of_a_killed_process_is_swept(run: RunFolder) -> None:
    (run.path / f".{CHECKPOINT}.123.tmp").write_bytes(b"half")
    RunFolder.create(run.path, resume=True)
    assert not hidden(run.path)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    for out in (tmp_path / "x", tmp_path / "x" / "run"):
        with pytest.raises(RunError, match="expected a place that can be written, got"):
            RunFolder.create(out, resume=False)


def test_json(run: RunFolder) -> None:
    run.write_json("run.json", {"b": 1, "a": [0.1]})
    assert (run.path / "run.json").read_text() == json.dumps({"b": 1, "a": [0.1]}, indent=1) + "\n"
    with pytest.raises(RunError, match=r"run\.json: expected finite numbers, got nan or inf"):
        run.write_json("run.json", {"b": float("nan")})
    assert run.read_json("run.json") == {"b": 1, "a": [0.1]}
    (run.path / "run.json").write_text('{"b": ')
    with pytest.raises(RunError, match=r"run\.json: expected JSON, got damage"):
        run.read_json("run.json")
    with pytest.raises(RunError, match=r"gone\.json: expected a file that can be read, got No such file"):
        run.read_json("gone.json")


def test_metrics(run: RunFolder) -> None:
    assert run.metrics() == []
    run.trim_metrics(3)
    for epoch in range(1, 5):
        run.append_metrics({"epoch": epoch, "loss": 1 / epoch})
    with open(run.path / METRICS, "a") as file:
        file.write('{"epoch": 5, "lo')  # kill -9
    assert [r["epoch"] for r in run.metrics()] == [1, 2, 3, 4]
    assert [r["epoch"] for r in run.metrics(upto_epoch=2)] == [1, 2]
    run.append_metrics({"epoch": 5})
    assert [r["epoch"] for r in run.metrics()] == [1, 2, 3, 4, 5]
    run.trim_metrics(3)
    assert run.metrics() == [{"epoch": e, "loss": 1 / e} for e in (1, 2, 3)]
    (run.path / METRICS).write_text('{"epoch": 1}\noops\n{"epoch": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2: expected one JSON object, got damage"):
        run.metrics()


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_checkpoint_round_trip(run: RunFolder) -> None:
    base = torch.randn(4, 5)
    tensors = {
        "f32": base, "view": base.t(), "same": base, "part": base[1:3], "bf16": base.bfloat16(),
        "scalar": torch.tensor(3, dtype=torch.int64), "state": torch.get_rng_state(), "none": torch.empty(0, 3),
        "mask": base > 0, "half": torch.tensor(0.5, dtype=torch.float16), "grad": base.clone().requires_grad_(),
    }  # fmt: skip
    meta = {"epoch": 3, "loss": 0.1 + 0.2, "name": "λ", "deep": [None, {"a": [1, True]}]}
    run.save_checkpoint(tensors, meta)
    read, notes = run.load_checkpoint()
    assert notes == meta
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name
    read["f32"].add_(1)  # what is read can be written to, and shares nothing
    assert torch.equal(read["same"], base)


def test_the_checkpoint_before_stays(run: RunFolder) -> None:
    for epoch in (1, 2, 3):
        run.save_checkpoint(WEIGHTS, {"epoch": epoch})
    assert run.load_checkpoint()[1]["epoch"] == 3
    (run.path / CHECKPOINT).unlink()
    assert run.has_checkpoint
    assert run.load_checkpoint()[1]["epoch"] == 2
    run.save_checkpoint(WEIGHTS, {"epoch": 4})
    (run.path / CHECKPOINT).unlink()
    assert run.load_checkpoint()[1]["epoch"] == 2


def test_no_checkpoint(run: RunFolder) -> None:
    assert not run.has_checkpoint
    with pytest.raises(RunError, match="expected a checkpoint, got none in this folder"):
        run.load_checkpoint()


def test_truncated_at_any_length(run: RunFolder) -> None:
    for epoch in (1, 2):
        run.save_checkpoint(WEIGHTS, {"epoch": epoch})
    path = run.path / CHECKPOINT
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(RunError, match=rf"truncated one of {length} bytes; delete it .* {PREVIOUS} of epoch 1\."):
            run.load_checkpoint()
    path.write_bytes(whole)
    assert run.load_checkpoint()[1] == {"epoch": 2}


def test_any_bit_that_flips_is_found(run: RunFolder) -> None:
    run.save_checkpoint(WEIGHTS, {"epoch": 12})
    path = run.path / CHECKPOINT
    whole = path.read_bytes()
    tensors, meta = run.load_checkpoint()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            read, notes = run.load_checkpoint()
        except RunError as error:
            assert CHECKPOINT in str(error)  # noqa: PT017
        else:  # a bit nobody reads, such as the name of the library the file is for
            assert notes == meta
            assert torch.equal(read["w"], tensors["w"])
    body = len(whole) - 24
    for position in range(body, len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(RunError, match="bytes have changed since they were written; delete it and resume to start"):
            run.load_checkpoint()


def test_what_to_do_when_both_are_damaged(run: RunFolder) -> None:
    for epoch in (1, 2):
        run.save_checkpoint(WEIGHTS, {"epoch": epoch})
    for name in (CHECKPOINT, PREVIOUS):
        (run.path / name).write_bytes(b"x")
    with pytest.raises(RunError, match=f"{PREVIOUS} cannot be used either; delete both"):
        run.load_checkpoint()
    (run.path / CHECKPOINT).unlink()
    with pytest.raises(RunError, match=rf"{PREVIOUS}: expected a whole checkpoint.*delete it and resume to start from"):
        run.load_checkpoint()


def test_foreign_and_newer_files(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_model(WEIGHTS)
    os.replace(run.path / "model.safetensors", run.path / CHECKPOINT)
    with pytest.raises(RunError, match="expected a checkpoint of Aplysia, got tensors without its notes"):
        run.load_checkpoint()
    monkeypatch.setattr(folder_module, "FORMAT", 2)
    run.save_checkpoint(WEIGHTS, {})
    monkeypatch.setattr(folder_module, "FORMAT", 1)
    with pytest.raises(RunError, match="expected format 1 or older, got format 2 of a newer Aplysia"):
        run.load_checkpoint()


# Imports torch once, then forks a writer as often as it is told to, lets it live for a moment, and kills it.
KILLER = """
import os, signal, sys, time, torch
torch.set_num_threads(1)
from pathlib import Path
from aplysia.train.folder import RunFolder
for line in sys.stdin:
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        run = RunFolder.create(Path(sys.argv[1]), resume=True)
        start = run.load_checkpoint()[1]["epoch"] if run.has_checkpoint else 0
        os.write(tell, b"x")
        for epoch in range(start + 1, start + 101):
            run.save_checkpoint({"w": torch.full((50_000,), float(epoch))}, {"epoch": epoch})
            run.append_metrics({"epoch": epoch})
        os._exit(0)
    os.read(ready, 1)
    time.sleep(float(line))
    os.kill(child, signal.SIGKILL)
    print(os.waitpid(child, 0)[1], flush=True)
    os.close(ready), os.close(tell)
"""


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    run, dice, last, killed = RunFolder(tmp_path / "run"), random.Random(0), 0, 0
    command = [sys.executable, "-c", KILLER, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killer:
        assert killer.stdin is not None
        assert killer.stdout is not None
        for _ in range(25):
            killer.stdin.write(f"{dice.uniform(0.0, 0.1)}\n")
            killer.stdin.flush()
            killed += int(killer.stdout.readline()) == signal.SIGKILL
            for name in (CHECKPOINT, PREVIOUS):
                if (run.path / name).exists():
                    folder_module._load(run.path / name)  # no name ever stands for half a file
            if run.has_checkpoint:
                tensors, meta = run.load_checkpoint()
                assert tensors["w"].unique().tolist() == [meta["epoch"]]
                assert meta["epoch"] >= last
                last = meta["epoch"]
            epochs = [record["epoch"] for record in run.metrics()]
            assert epochs == sorted(set(epochs) & set(range(1, last + 1)))
            assert len(epochs) >= last - killed  # a kill between checkpoint and line costs that line
    assert killed >= 15
    assert last > 15


# ── trees ────────────────────────────────────────────────────────────────────────────────────────────────────────────

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
trees = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers() | st.text() | st.none(), inner, max_size=3)
    ),
    max_leaves=15,
)


@settings(max_examples=100, deadline=None)
@given(trees)
def test_trees_come_back_exactly(tree: Any) -> None:
    tensors, skeleton = flatten(tree, "x")
    assert not tensors
    assert repr(unflatten({}, json.loads(json.dumps(skeleton, allow_nan=False)))) == repr(tree)


def test_an_optimiser_goes_on_where_it_stood(run: RunFolder) -> None:
    def trained(steps: int, saved: Any = None, weights: Any = None) -> tuple[torch.nn.Linear, torch.optim.Adam]:
        torch.manual_seed(0)
        net = torch.nn.Linear(3, 2)
        optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
        if saved is not None:
            net.load_state_dict(weights)
            optimiser.load_state_dict(saved)
        for _ in range(steps):
            optimiser.zero_grad()
            net(torch.ones(1, 3)).square().sum().backward()
            optimiser.step()
        return net, optimiser

    net, optimiser = trained(3)
    tensors, skeleton = flatten({"net": dict(net.state_dict()), "optimiser": optimiser.state_dict()}, "all")
    assert "all.optimiser.state.0.exp_avg" in tensors
    run.save_checkpoint(tensors, {"epoch": 1, "tree": skeleton})
    read, meta = run.load_checkpoint()
    state = unflatten(read, meta["tree"])
    assert list(state["optimiser"]["state"]) == [0, 1]
    assert state["optimiser"]["param_groups"][0]["betas"] == (0.9, 0.999)
    resumed, straight = trained(2, state["optimiser"], state["net"])[0], trained(5)[0]
    assert torch.equal(resumed.weight, straight.weight)


def test_names_that_would_meet_and_values_that_cannot_be_kept() -> None:
    tree = {"a.b": torch.zeros(1), "a": {"b": torch.ones(1)}, "nan": [float("nan"), float("-inf")]}
    tensors, skeleton = flatten(tree, "x")
    again = unflatten(tensors, json.loads(json.dumps(skeleton, allow_nan=False)))
    assert again["a.b"].item() == 0.0
    assert again["a"]["b"].item() == 1.0
    assert repr(again["nan"]) == "[nan, -inf]"
    with pytest.raises(RunError, match=r"state x\.a\.0: expected tensors and plain values .* got a set"):
        flatten({"a": [{1}]}, "x")
