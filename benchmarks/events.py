"""Sums over events against full products: time of forward and weight gradient against the share of a drive that is not 0.

    python benchmarks/events.py [--quick] [--json FILE] [--rounds N]

The second layers of the dense and of the conv net that the other benchmarks train, at their numbers of samples times steps.
Full products are those of float32 and of bf16, whose time does not depend on the drive; all run in one process, interleaved.
The crossing is the share at which sums take as long as full products, by lines between the points; the library goes over to
full products at a share of its own (`aplysia.ops.events.LARGEST_SHARE`), which is stored beside it.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import command
import interleave
import torch
from interleave import Step
from torch import Tensor

from aplysia.ops.backend import kernels
from aplysia.ops.events import LARGEST_SHARE, AbstractEvents, for_events
from aplysia.ops.geometry import AbstractGeometry, Conv2d, Dense
from aplysia.ops.precision import Bfloat16

SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
# Name -> geometry, drive, weight.
CASES: dict[str, tuple[AbstractGeometry, tuple[int, ...], tuple[int, ...]]] = {
    "dense 800 to 800, 768 rows": (Dense(), (768, 800), (800, 800)),
    "conv 64 to 128 on 32×32, 192 images": (Conv2d(1, 1), (192, 64, 32, 32), (128, 64, 3, 3)),
}
QUICK: dict[str, tuple[AbstractGeometry, tuple[int, ...], tuple[int, ...]]] = {
    "dense": (Dense(), (64, 128), (128, 128)),
    "conv": (Conv2d(1, 1), (4, 48, 8, 8), (48, 48, 3, 3)),
}
KINDS = ("sums", "float32", "bfloat16")


def contestants(
    geometry: AbstractGeometry, drive: tuple[int, ...], weight: tuple[int, ...], shares: Sequence[float]
) -> dict[str, Step]:
    """Forward and weight gradient of each kind at each share."""
    source = torch.Generator().manual_seed(0)
    made: dict[str, Step] = {}
    summed = for_events(geometry)
    assert isinstance(summed, AbstractEvents), "there are no sums over events here"
    always = replace(summed, largest=1.0)
    w = torch.randn(weight, generator=source)
    delta = torch.randn(drive[0], *geometry.output_shape(drive[1:], w.shape), generator=source)
    ways = {"sums": always, "float32": geometry, "bfloat16": Bfloat16(events=False, winograd=False).products(geometry)}
    for share in shares:
        x = (torch.rand(drive, generator=source) < share).float()
        # The time of a full product is the same at any share.
        for kind in KINDS if share == shares[0] else ("sums",):

            def forward(way: AbstractGeometry = ways[kind], x: Tensor = x) -> Tensor:
                return way.forward(x, w)

            def update(way: AbstractGeometry = ways[kind], x: Tensor = x) -> Tensor:
                return way.outer(delta, x, w.shape)

            end = f" at {share}" if kind == "sums" else ""
            made[f"{kind}, forward{end}"], made[f"{kind}, weight gradient{end}"] = forward, update
    return made


def crossing(shares: Sequence[float], ms: Sequence[float], full: float) -> float | None:
    """The share at which the curve meets the level; None: nowhere in between."""
    for (x0, y0), (x1, y1) in itertools.pairwise(zip(shares, ms, strict=True)):
        if y0 <= full < y1:
            return x0 + (x1 - x0) * (full - y0) / (y1 - y0)
    return None


def case(name: str, quick: bool, rounds: int) -> dict[str, Any]:
    shares = SHARES[3:6] if quick else SHARES
    seconds = interleave.race(contestants(*(QUICK if quick else CASES)[name], shares), rounds, warm_up=1)
    found: dict[str, Any] = {"shares": shares}
    for part in ("forward", "weight gradient"):
        sums = [1e3 * statistics.median(seconds[f"sums, {part} at {share}"]) for share in shares]
        full = {kind: interleave.spread(seconds[f"{kind}, {part}"]) for kind in KINDS[1:]}
        found[part] = {
            "sums_ms": sums,
            "full_ms": full,
            "times_faster": {kind: [told["median"] / ms for ms in sums] for kind, told in full.items()},
            "crossing": {kind: crossing(shares, sums, told["median"]) for kind, told in full.items()},
        }
    return found


def main() -> None:
    arguments = command.parser(__doc__, "tiny shapes, one round: shows that it runs, not how fast").parse_args()
    command.begin(arguments)
    quick = arguments.quick
    rounds = arguments.rounds or (1 if quick else 7)
    with kernels(compiled=True):
        cases = {name: case(name, quick, rounds) for name in (QUICK if quick else CASES)}
    largest = {str(kind).removeprefix("torch."): share for kind, share in LARGEST_SHARE.items()}
    results = {**command.conditions(arguments), "rounds": rounds, "largest_share": largest, "cases": cases}
    for name, found in cases.items():
        print(f"\n{name}, {rounds} round(s)")
        for part in ("forward", "weight gradient"):
            told = found[part]
            print(f"  {part}: " + ", ".join(f"{kind} {ms['median']:.2f} ms" for kind, ms in told["full_ms"].items()))
            print("    " + ", ".join(f"{s}: {ms:.2f}" for s, ms in zip(found["shares"], told["sums_ms"], strict=True)))
            print(f"    crossing at {told['crossing']}")
    command.leave(results, arguments)


if __name__ == "__main__":
    main()
