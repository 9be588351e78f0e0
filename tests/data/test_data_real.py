"""The real data sets, where APLYSIA_DATA names a folder that holds them: counts, first labels, sums of all pixels."""

from __future__ import annotations

import pytest
import torch

from aplysia.data import ByCount, Cifar10, FashionMnist, Mnist, NMnist
from aplysia.data.remote import FileState

BALANCED = [6000] * 10, [1000] * 10


def total(split) -> int:
    return int(split.inputs.sum(dtype=torch.int64))


def need(real, *parts):
    if not real.joinpath(*parts).exists():
        pytest.skip(f"{'/'.join(parts)} is not in APLYSIA_DATA")


def test_mnist(real):
    need(real, "MNIST", "raw")
    bundle = Mnist().load(real, download=False)
    assert (len(bundle.train), len(bundle.test), bundle.caveat) == (60_000, 10_000, "")
    assert bundle.train.labels[:8].tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
    assert bundle.test.labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    assert bundle.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (total(bundle.train), total(bundle.test)) == (1_567_298_545, 264_923_200)
    assert {report.state for report in Mnist().check(real)} == {FileState.OK}


def test_fashion_mnist(real):
    need(real, "FashionMNIST", "raw")
    bundle = FashionMnist().load(real, download=False)
    assert (len(bundle.train), len(bundle.test), bundle.caveat) == (60_000, 10_000, "")
    assert bundle.train.labels[:8].tolist() == [9, 0, 0, 3, 0, 2, 7, 2]
    assert bundle.test.labels[:8].tolist() == [9, 2, 1, 1, 6, 1, 4, 6]
    assert (bundle.train.labels.bincount().tolist(), bundle.test.labels.bincount().tolist()) == BALANCED
    assert (total(bundle.train), total(bundle.test)) == (3_431_114_169, 573_469_082)
    assert {report.state for report in FashionMnist().check(real)} == {FileState.OK}


@pytest.mark.slow  # the first time: 60,000 files are decoded and cached
def test_cifar10(real):
    need(real, "CIFAR10", "train")
    bundle = Cifar10().load(real, download=False)
    assert (len(bundle.train), len(bundle.test)) == (50_000, 10_000)
    assert bundle.train.labels.bincount().tolist() == [5000] * 10
    assert bundle.test.labels.bincount().tolist() == [1000] * 10
    assert bundle.caveat.startswith("read as JPEG folder")
    # The mean of the original pixels is 120.71; decoders may differ by a grey level here and there.
    assert total(bundle.train) / bundle.train.inputs.numel() == pytest.approx(120.71, abs=0.1)


@pytest.mark.parametrize("binning", [NMnist().binning, ByCount()])
def test_nmnist(real, binning):
    need(real, "NMNIST", "Train")
    bundle = NMnist(binning=binning).load(real, steps=10, download=False)
    if len(bundle.train) == 1000:
        assert len(bundle.test) == 100
        assert bundle.train.labels.bincount().tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
        assert bundle.test.labels.bincount().tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
        # Every event of every file, once: the files hold (4,133,231 + 385,596) × 5 bytes.
        assert (total(bundle.train), total(bundle.test)) == (4_133_231, 385_596)
        assert "1,000 train and 100 test" in bundle.caveat
    assert bundle.train.inputs.shape[1:] == (10, 2, 34, 34)
    per_frame = bundle.train.inputs.sum((2, 3, 4), dtype=torch.int64)
    assert int(per_frame.min()) > 0
    if isinstance(binning, ByCount):
        assert int((per_frame.max(1).values - per_frame.min(1).values).max()) <= 1
