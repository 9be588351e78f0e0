"""What holds for every test: one thread, and numbers that do not depend on the order of the tests."""

from __future__ import annotations

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(20260701)
