"""Full float32 products of dense layers by oneDNN against torch's own way, forward and for the error below.

    python benchmarks/products.py [--quick] [--json FILE] [--rounds N]

Layers of n units and m inputs at so many rows, samples times steps. All run in one process, interleaved. The library takes
oneDNN's from a number of multiplications on (`aplysia.ops.full`); where it leaves a product to torch, that is all there is.
"""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple

import command
import interleave
import torch
import torch.nn.functional as F
from interleave import Step

from aplysia.ops.backend import kernels
from aplysia.ops.full import full_product


class Size(NamedTuple):
    """Of a product."""

    rows: int
    inputs: int
    units: int


FULL = tuple(
    Size(rows, inputs, units)
    for inputs, units in ((784, 800), (800, 800), (2048, 2048), (8192, 512), (256, 256), (800, 100))
    for rows in (128, 768, 3840)
)
QUICK = (Size(400, 256, 256), Size(16, 256, 256))
PARTS = ("forward", "error")


def case(size: Size, rounds: int) -> dict[str, Any]:
    source = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=source)

    x, w, delta = normal(size.rows, size.inputs), normal(size.units, size.inputs), normal(size.rows, size.units)
    taken = {"forward": full_product(x, w), "error": full_product(delta, w.t())}
    found: dict[str, Any] = {part: {"taken": taken[part] is not None} for part in PARTS}
    everyone: dict[str, Step] = {"forward, torch": lambda: F.linear(x, w), "error, torch": lambda: delta @ w}
    if found["forward"]["taken"]:
        everyone["forward, oneDNN"] = lambda: full_product(x, w)
    if found["error"]["taken"]:
        everyone["error, oneDNN"] = lambda: full_product(delta, w.t())
    seconds = interleave.race(everyone, rounds, warm_up=2)
    for part in PARTS:
        ways = [way for way in ("torch", "oneDNN") if f"{part}, {way}" in seconds]
        found[part]["ms"] = {way: 1e3 * statistics.median(seconds[f"{part}, {way}"]) for way in ways}
        if "oneDNN" in ways:
            found[part]["times_faster"] = interleave.ratio(seconds, f"{part}, torch", f"{part}, oneDNN")
    return {**size._asdict(), **found}


@torch.no_grad()
def main() -> None:
    arguments = command.parser(__doc__, "two small ones, one round: shows that it runs, not how fast").parse_args()
    command.begin(arguments)
    rounds = arguments.rounds or (1 if arguments.quick else 15)
    with kernels(compiled=True):
        cases = [case(size, rounds) for size in (QUICK if arguments.quick else FULL)]
    print(f"\n{'rows × inputs → units':<26}{'part':<10}{'torch':>9}{'oneDNN':>9} ms   times faster")
    for found in cases:
        name = f"{found['rows']} × {found['inputs']} → {found['units']}"
        for part in PARTS:
            told = found[part]
            ms = "".join(
                f"{told['ms'][way]:>9.2f}" if way in told["ms"] else f"{'–':>9}" for way in ("torch", "oneDNN")
            )
            print(f"{name:<26}{part:<10}{ms}      {told.get('times_faster', 1.0):.2f}")
            name = ""
    command.leave({**command.conditions(arguments), "rounds": rounds, "cases": cases}, arguments)


if __name__ == "__main__":
    main()
