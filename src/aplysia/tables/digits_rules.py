"""Every rule that ships on the handwritten digits that ship: no network, a few minutes on one core."""

from __future__ import annotations

from dataclasses import replace

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.spatial.sign_symmetric import FixedMagnitude, RedrawnMagnitude, SignSymmetric
from aplysia.plugins import walk
from aplysia.recipes import find
from aplysia.tables.base import Row, Table
from aplysia.train.recipe import AXES

_GROUPS = {"symmetric": "backpropagation", "readout_only": "control", "copy_once": "control"}


def digits_rules() -> Table:
    """All rules, 64-128-128-10 LIF, 8 epochs."""
    base = replace(find("digits-mlp"), epochs=8, validation=0.0, compiled=False)
    rules = {name: rule() for name, rule in walk(AXES[AbstractSpatial], AbstractSpatial).items()}
    rules["sign_symmetric, fixed"] = SignSymmetric(magnitude=FixedMagnitude())
    rules["sign_symmetric, redrawn"] = SignSymmetric(magnitude=RedrawnMagnitude())
    order = sorted(rules, key=lambda name: (name != "symmetric", _GROUPS.get(name) == "control", name))
    return Table(
        title="What does each rule cost in accuracy on the digits, and what does it move?",
        rows=tuple(
            Row(name, replace(base, rule=rules[name]), group=_GROUPS.get(name, "other rules")) for name in order
        ),
        baseline="symmetric",
        note="64-128-128-10 LIF, T = 6, eligibility traces; 1,442 training and 355 test samples.",
    )
