"""`aplysia export`: what it writes and what it says it measured."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from exchange_parts import trained
from typer.testing import CliRunner

import aplysia
from aplysia.cli import app
from aplysia.data.digits import Digits
from aplysia.data.encode import FirstSpike
from aplysia.errors import DataError, RunError
from aplysia.exchange.export_command import Request, export
from aplysia.exchange.fold import fold
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.neurons.potential import Potential
from aplysia.neurons.windowed import Windowed
from aplysia.train.load import load

pytest.importorskip("nir", reason="nir is not installed (extra 'nir')")


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    trained(path, epochs=2, standardise=True, gain=2.0, dropout=0.1, normalise=True)
    return path


@pytest.mark.parametrize("library", ["nir", "snntorch", "spikingjelly", "norse"])
def test_a_stepped_run(library: str, stepped: Path, tmp_path: Path) -> None:
    file = tmp_path / "net.nir"
    done = CliRunner().invoke(app, ["export", str(stepped), "--nir", str(file), "--for", library])
    assert done.exit_code == 0, done.output
    assert "weights equal bit for bit" in done.output
    assert "folded into the weights: standardised weights, gain 2; left out: dropout" in done.output
    here, there = re.findall(r"accuracy (\d+\.\d+)% in the run's net, (\d+\.\d+)% from the file", done.output)[0]
    assert here == there
    assert float(here) > 50
    counts = re.findall(r"(\w+): ([\d,]+) spikes, ([\d,]+) of", done.output)
    assert [name for name, _, _ in counts] == ["dense1", "dense2"]
    assert all(int(n.replace(",", "")) > 1000 for _, n, _ in counts)
    got, loaded = aplysia.from_nir(file), load(stepped)
    assert (got.steps, got.about["mean"], got.about["scale"]) == (6, list(loaded.mean or ()), 1 / 16)
    assert torch.equal(got.net.all[0].weight, fold(loaded.net).all[0].weight)


def test_a_first_spike_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(
        tmp_path / "run",
        neuron=Windowed(),
        readout=Potential(),
        temporal=aplysia.temporal.SpikeTime(),
        encoder=FirstSpike(),
        steps=1,
        epochs=3,
    )
    capsys.readouterr()
    export(Request(tmp_path / "run", tmp_path / "net.nir", per_window=128))
    said = capsys.readouterr().out
    assert "128 steps of 0.0078125 in a window of 1" in said
    assert "a sample takes 512 steps; what is lost is time" in said
    rows = re.findall(r"(\w+): earliness off by ([\d.e-]+) in the mean, ([\d.e-]+) at most, ([\d.]+)% of units", said)
    assert [row[0] for row in rows] == ["dense1", "dense2"]
    assert all(float(mean) < 0.01 and float(changed) < 1.0 for _, mean, _, changed in rows)
    exact, steps = re.findall(r"accuracy ([\d.]+)% in closed form, ([\d.]+)% in steps", said)[0]
    assert float(exact) > 60
    assert abs(float(exact) - float(steps)) < 0.8  # two of 256
    for wrong in (
        Request(tmp_path / "run", tmp_path / "b.nir", reader="norse"),
        Request(tmp_path / "run", tmp_path / "b.nir", dt=0.1),
    ):
        with pytest.raises(RunError, match="expected NIR's own equations and a step of a window's length"):
            export(wrong)
    assert not (tmp_path / "b.nir").exists()


def test_an_average_of_nine_as_a_sum_rounds_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(tmp_path / "run", epochs=1, net="8C3-A3-F10")
    capsys.readouterr()
    export(Request(tmp_path / "run", tmp_path / "a.nir"))
    assert "weights equal bit for bit" in capsys.readouterr().out
    export(Request(tmp_path / "run", tmp_path / "b.nir", reader="norse"))
    said = capsys.readouterr().out
    assert re.search(r"weights equal but for rounding, [\d.]+e-0[78] of their value", said)
    here, there = re.findall(r"accuracy ([\d.]+)% in the run's net, ([\d.]+)% from the file", said)[0]
    assert here == there


def test_what_cannot_be_said_is_refused_before_anything_is_written(
    stepped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path / "soft", epochs=1, net="F20-F10", neuron=LIF(), readout=Integrator(leak=0.5))
    done = CliRunner().invoke(
        app, ["export", str(tmp_path / "soft"), "--nir", str(tmp_path / "n.nir"), "--for", "norse"]
    )
    assert done.exit_code == 1
    assert "dense1: a soft reset" in str(done.exception)
    assert "readout: a readout with leak 0.5" in str(done.exception)
    assert not (tmp_path / "n.nir").exists()


def test_without_its_data_it_says_what_it_was_tried_on(
    stepped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object, **__: object) -> None:
        raise DataError("data", expected="files", got="none", fix="fetch them")

    monkeypatch.setattr(Digits, "load", none)
    shutil.copy(stepped / "model.safetensors", tmp_path / "alone.safetensors")
    export(Request(tmp_path / "alone.safetensors", tmp_path / "net.nir"))
    said = capsys.readouterr().out
    assert "256 samples drawn at random, since the data are not here: accuracy unknown" in said
