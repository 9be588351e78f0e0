"""Two processes that learn from halves of each batch do what one does that learns from all of it: every rule on every net."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import DENSE
from ranks_parts import BATCHES, PROCESSES, Cell, State, cells, noise_of_all, rates, stream_net, train

from aplysia.credit.local import Similarity
from aplysia.credit.loss import WinnerLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.errors import PairError
from aplysia.ranks import Ranks, launched
from aplysia.train.learner import Learner
from aplysia.train.optimise import Pulsed
from aplysia.types import Held

HERE = Path(__file__).parent
CELLS = cells()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, State | None]]:
    """What each of the processes was left with."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
    paths = os.pathsep.join([str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(
        [*command, str(HERE / "ranks_worker.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize(("name", "cell"), CELLS.items(), ids=CELLS)
def test_two_processes_do_what_one_does(name: str, cell: Cell, found: list[dict[str, State | None]]) -> None:
    for number, count in enumerate(BATCHES):
        _, spikes = cell.scheme().predict(cell.net(), cell.input(count, number)[0])
        assert (spikes[:-1] > 0).all(), "a silent net would show nothing"
    with noise_of_all():
        one = train(cell, Ranks())
    parts = [states[name] for states in found]
    if one is None:
        assert parts == [None] * PROCESSES, "refused by one process, but not by two"
        pytest.skip("refused")
    for two in parts:
        assert two is not None
        assert two.keys() == one.keys()
        for key, tensor in one.items():
            torch.testing.assert_close(
                two[key], tensor, rtol=1e-9, atol=1e-11, equal_nan=True, msg=lambda m, k=key: f"{k}: {m}"
            )
    fresh = cell.net().state_dict()
    assert any(not torch.equal(one[f"net {key}"], tensor) for key, tensor in fresh.items()), "nothing was learnt"


@pytest.mark.parametrize("count", [0, 1, 2, 5, 64, 97])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_parts_are_the_whole(count: int, size: int) -> None:
    ranks = [Ranks(rank, size) for rank in range(size)]
    bounds = [one.bounds(count) for one in ranks]
    assert [place for start, end in bounds for place in range(start, end)] == list(range(count))
    for one in ranks:
        one.begin(count)
    if count:
        assert sum(one.share for one in ranks) == pytest.approx(1.0)
        # Whatever is proportional to the samples a process runs is right for the batch, also where it runs one of weight 0.
        assert {one.count(7 * one.run) for one in ranks} == {7 * count}


def test_alone_nothing_is_copied_or_renamed() -> None:
    one, x = Ranks(), torch.ones(3)
    assert one.average(x) is x
    assert one.total(x) is x
    assert one.keys == ()
    assert one.agree(True, False) == (True, False)
    assert one.tell("this") == "this"
    assert Symmetric().purpose("noise") == "noise"


def test_processes_draw_different_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aplysia.ranks._present", Ranks(1, 2))
    assert Symmetric().purpose("noise") == "noise, rank 1"


def test_what_needs_the_whole_batch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aplysia.ranks._present", Ranks(0, 2))
    net, (x, target) = DENSE.net(), DENSE.input()
    learner = Learner(net, rule=Symmetric(local=Similarity()), optimiser=torch.optim.SGD(net.parameters(), lr=0.1))
    with pytest.raises(PairError, match="similarity compares each with each"):
        learner.learn(x, target)


def test_arrays_of_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aplysia.ranks._present", Ranks(0, 2))
    net, (x, target) = stream_net(), rates()
    optimiser = Pulsed().build(net.parameters(), seed=0)
    learner = Learner(net, rule=Symmetric(), temporal=Coincidence(), loss=WinnerLoss(), optimiser=optimiser)
    with pytest.raises(PairError, match="arrays of devices in one process"):
        learner.learn(Held(x, 8), target)


def test_how_a_launcher_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not launched()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched()
