"""What the tests of kernels share."""

from __future__ import annotations

import pytest

from aplysia.ops import native
from aplysia.ops.backend import compiler


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels in C++ serve as where kernels run compiled; no other kernel is."""
    if compiler() is None:
        pytest.skip("no C++ compiler here")
    monkeypatch.setattr(native, "compiled_kernels", lambda: True)
