from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of the real data sets; tests that need it are skipped where there is none."""
    folder = os.environ.get("APLYSIA_DATA")
    if not folder:
        pytest.skip("APLYSIA_DATA names no folder of real data")
    return Path(folder)
