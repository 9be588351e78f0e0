"""What products in bf16 cost in accuracy: the same rules and settings in float32 and in bf16."""

from __future__ import annotations

from dataclasses import replace

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.nets.noise import Noise
from aplysia.ops.precision import Bfloat16, Float32
from aplysia.recipes import find
from aplysia.tables.base import Row, Table


def precision() -> Table:
    """Backpropagation, direct feedback and OPZO in float32 and in bf16."""
    base = replace(find("fmnist-mlp"), net="F256-F256-F10", train_samples=12_000, epochs=3)
    rules: dict[str, AbstractSpatial] = {
        "BP": Symmetric(),
        "DFA": DirectFeedback(scale=0.2),
        "OPZO": PseudoZerothOrder(noise=Noise(alpha=0.1, traced=False)),
    }
    rows = [
        Row(f"{name}, {kind}", replace(base, rule=rule, precision=chosen), group=kind)
        for name, rule in rules.items()
        for kind, chosen in (("float32", Float32()), ("bf16", Bfloat16()))
    ]
    return Table(
        title="Do products in bf16 cost accuracy?",
        rows=tuple(rows),
        baseline=rows[0].name,
        note=f"Fashion-MNIST, {base.net}, {base.train_samples:,} training images, {base.epochs} epochs, one learning rate for "
        "all. In bf16 the products of the hidden layers are rounded; the readout, membranes, traces, M and weights are not.",
    )
