"""A tile of IBM's aihwkit that is pulsed by our own streams of bits: a second opinion on coincidences and devices.

Its own random pulses are switched off: one slot a row, no management of scales, a rate of one pulse. What meets in a row is
then exactly one pulse. aihwkit is imported only when a tile is made.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from aplysia.errors import PairError


class Tile:
    """An array of out × in devices.

    Args:
        weight: `[out, in]`, what it starts from.
        device: an object of `aihwkit.simulator.configs.devices`, whose step is that of a single device: compound devices
            count their steps otherwise.

    Raises:
        PairError: aihwkit is not installed, or does not hold the weights it is given.
    """

    def __init__(self, weight: Tensor, device: Any) -> None:
        self._kit = _kit()
        self._tile, self.quantum = _tile(self._kit, weight, device)

    @property
    def weight(self) -> Tensor:
        """`[out, in]`."""
        return _weights(self._tile)

    def update(self, x: Tensor, delta: Tensor) -> None:
        """One row a step, in order: w ← w − quantum·Σ delta ⊗ x, for devices of equal steps.

        Args:
            x: `[rows, in]`, 0 or 1.
            delta: `[rows, out]`, −1, 0 or 1, the gradient's two lines.
        """
        self._tile.tile.update(x.float().contiguous(), delta.float().contiguous(), False, False, False)


def _kit() -> Any:
    try:
        kit = importlib.import_module("aihwkit.simulator.configs"), importlib.import_module("aihwkit.simulator.tiles")
    except ImportError as error:
        raise PairError(
            "aihwkit", expected="IBM's simulator to be installed", got=str(error), fix="build it, or do without a Tile"
        ) from error
    check_tile(kit)
    return kit


def check_tile(kit: Any) -> None:
    """Raise `PairError` unless a tile holds the weight it is given: builds for another torch compute nothing."""
    wanted = torch.tensor([[0.1, -0.2, 0.3], [-0.05, 0.15, 0.25]])
    try:
        tile, _ = _tile(kit, wanted, kit[0].ConstantStepDevice(w_max_dtod=0.0, w_min_dtod=0.0))
        found = _weights(tile)
        got = "another weight" if found.shape == wanted.shape else f"one of shape {tuple(found.shape)}"
        right = found.shape == wanted.shape and bool(torch.allclose(found, wanted, atol=1e-6))
    except Exception as error:
        right, got = False, str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if not right:
        raise PairError(
            "aihwkit",
            expected="a tile that holds the 2×3 weight it is given",
            got=got,
            fix=f"build aihwkit from source against torch {torch.__version__}, without build isolation",
        )


def _tile(kit: Any, weight: Tensor, device: Any) -> tuple[Any, float]:
    configs, tiles = kit
    update = configs.UpdateParameters(desired_bl=1, fixed_bl=True, update_bl_management=False, update_management=False)
    made = tiles.AnalogTile(*weight.shape, configs.SingleRPUConfig(device=device, update=update))
    made.set_weights(weight.detach().float().cpu())
    quantum = float(device.dw_min)
    made.tile.set_learning_rate(quantum)
    return made, quantum


def _weights(tile: Any) -> Tensor:
    found = tile.get_weights()
    return (found[0] if isinstance(found, tuple) else found).detach().clone()
