"""What bounds a training step, said from its numbers: the share of its products, and its place on the roofline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Roof:
    """What the machine allows.

    Attributes:
        gflops: fastest float32 product measured at the nets' own shapes.
        narrow: the same in bfloat16.
        gigabytes: of a large copy, per second, read and written.
    """

    gflops: float
    narrow: float
    gigabytes: float

    @property
    def ridge(self) -> float:
        """Operations a byte from which on products and not memory are the limit."""
        return self.gflops / self.gigabytes

    def allows(self, intensity: float) -> float:
        """GFLOP/s at so many operations a byte."""
        return min(self.gflops, intensity * self.gigabytes)


def roof_of(scaling: dict[str, Any]) -> Roof:
    """From what `scaling.py` measured."""
    limits = scaling["limits"]
    speeds = limits["gemm_gflops"]
    return Roof(max(speeds["float32"].values()), max(speeds["bfloat16"].values()), limits["gigabytes_per_second"])


@dataclass(frozen=True)
class Case:
    """One training step: milliseconds, those of its full products alone, operations and bytes of full products.

    Attributes:
        full_ms: of the same step with products as they are defined, where this one saves multiplications.
        tiled: whether it saves them by tiles of convolutions, and not by leaving zeros out.
    """

    name: str
    ms: float
    floor_ms: float
    operations: int
    bytes: int
    full_ms: float | None = None
    tiled: bool = False

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.operations / self.bytes

    @property
    def gflops(self) -> float:
        return self.operations / self.ms / 1e6

    @property
    def in_products(self) -> float:
        """Share of the step."""
        return self.floor_ms / self.ms

    @property
    def rest_ms(self) -> float:
        return max(0.0, self.ms - self.floor_ms)

    def moving_ms(self, roof: Roof) -> float:
        """How long its bytes take at the speed of a large copy."""
        return self.bytes / roof.gigabytes / 1e6

    def bound(self, roof: Roof) -> str:
        """In two words: where most of the time goes."""
        if self.in_products >= 0.5:
            return "products"
        return "memory" if self.moving_ms(roof) >= 0.5 * self.ms else "calls and element-wise work"


def of_points(scaling: dict[str, Any], axis: str, place: int) -> list[Case]:
    """Every method at one point of a scaling curve."""
    found = scaling["axes"][axis]
    return [
        Case(name, row["milliseconds"]["median"], row["floor_milliseconds"]["median"], row["operations"], row["bytes"])
        for name, row in found["points"][place].items()
    ]


def of_race(race: dict[str, Any]) -> list[Case]:
    """Every contestant whose work was counted, of a race with floors."""
    return [
        Case(
            name,
            race["milliseconds"][name]["median"],
            race["milliseconds"][name]["median"] / times,
            race["work"][name]["operations"],
            race["work"][name]["bytes"],
            race["milliseconds"].get(f"{name}_full", {}).get("median"),
            # Sparse products serve in a dense net, tiles in a conv net.
            "net" in race and not name.endswith("_full"),
        )
        for name, times in race["times_floor"].items()
    ]


def sentences(case: Case, roof: Roof) -> str:
    """Three: where the time goes, which limit applies, and what the rest is."""
    if case.full_ms is not None or case.tiled:
        return _saving(case, roof)
    share = case.in_products
    if share > 1.0:
        first = "It takes less than its products would in full, since it leaves zeros out of them"
    elif share >= 0.8:
        first = "It is little but its own products"
    elif share >= 0.5:
        first = "Its own products are most of it"
    else:
        first = "Its own products are the smaller part of it"
    of_roof = case.gflops / roof.allows(case.intensity)
    beyond = (
        "; more than all of it, so caches or larger products than those of the roof serve it" if of_roof > 1 else ""
    )
    moving, rest = case.moving_ms(roof), case.rest_ms
    if rest < 0.1 * case.ms:
        last = "less than a tenth, and there is little left to gain beside faster products"
    elif moving >= rest:
        last = "so memory explains it, and fewer or smaller passes over tensors would shorten it"
    elif moving >= 0.5 * rest:
        last = "so memory explains most of it"
    else:
        last = "so memory does not explain it: calls, element-wise arithmetic and products slower than alone do"
    side, limit = ("right", "products") if case.intensity >= roof.ridge else ("left", "memory")
    return (
        f"**`{case.name}`**: {first}, {share:.0%} ({_ms(case.floor_ms)} of {_ms(case.ms)}). "
        f"At {case.intensity:.3g} operations a byte it stands {side} of the ridge ({roof.ridge:.3g}), where {limit} set the "
        f"limit, and its {case.gflops:.3g} GFLOP/s are {of_roof:.0%} of that{beyond}. "
        f"What is not products takes {_ms(rest)}, and all its bytes would take {_ms(moving)} at the speed of a large copy: "
        f"{last}."
    )


def _saving(case: Case, roof: Roof) -> str:
    """Three, of a step that saves multiplications: how long, against full products, and what that is on the roofline."""
    if case.tiled:
        how = "takes its convolutions tile by tile, with a quarter of their multiplications,"
        limit = "the 36 products of tiles, what goes through the second cache before and after them, and element-wise passes"
    else:
        how = "leaves the zeros of spikes out of its products"
        limit = (
            "a row of a table from a cache for every spike, and the products that have no zeros: errors, noise, and inputs "
            "that are images"
        )
    beside = f"where products as they are defined take {_ms(case.floor_ms)} alone"
    if case.full_ms is not None:
        beside += f", and the same step with them {_ms(case.full_ms)}"
    return (
        f"**`{case.name}`**: It {how} and takes {_ms(case.ms)}, {beside}. "
        f"Products as they are defined would be {case.gflops:.3g} GFLOP/s in that time, {case.gflops / roof.gflops:.0%} of "
        f"what this machine was seen to do in float32. "
        f"What bounds it is {limit}."
    )


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds:,.0f} ms"
