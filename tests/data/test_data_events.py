"""Binning, the 40-bit reader, and the event data sets."""

from __future__ import annotations

import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from data_writers import aer_bytes

from aplysia.data import ByCount, ByTime, DvsCifar10, DvsGesture, Events, NMnist, Shd
from aplysia.data.event_frames import stack_frames
from aplysia.data.nmnist import read_aer40
from aplysia.errors import DataError

BINNINGS = [ByTime(), ByCount()]


def random_events(rng, count, size=34, last=300_000):
    x, y = rng.integers(0, size, (2, count))
    return Events(x, y, rng.integers(0, 2, count), np.sort(rng.integers(0, last, count)))


def slow_frames(events, window, steps, shape):
    frames = np.zeros((steps, *shape), np.int64)
    for x, y, p, w in zip(events.x, events.y, events.p, window, strict=True):
        frames[w, p, y, x] += 1
    return frames


@pytest.mark.parametrize("binning", BINNINGS)
@pytest.mark.parametrize("steps", [1, 3, 10, 500])
def test_every_event_is_counted_once_where_it_belongs(binning, steps, rng):
    events = random_events(rng, 700)
    frames = binning.frames(events, steps=steps, shape=(2, 34, 34), where="test")
    assert frames.sum() == 700
    window = binning.windows(events.t, steps)
    assert window.min() >= 0
    assert window.max() < steps
    assert np.array_equal(frames, slow_frames(events, window, steps, (2, 34, 34)))


def test_windows_of_equal_time():
    times = np.array([100, 101, 109, 110, 119, 120, 129])
    assert ByTime().windows(times, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert ByTime().windows(np.array([5, 5, 5]), 4).tolist() == [0, 0, 0]


def test_windows_of_equal_count(rng):
    times = rng.integers(0, 50, 1003)
    window = ByCount().windows(times, 10)
    counts = np.bincount(window)
    assert counts.max() - counts.min() <= 1
    for earlier in range(9):
        assert times[window == earlier].max() <= times[window == earlier + 1].min()


@pytest.mark.parametrize("binning", BINNINGS)
def test_recording_without_events_is_silent(binning):
    nothing = np.zeros(0, np.int64)
    frames = binning.frames(Events(nothing, nothing, nothing, nothing), steps=4, shape=(2, 5, 5), where="test")
    assert frames.shape == (4, 2, 5, 5)
    assert frames.sum() == 0


@pytest.mark.parametrize(("axis", "value"), [("x", 34), ("y", 34), ("p", 2), ("x", -1)])
def test_event_outside_the_sensor_is_refused(axis, value, rng):
    events = random_events(rng, 10)
    getattr(events, axis)[4] = value
    with pytest.raises(DataError, match=f"{axis} from 0 to .*got {value}"):
        ByTime().frames(events, steps=2, shape=(2, 34, 34), where="test")


def test_counts_are_bytes_until_they_do_not_fit():
    def read(index):
        count = 300 if index == 1 else 3
        zeros = np.zeros(count, np.int64)
        return Events(zeros, zeros, zeros, np.arange(count))

    settings = {"steps": 1, "shape": (2, 2, 2), "binning": ByTime()}
    assert stack_frames(read, ["0"], **settings, clip=None).dtype == np.uint8
    both = stack_frames(read, ["0", "1"], **settings, clip=None)
    assert both.dtype == np.float32
    assert both[:, 0, 0, 0, 0].tolist() == [3, 300]
    clipped = stack_frames(read, ["0", "1"], **settings, clip=1)
    assert clipped.dtype == np.uint8
    assert clipped[:, 0, 0, 0, 0].tolist() == [1, 1]
    for wrong in ({"steps": 0, "clip": None}, {"steps": 1, "clip": 0}):
        with pytest.raises(DataError, match="at least 1"):
            stack_frames(read, ["0"], shape=(2, 2, 2), binning=ByTime(), **wrong)


def test_bytes_of_an_event(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes([3, 7, 0x80 | 0x12, 0x34, 0x56, 33, 0, 0x7F, 0xFF, 0xFF]))
    x, y, p, t = read_aer40(path)
    assert (x.tolist(), y.tolist(), p.tolist(), t.tolist()) == ([3, 33], [7, 0], [1, 0], [0x123456, 0x7FFFFF])


def test_overflow_marker_is_no_event_and_moves_later_times(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(aer_bytes([1, 0, 2, 0, 3], [1, 240, 2, 240, 3], [0, 0, 1, 0, 1], [8000, 0, 10, 0, 20]))
    x, _, p, t = read_aer40(path)
    assert x.tolist() == [1, 2, 3]
    assert p.tolist() == [0, 1, 1]
    assert t.tolist() == [8000, 10 + 8192, 20 + 2 * 8192]


def test_cut_recording_is_refused(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"123456")
    with pytest.raises(DataError, match=r"a\.bin.*5 bytes, got 6 bytes"):
        read_aer40(path)


def write_nmnist(root, rng, size=34):
    for part, count in (("Train", 3), ("Test", 1)):
        for label in range(10):
            folder = root / "NMNIST" / part / str(label)
            folder.mkdir(parents=True)
            for i in range(count):
                events = random_events(rng, 50 + label, size)
                (folder / f"{i:05}.bin").write_bytes(aer_bytes(*events))


def test_nmnist(tmp_path, rng):
    write_nmnist(tmp_path, rng)
    bundle = NMnist().load(tmp_path, steps=4, download=False)
    assert bundle.train.inputs.shape == (30, 4, 2, 34, 34)
    assert bundle.train.inputs.dtype == torch.uint8
    assert (bundle.temporal, bundle.scale, bundle.classes) == (True, 1.0, 10)
    assert bundle.train.labels.tolist() == [label for label in range(10) for _ in range(3)]
    assert bundle.test.inputs.sum((1, 2, 3, 4)).tolist() == [50 + label for label in range(10)]
    first = read_aer40(tmp_path / "NMNIST" / "Train" / "0" / "00000.bin")
    frames = ByTime().frames(first, steps=4, shape=(2, 34, 34), where="test")
    assert np.array_equal(bundle.train.inputs[0].numpy(), frames)
    assert "30 train" in bundle.caveat
    assert [report.note for report in NMnist().check(tmp_path)] == [
        "30 of 60,000 recordings",
        "10 of 10,000 recordings",
    ]


def test_nmnist_cache_is_kept_apart_by_configuration(tmp_path, rng):
    write_nmnist(tmp_path, rng)
    loads = [
        dataset.load(tmp_path, steps=steps, download=False).train.inputs
        for _ in range(2)
        for dataset, steps in ((NMnist(), 4), (NMnist(), 5), (NMnist(binning=ByCount()), 4), (NMnist(clip=1), 1))
    ]
    for first, again in zip(loads[:4], loads[4:], strict=True):
        assert torch.equal(first, again)
    assert loads[1].shape[1] == 5
    assert not torch.equal(loads[0], loads[2])
    assert loads[3].max() == 1


def test_nmnist_refuses_what_it_does_not_know(tmp_path, rng):
    with pytest.raises(DataError, match="aplysia data fetch nmnist"):
        NMnist().load(tmp_path, steps=4, download=False)
    write_nmnist(tmp_path, rng, size=35)
    with pytest.raises(DataError, match="from 0 to 33"):
        NMnist().load(tmp_path, steps=4, download=False)
    (tmp_path / "NMNIST" / "Train" / "cat").mkdir()
    with pytest.raises(DataError, match="named after a digit"):
        NMnist().load(tmp_path, steps=4, download=False)


def test_nmnist_label_out_of_range(tmp_path):
    for part in ("Train", "Test"):
        folder = tmp_path / "NMNIST" / part / "10"
        folder.mkdir(parents=True)
        (folder / "0.bin").write_bytes(aer_bytes([1], [1], [1], [1]))
    with pytest.raises(DataError, match="label 10"):
        NMnist().load(tmp_path, steps=2, download=False)


@pytest.mark.parametrize("pool", [1, 4])
def test_gesture(tmp_path, rng, pool):
    for part in ("ibmGestureTrain", "ibmGestureTest"):
        folder = tmp_path / "DVSGesture" / part / "user01_led"
        folder.mkdir(parents=True)
        for label in range(11):
            events = random_events(rng, 100 + label, 128, 900)
            np.save(folder / f"{label}.npy", np.stack(events, 1).astype(np.float64))
    bundle = DvsGesture(pool=pool).load(tmp_path, steps=3, download=False)
    assert bundle.train.inputs.shape == (11, 3, 2, 128 // pool, 128 // pool)
    order = bundle.train.labels
    assert sorted(order.tolist()) == list(range(11))
    assert torch.equal(bundle.train.inputs.sum((1, 2, 3, 4)), 100 + order)
    np.save(tmp_path / "DVSGesture" / "ibmGestureTest" / "user01_led" / "0.npy", np.zeros((4, 3)))
    with pytest.raises(DataError, match=r"0\.npy.*4 columns, got shape \(4, 3\)"):
        DvsGesture(pool=pool).load(tmp_path, steps=3, download=False)


def test_pool_must_divide_the_sensor():
    for dataset in (DvsGesture, DvsCifar10):
        with pytest.raises(DataError, match="divides 128"):
            dataset(pool=3)


@pytest.mark.parametrize("dataset", [Shd(), DvsCifar10()])
def test_without_tonic_the_extra_is_named(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic", None)
    monkeypatch.setitem(sys.modules, "tonic.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'aplysia\[events\]'"):
        dataset.load(tmp_path, steps=4, download=False)


def fake_tonic(monkeypatch, **sets):
    """A module with tonic's two classes, as we use them; what they give out has tonic's own field names."""
    package, module = types.ModuleType("tonic"), types.ModuleType("tonic.datasets")
    vars(module).update(sets)
    package.datasets = module
    monkeypatch.setitem(sys.modules, "tonic", package)
    monkeypatch.setitem(sys.modules, "tonic.datasets", module)


def test_shd_through_tonic(tmp_path, monkeypatch):
    class Recordings:
        def __init__(self, save_to, train):
            self.count = 40 if train else 20

        def __len__(self):
            return self.count

        def __getitem__(self, index):
            if index >= self.count:
                raise IndexError
            table = np.zeros(7 + index, dtype=[("t", int), ("x", int), ("p", int)])
            table["t"], table["x"], table["p"] = np.arange(7 + index), 699, 1
            return table, index % 20

    fake_tonic(monkeypatch, SHD=Recordings)
    with pytest.raises(DataError, match=r"shd_train\.h5"):
        Shd().load(tmp_path, steps=4, download=False)
    (tmp_path / "SHD").mkdir()
    for part in ("train", "test"):
        for end in ("", ".zip"):
            (tmp_path / "SHD" / f"shd_{part}.h5{end}").write_bytes(b"x")
    bundle = Shd().load(tmp_path, steps=4, download=False)
    assert bundle.train.inputs.shape == (40, 4, 1, 1, 700)
    assert bundle.train.inputs[..., 699].sum((1, 2, 3)).tolist() == list(range(7, 47))
    assert bundle.test.labels.tolist() == list(range(20))


def test_dvs_cifar10_through_tonic(tmp_path, monkeypatch):
    class Recordings:
        def __init__(self, save_to):
            names = [f"{label}/{i:02}.aedat4" for label in range(10) for i in range(10)][::-1]
            self.data = [str(tmp_path / name) for name in names]
            self.targets = [int(name.split("/")[0]) for name in names]
            for path in self.data:
                (tmp_path / path).parent.mkdir(exist_ok=True)
                (tmp_path / path).write_bytes(b"x")

        def __len__(self):
            return len(self.data)

        def __getitem__(self, index):
            count = int(self.data[index].split("/")[-1][:2]) + 1
            kinds = [("t", np.uint64), ("x", np.uint16), ("y", np.uint16), ("p", bool)]
            table = np.zeros(count, dtype=kinds)
            table["x"], table["y"], table["p"] = 127, 64, True
            return table, self.targets[index]

    fake_tonic(monkeypatch, CIFAR10DVS=Recordings)
    folder = tmp_path / "CIFAR10DVS"
    for name in DvsCifar10.class_names:
        (folder / name).mkdir(parents=True)
        (folder / f"{name}.zip").write_bytes(b"x")
    with pytest.raises(DataError, match=r"CIFAR10DVS\.zip"):
        DvsCifar10().load(tmp_path, steps=2, download=False)
    (folder / "CIFAR10DVS.zip").write_bytes(b"x")
    bundle = DvsCifar10(pool=2).load(tmp_path, steps=2, download=False)
    assert bundle.train.inputs.shape == (90, 2, 2, 64, 64)
    assert bundle.test.labels.tolist() == list(range(10))
    assert bundle.test.inputs[:, :, 1, 32, 63].sum(1).tolist() == [10] * 10


def test_importing_the_data_layer_is_light():
    code = (
        "import sys, aplysia.data\n"
        "from aplysia.data.catalogue import datasets; datasets()\n"
        "heavy = {'PIL', 'pooch', 'requests', 'sklearn', 'tonic', 'torchvision', 'h5py'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
