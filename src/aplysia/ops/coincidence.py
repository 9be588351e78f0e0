"""Coincidence counts on their way from a learning scheme to an array of devices that is stepped by pulses.

A gradient says how much; a device is moved by single pulses, up or down, and it matters how many of each there were. So an
optimiser that pulses devices asks for the counts of a parameter, and a scheme that counts spike coincidences leaves them there
beside `.grad`:

    grad = unit·(down − up)

with `down` the coincidences on the + gradient line (they depress) and `up` those on the − line (they potentiate).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

_KEY = "_aplysia_coincidences"


@dataclass(frozen=True)
class Coincidences:
    """What one update of one weight matrix consists of.

    Attributes:
        up: coincidences that potentiate, whole numbers in floating point, shaped like the weight.
        down: those that depress, likewise.
        unit: the gradient that one coincidence stands for, 0-dim.
    """

    up: Tensor
    down: Tensor
    unit: Tensor


def ask_for_coincidences(parameter: Tensor) -> None:
    """Have schemes that count coincidences leave them at this parameter from now on."""
    if not hasattr(parameter, _KEY):
        setattr(parameter, _KEY, [])


def wants_coincidences(parameter: Tensor) -> bool:
    """Whether anyone asked."""
    return hasattr(parameter, _KEY)


def leave_coincidences(parameter: Tensor, counted: Coincidences) -> None:
    """Leave the counts of one batch, beside those already there."""
    getattr(parameter, _KEY).append(counted)


def take_coincidences(parameter: Tensor) -> list[Coincidences]:
    """What was left since the last time; empty where nothing counts coincidences."""
    left: list[Coincidences] = getattr(parameter, _KEY, [])
    taken = list(left)
    left.clear()
    return taken
