"""The command line as a user meets it: what it prints, what it refuses, and that refusing leaves nothing behind."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

FAST = ["--epochs", "1", "--set", "net=F16-F10"]


def aplysia(*arguments: str, cwd: Path, ok: bool = True, **environment: str) -> str:
    """Run the command; its whole output. A refusal must be one sentence, non-zero and without a traceback."""
    env = {k: v for k, v in os.environ.items() if k not in ("APLYSIA_DATA", "APLYSIA_PLUGINS")} | environment
    done = subprocess.run(
        [sys.executable, "-m", "aplysia", *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    if ok:
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr
    assert done.returncode not in (0, None)
    assert "Traceback" not in done.stderr, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert errors[0].endswith(".")
    return errors[0]


def test_a_run_prints_an_epoch_a_line_and_leaves_a_whole_folder(tmp_path: Path) -> None:
    said = aplysia("run", "digits-mlp", *FAST, "--out", "r", cwd=tmp_path)
    assert re.search(r"^epoch 1/1  loss \d\.\d+  train \d+\.\d %  val \d+\.\d %  lr 0\.2 .* samples/s", said, re.M)
    assert re.search(r"^test accuracy \d+\.\d\d%", said, re.M)
    wanted = {"recipe.json", "run.json", "metrics.jsonl", "summary.json", "ledger.json", "model.safetensors"}
    left = {p.name for p in (tmp_path / "r").iterdir()}
    assert wanted <= left
    assert any(name.startswith("events.out.tfevents") for name in left)
    assert "finished already" in aplysia("run", "digits-mlp", "--resume", "--out", "r", cwd=tmp_path)


def test_help_does_not_wait_for_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['aplysia', '--help']\n"
        "from aplysia.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)


@pytest.mark.parametrize("what", ["rules", "temporal", "neurons", "devices", "recipes", "data"])
def test_everything_can_be_listed(tmp_path: Path, what: str) -> None:
    names = {
        "rules": "kolen_pollack",
        "temporal": "through_time",
        "neurons": "lif",
        "devices": "soft_bounds",
        "recipes": "fmnist-mlp",
        "data": "fashion_mnist",
    }
    assert names[what] in aplysia("list", what, cwd=tmp_path)


def test_every_key_of_a_recipe_is_listed(tmp_path: Path) -> None:
    said = aplysia("list", "recipes", "digits-mlp", cwd=tmp_path)
    for key in ("neuron.leak", "optimiser.lr", "rule", "temporal.chunk", "neuron.surrogate.slope"):
        assert re.search(rf"^{re.escape(key)} ", said, re.M)


# ── wrong use ────────────────────────────────────────────────────────────────────────────────────────────────────────

REFUSED = {
    "unknown recipe": (["run", "digit-mlp"], "did you mean 'digits-mlp'"),
    "misspelt key": (["run", "digits-mlp", "--set", "optimiser.lrr=1"], "did you mean 'lr'"),
    "misspelt top key": (["run", "digits-mlp", "--set", "epoch=1"], "did you mean 'epochs'"),
    "wrong type": (["run", "digits-mlp", "--set", "steps=six"], "expected int, got .six."),
    "out of range": (["run", "digits-mlp", "--set", "neuron.leak=2"], r"a number in \[0, 1\]"),
    "unknown rule": (["run", "digits-mlp", "--set", "rule=feedback"], "feedback_alignment"),
    "field of another rule": (["run", "digits-mlp", "--set", "rule.scale=2"], "rule.scale"),
    "refused pair": (["run", "digits-mlp", "--set", "loss=mean_output"], "online scheme"),
    "refused optimiser": (
        ["run", "digits-mlp", "--set", "rule=kolen_pollack", "--set", "optimiser.weight_decay=0.1"],
        "depends on the weight too",
    ),
    "net for other classes": (["run", "digits-mlp", "--set", "net=F16-F7"], "F10"),
    "bad net": (["run", "digits-mlp", "--set", "net=16C3X-F10"], "nCk"),
    "image too small": (["run", "digits-mlp", "--set", "net=8C3-P2-P2-P2-P2-F10"], "fewer or smaller pools"),
    "no device": (["run", "digits-mlp", "--device", "gpu"], "auto, cpu or cuda"),
    "no resume": (["run", "digits-mlp", "--resume", "--out", "nowhere"], "a run folder to resume"),
    "missing rule file": (["run", "digits-mlp", "--set", "rule=nowhere.py"], "no such file"),
    "unknown listing": (["list", "rule"], "did you mean 'rules'"),
    "unknown data set": (["data", "check", "mnits"], "did you mean 'mnist'"),
}


@pytest.mark.parametrize("case", REFUSED, ids=list(REFUSED))
def test_wrong_use_ends_in_one_sentence_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    arguments, says = REFUSED[case]
    assert re.search(says, aplysia(*arguments, cwd=tmp_path, ok=False))
    assert not list(tmp_path.rglob("summary.json"))
    assert not list(tmp_path.rglob("*.safetensors"))


def test_missing_data_without_network_says_where_they_belong(tmp_path: Path) -> None:
    said = aplysia(
        "run",
        "fmnist-mlp",
        "--data",
        "nowhere",
        cwd=tmp_path,
        ok=False,
        https_proxy="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )
    assert "FashionMNIST" in said or "fashion_mnist" in said
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p.suffix == ".gz"]


def idx(array_shape: tuple[int, ...], content: bytes) -> bytes:
    return struct.pack(">HBB", 0, 8, len(array_shape)) + struct.pack(f">{len(array_shape)}I", *array_shape) + content


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """A tiny folder in Fashion-MNIST's format."""
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, count in (("train", 40), ("t10k", 20)):
        pixels = bytes(i * 7 % 256 for i in range(count * 784))
        (raw / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx((count, 28, 28), pixels)))
        (raw / f"{stem}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(idx((count,), bytes(i % 10 for i in range(count))))
        )
    return tmp_path / "data"


def test_a_tiny_folder_in_the_right_format_trains(tmp_path: Path, fashion: Path) -> None:
    said = aplysia(
        "run", "fmnist-mlp", *FAST, "--set", "validation=0", "--data", str(fashion), "--out", "r", cwd=tmp_path
    )
    assert "test accuracy" in said


def test_data_check_tells_whole_from_missing_by_its_exit_status(tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder = tmp_path / "data" / "CIFAR10" / part / "cat"
        folder.mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(folder / "one.png")
    assert "no checksum known" in aplysia("data", "check", "cifar10", "--data", "data", cwd=tmp_path)
    command = [sys.executable, "-m", "aplysia", "data", "check", "mnist", "--data", "data"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout.count("missing") == 4


def damage_truncated(raw: Path) -> None:
    path = raw / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:200])


def damage_label(raw: Path) -> None:
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx((40,), bytes([11] * 40))))


def damage_size(raw: Path) -> None:
    (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx((40, 14, 14), bytes(40 * 196))))


@pytest.mark.parametrize(
    ("damage", "says"),
    [(damage_truncated, "train-images-idx3-ubyte"), (damage_label, "labels 0 to 9"), (damage_size, "28")],
    ids=["truncated file", "label out of range", "images of the wrong size"],
)
def test_damaged_data_are_named(tmp_path: Path, fashion: Path, damage: object, says: str) -> None:
    damage(fashion / "FashionMNIST" / "raw")  # type: ignore[operator]
    assert says in aplysia("run", "fmnist-mlp", *FAST, "--data", str(fashion), cwd=tmp_path, ok=False)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_truncated_checkpoint_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    aplysia("run", "digits-mlp", *FAST, "--out", "r", cwd=tmp_path)
    (tmp_path / "r" / "summary.json").unlink()
    path = tmp_path / "r" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    before = sorted(p.name for p in (tmp_path / "r").iterdir())
    assert "checkpoint.safetensors" in aplysia("run", "digits-mlp", "--resume", "--out", "r", cwd=tmp_path, ok=False)
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == before


def test_resume_with_other_settings_is_refused(tmp_path: Path) -> None:
    aplysia("run", "digits-mlp", *FAST, "--out", "r", cwd=tmp_path)
    (tmp_path / "r" / "summary.json").unlink()
    said = aplysia("run", "digits-mlp", "--resume", "--out", "r", "--set", "optimiser.lr=0.7", cwd=tmp_path, ok=False)
    assert "optimiser" in said


def test_a_folder_that_holds_a_run_is_not_overwritten(tmp_path: Path) -> None:
    aplysia("run", "digits-mlp", *FAST, "--out", "r", cwd=tmp_path)
    before = (tmp_path / "r" / "summary.json").read_bytes()
    assert "--resume" in aplysia("run", "digits-mlp", *FAST, "--out", "r", cwd=tmp_path, ok=False)
    assert (tmp_path / "r" / "summary.json").read_bytes() == before


@pytest.fixture
def tmpfs(tmp_path: Path) -> Path:
    """A file system of 200 kB; skipped where this user may not mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip("this user may not mount a tmpfs")
    yield place  # type: ignore[misc]
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_ends_in_one_sentence_and_no_half_file(tmp_path: Path, tmpfs: Path) -> None:
    said = aplysia("run", "digits-mlp", "--epochs", "1", "--out", str(tmpfs / "r"), cwd=tmp_path, ok=False)
    assert "space" in said
    assert not [p for p in tmpfs.rglob("*") if p.suffix == ".safetensors" or p.name.startswith(".")]


def test_a_read_only_folder_ends_in_one_sentence(tmp_path: Path, tmpfs: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(tmpfs)], check=True)
    said = aplysia("run", "digits-mlp", *FAST, "--out", str(tmpfs / "r"), cwd=tmp_path, ok=False)
    assert "read-only" in said or "written" in said


# ── a rule of the user's own ─────────────────────────────────────────────────────────────────────────────────────────

TOY = '''
from dataclasses import dataclass
from typing import ClassVar
from torch import Tensor
from aplysia import AbstractSeeded, Claim, Layer, Net, Paper

@dataclass(kw_only=True)
class Toy(AbstractSeeded):
    """Gives every hidden layer no error at all."""
    paper: ClassVar[Paper] = Paper(authors="me", title="toy", year=2026, venue="here")
    claims: ClassVar[frozenset[Claim]] = frozenset()
    summary: ClassVar[str] = "a toy"
    scale: float = 1.0

    def start(self, net: Net) -> dict[str, Tensor]:
        return {}

    def seed_error(self, layer: Layer, out: Tensor, error: Tensor) -> Tensor | None:
        return None
'''


def test_a_rule_in_one_file_outside_the_package_is_found_by_path_and_resumes(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    arguments = ["run", "digits-mlp", *FAST, "--set", "rule=toy.py", "--set", "rule.scale=2", "--out", "r"]
    assert "with toy" in aplysia(*arguments, cwd=tmp_path)
    (tmp_path / "r" / "summary.json").unlink()
    assert "test accuracy" in aplysia("run", "digits-mlp", "--resume", "--out", "r", cwd=tmp_path)


def test_a_rule_in_a_plugin_folder_is_listed_and_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "toy.py").write_text(TOY)
    assert "a toy" in aplysia("list", "rules", cwd=tmp_path, APLYSIA_PLUGINS=str(tmp_path / "mine"))
    said = aplysia(
        "run", "digits-mlp", *FAST, "--set", "rule=toy", cwd=tmp_path, APLYSIA_PLUGINS=str(tmp_path / "mine")
    )
    assert "with toy" in said


def test_a_recipe_in_a_file_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import replace\nfrom aplysia.recipes import find\n"
        "def little():\n    return replace(find('digits-mlp'), name='little', net='F16-F10', epochs=1)\n"
    )
    assert "test accuracy" in aplysia("run", "mine.py:little", cwd=tmp_path)
    assert "little" in aplysia("run", "mine.py:other", cwd=tmp_path, ok=False)
