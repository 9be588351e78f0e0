"""Convolutions of 3 × 3 tile by tile against plain ones in float32 and in bf16: time, and rounding errors against float64.

    python benchmarks/winograd.py [--quick] [--json FILE] [--rounds N]

Layers of the sizes that conv nets have, at a number of images that makes each about as much work: forward, the error below, the
weight gradient. All run in one process, interleaved. The rounding error is the root mean square over a layer, over that of what
is exact, for normal inputs, weights and errors; bf16 rounds its operands, so its own is a thousand times larger.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import command
import interleave
import torch
from interleave import Step
from torch import Tensor

from aplysia.ops.backend import kernels
from aplysia.ops.geometry import AbstractGeometry, Conv2d
from aplysia.ops.precision import Bfloat16
from aplysia.ops.winograd import Winograd, by_tiles


class Size(NamedTuple):
    """Of a layer, padded by 1."""

    images: int
    channels: int
    side: int
    units: int


FULL = (
    Size(192, 16, 32, 32),
    Size(192, 32, 32, 32),
    Size(192, 64, 32, 128),
    Size(192, 128, 16, 256),
    Size(192, 256, 8, 256),
    Size(192, 512, 4, 512),
    Size(64, 64, 28, 64),
    Size(192, 128, 7, 128),
)
QUICK = (Size(8, 16, 16, 16),)
PARTS = ("forward", "error", "weight gradient")


def products(size: Size) -> tuple[dict[str, dict[str, Step]], dict[str, dict[str, float]]]:
    """Of each way, its three products; and the rounding errors of those in float32."""
    source = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=source)

    x = normal(size.images, size.channels, size.side, size.side)
    w, delta = normal(size.units, size.channels, 3, 3), normal(size.images, size.units, size.side, size.side)
    plain = Conv2d(1, 1)
    tiled = by_tiles(plain)
    assert isinstance(tiled, Winograd), "there are no kernels here"
    assert tiled.shortens(x, w.shape), "this size would not go tile by tile"
    ways: dict[str, AbstractGeometry] = {
        "tiles": tiled,
        "float32": plain,
        "bfloat16": Bfloat16(events=False, winograd=False).products(plain),
    }

    def made(way: AbstractGeometry, x: Tensor, w: Tensor, delta: Tensor) -> dict[str, Callable[[], Tensor]]:
        return dict(
            zip(
                PARTS,
                (
                    lambda: way.forward(x, w),
                    lambda: way.error(delta, w, x.shape),
                    lambda: way.outer(delta, x, w.shape),
                ),
                strict=True,
            )
        )

    steps = {name: made(way, x, w, delta) for name, way in ways.items()}
    errors: dict[str, dict[str, float]] = {part: {} for part in PARTS}
    for part, product in made(plain, x.double(), w.double(), delta.double()).items():
        exact = product()
        for name in ways:
            off = (steps[name][part]() - exact).square().mean() / exact.square().mean()
            errors[part][name] = float(off.sqrt())
    return steps, errors


def case(size: Size, rounds: int) -> dict[str, Any]:
    steps, errors = products(size)
    everyone: dict[str, Step] = {f"{way}, {part}": steps[way][part] for part in PARTS for way in steps}
    seconds = interleave.race(everyone, rounds, warm_up=1)
    found: dict[str, Any] = {}
    for part in PARTS:
        ms = {way: 1e3 * statistics.median(seconds[f"{way}, {part}"]) for way in steps}
        found[part] = {
            "ms": {way: interleave.spread(seconds[f"{way}, {part}"]) for way in steps},
            "times_faster": {way: ms[way] / ms["tiles"] for way in steps if way != "tiles"},
            "rounding": errors[part],
            "times_rounding": errors[part]["tiles"] / errors[part]["float32"],
        }
    return {**size._asdict(), **found}


def main() -> None:
    arguments = command.parser(__doc__, "one small layer, one round: shows that it runs, not how fast").parse_args()
    command.begin(arguments)
    rounds = arguments.rounds or (1 if arguments.quick else 7)
    with kernels(compiled=True):
        cases = [case(size, rounds) for size in (QUICK if arguments.quick else FULL)]
    print(f"\n{'images, layer':<28}{'part':<18}{'tiles':>9}{'float32':>9}{'bf16':>9} ms  times faster   rounding")
    for found in cases:
        name = f"{found['images']} × {found['channels']}→{found['units']}, {found['side']} × {found['side']}"
        for part in PARTS:
            told = found[part]
            ms = "".join(f"{told['ms'][way]['median']:>9.2f}" for way in ("tiles", "float32", "bfloat16"))
            faster = ", ".join(f"{told['times_faster'][way]:.2f}" for way in ("float32", "bfloat16"))
            print(f"{name:<28}{part:<18}{ms}     {faster:<12}{told['times_rounding']:>8.1f} × float32's")
            name = ""
    command.leave({**command.conditions(arguments), "rounds": rounds, "cases": cases}, arguments)


if __name__ == "__main__":
    main()
