"""A learning rule of one's own in one file, compared with others on the same net, seeds and data.

    python examples/own_rule.py                                    the comparison below
    aplysia run digits-mlp --set rule=examples/own_rule.py         one run with a folder, curves and a ledger
    aplysia tune digits-mlp --rules symmetric,examples/own_rule.py the same search for both

Takes about half a minute.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

import aplysia
from aplysia.rng import generator


@dataclass(kw_only=True)
class SparseFeedback(aplysia.AbstractChained):
    """Feedback alignment through few connections: B = S·mask, the mask fixed, S drawn as the weights were.

    δ_{l−1} = ψ(u_{l−1}) ∘ (B_lᵀ·δ_l)

    Attributes:
        density: fraction of the connections that are there, in (0, 1].
    """

    paper: ClassVar[aplysia.Paper] = aplysia.Paper(
        authors="you", title="an example", year=2026, venue="examples/own_rule.py"
    )
    claims: ClassVar[frozenset[aplysia.Claim]] = frozenset({aplysia.Claim.NO_TRANSPORT, aplysia.Claim.FIXED_FEEDBACK})
    summary: ClassVar[str] = "fixed random feedback through few connections"

    density: float = 0.25

    def start(self, net: aplysia.Net) -> dict[str, Tensor]:
        made = {}
        for layer in net.fed_back:
            source = generator("cpu", self.seed, "sparse feedback", layer.name)
            drawn = layer.draw_effective(source)
            kept = (torch.rand(drawn.shape, generator=source) < self.density).to(drawn)
            # What is left carries the same power.
            made[layer.name] = drawn * kept / self.density**0.5
        return made

    def feedback(self, layer: aplysia.Layer, weight: Tensor) -> Tensor:
        return self.tensors[layer.name]


def main() -> None:
    from aplysia.recipes import find
    from aplysia.train.codec import override
    from aplysia.train.folder import RunFolder
    from aplysia.train.recipe import AXES
    from aplysia.train.run import Run

    torch.set_num_threads(1)  # a net this small gains nothing from a second
    with tempfile.TemporaryDirectory() as folder:
        for rule in ("symmetric", "feedback_alignment", str(Path(__file__).resolve()), "readout_only"):
            found = []
            for seed in range(3):
                recipe = override(find("digits-mlp"), (f"rule={rule}", f"seed={seed}", "epochs=4"), AXES)
                place = RunFolder.create(Path(folder) / f"{Path(rule).stem}-{seed}", resume=False)
                with contextlib.redirect_stdout(io.StringIO()):
                    summary = Run(recipe, place, torch.device("cpu")).execute()
                found.append(100 * summary["test_accuracy"])
            mean, spread = statistics.mean(found), statistics.stdev(found)
            print(f"{Path(rule).stem}: test accuracy {mean:.2f} ± {spread:.2f} % over {len(found)} seeds")


if __name__ == "__main__":
    main()
