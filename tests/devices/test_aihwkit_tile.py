"""The adapter to aihwkit: equal to counts where it is installed; what is said where it is not, or does not work."""

from __future__ import annotations

import importlib
import importlib.util
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from device_parts import array, source
from torch import Tensor

from aplysia.devices.aihwkit_tile import Tile, check_tile
from aplysia.devices.constant_step import ConstantStep
from aplysia.errors import PairError


def _refusal() -> str | None:
    if importlib.util.find_spec("aihwkit") is None:
        return "aihwkit is not installed"
    try:
        configs = importlib.import_module("aihwkit.simulator.configs")
        Tile(torch.zeros(2, 3), configs.ConstantStepDevice())
    except PairError as error:
        return str(error)
    return None


REFUSAL = _refusal()


@pytest.mark.skipif(REFUSAL is not None, reason=str(REFUSAL))
def test_rows_of_bits_are_the_pulses_of_our_own_array() -> None:
    configs = importlib.import_module("aihwkit.simulator.configs")
    plain = dict.fromkeys(("dw_min_dtod", "dw_min_std", "up_down_dtod", "w_max_dtod", "w_min_dtod"), 0.0)
    tile = Tile(torch.zeros(6, 5), configs.ConstantStepDevice(dw_min=0.001, w_max=1.0, w_min=-1.0, **plain))
    x = (torch.rand(64, 5, generator=source()) < 0.4).float()
    delta = torch.randint(-1, 2, (64, 6), generator=source(1)).float()
    tile.update(x, delta)
    device = ConstantStep(quantum=0.001, bound=1.0)
    weight, cells = array(device, torch.zeros(6, 5))
    device.step(weight, cells, (-delta).clamp_min(0.0).t() @ x, delta.clamp_min(0.0).t() @ x, source())
    torch.testing.assert_close(tile.weight, weight, rtol=0.0, atol=1e-6)


def test_where_it_is_not_installed_one_sentence_says_so() -> None:
    if importlib.util.find_spec("aihwkit") is not None:
        pytest.skip("aihwkit is installed")
    with pytest.raises(PairError, match="aihwkit: expected IBM's simulator to be installed") as caught:
        Tile(torch.zeros(2, 3), None)
    assert "\n" not in str(caught.value)


class _Fake:
    """A stand-in for the library, whose tile does what a broken build does, or works."""

    def __init__(self, fault: str) -> None:
        self.fault, self.held = fault, torch.full((2, 3), 0.01)

    def set_weights(self, weight: Tensor) -> None:
        if self.fault == "refuses":
            raise ValueError("Invalid weights dimensions: expected [3,4]")
        if self.fault == "none":
            self.held = weight.clone()

    def get_weights(self) -> tuple[Tensor, None]:
        return (torch.zeros(3, 4) if self.fault == "shape" else self.held), None

    @property
    def tile(self) -> Any:
        return SimpleNamespace(set_learning_rate=lambda rate: None)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("refuses", r"expected \[3,4\]"), ("ignores", "another weight"), ("shape", r"shape \(3, 4\)"), ("none", None)],
)
def test_a_build_that_does_not_hold_weights_is_told_by_one_sentence(fault: str, said: str | None) -> None:
    def nothing(**settings: Any) -> Any:
        return SimpleNamespace(dw_min=0.001)

    configs = SimpleNamespace(ConstantStepDevice=nothing, UpdateParameters=nothing, SingleRPUConfig=nothing)
    kit = configs, SimpleNamespace(AnalogTile=lambda out, into, config: _Fake(fault))
    if said is None:
        check_tile(kit)
        return
    with pytest.raises(PairError, match=said) as caught:
        check_tile(kit)
    assert "build aihwkit from source" in str(caught.value)
    assert "\n" not in str(caught.value)
