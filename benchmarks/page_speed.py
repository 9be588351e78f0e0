"""Write docs/speed.md, its scaling curves and its roofline from what `suite.py` left: nothing on that page is typed in.

    python benchmarks/page_speed.py [--results results/] [--docs docs/]

A benchmark without a file has a section that says so. Needs matplotlib (extra `figures`).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bounds
import page_streams
import results_page
import speed_pictures

ROOT = Path(__file__).parent.parent
Stored = dict[str, Any]


def conditions(stored: Stored) -> list[str]:
    """One line on machine, versions and commit, and a warning where the numbers are no measurement."""
    lines = []
    if stored.get("quick"):
        lines += ["**From a quick run, which shows that the benchmark runs and says nothing about speed.**", ""]
    told = stored.get("provenance")
    if told is None:
        return [*lines, "Machine and commit were not recorded.", ""]
    machine = told["machine"]
    caches = ", ".join(f"{name} {size}" for name, size in machine["caches"].items())
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items() if number)
    lines += [
        f"{machine['device_name']}, {machine['cores']} cores, {machine['threads']} thread(s)"
        + (f", caches {caches}" if caches else "")
        + f"; torch {machine['torch']}, Python {machine['python']}, {versions}; "
        f"commit `{str(told['commit'])[:12]}`, {told['date']}.",
        "",
    ]
    return lines


def start(stored: Stored) -> list[str]:
    lines = ["| | seconds, median | quartiles |", "| --- | --- | --- |"]
    for name, ms in stored["milliseconds"].items():
        lines.append(f"| {name} | {ms['median'] / 1e3:.2f} | {ms['low'] / 1e3:.2f} to {ms['high'] / 1e3:.2f} |")
    told = [f"{name}: {ratio:.2f}" for name, ratio in stored["ratios"].items()]
    told += [f"{name}: {why}" for name, why in stored["missing"].items()]
    rounds = stored["rounds"]
    return [*lines, "", f"Whole processes, {rounds} round(s). Ratios within a round: {'; '.join(told)}.", ""]


def conv_step(stored: Stored, roof: bounds.Roof | None) -> list[str]:
    lines = [
        f"`{stored['net']}` on {'×'.join(map(str, stored['image'][1:]))}×{stored['image'][0]}, T = {stored['steps']}, batch "
        f"{stored['batch']}, medians of {stored['rounds']} round(s) in one process (`benchmarks/conv_step.py`); kernels "
        f"{'compiled' if stored['compiled_kernels'] else 'eager'}. Memory is the peak of a step in a fresh process; *kept* is "
        "that where freed memory stays with the process, as in every run. `…_full` takes products as they are defined where "
        "others sum over events or go tile by tile, `…_bf16` products in bf16, `…_all_steps` all steps at once, where others "
        "take as few as layers of this width are taken by.",
        "",
        "| | samples/s | × best peer | × best hoisted peer | × best in bf16 | × best ReLU net | times its floor | peak MB | "
        "kept |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, speed in sorted(stored["samples_per_second"].items(), key=lambda item: -item[1]):
        keys = (*(f"ratio_to_{key}" for key in _BEST.values()), "times_floor")
        cells = [_number(stored.get(key, {}).get(name)) for key in keys]
        for peaks in (stored["peak_memory_bytes"], stored["peak_memory_bytes_kept"]):
            cells.append(f"{peaks[name] / 1e6:,.1f}" if name in peaks else "")
        lines.append(f"| {name} | {speed:,.1f} | " + " | ".join(cells) + " |")
    best = [f"best {what}: `{stored[key]}`" for what, key in _BEST.items() if key in stored]
    memory, kept = (
        [f"`{name}` {share:.2f}" for name, share in stored.get(key, {}).items()]
        for key in ("memory_of_best_peer", "kept_memory_of_best_peer")
    )
    lines += ["", "; ".join(best)[:1].upper() + "; ".join(best)[1:] + "."]
    if memory:
        lines += ["Peak memory, of the best peer's: " + ", ".join(memory) + ". Kept: " + ", ".join(kept) + "."]
    lines += [f"Missing: {name} ({why})." for name, why in stored["missing"].items()]
    lines += ["", *floor_lines(stored["floor"])]
    return [*lines, *bound_lines(stored, roof)]


def dense_step(stored: Stored, roof: bounds.Roof | None) -> list[str]:
    """Peers and memory as ever; floors and bounds by T where they were measured."""
    lines = results_page.speed_table(stored)
    for race in (race for race in stored.values() if isinstance(race, dict) and "floor" in race):
        times = ", ".join(f"`{name}` {ratio:.2f}" for name, ratio in race["times_floor"].items())
        lines += [f"### What bounds it at T = {race['steps']}", "", f"Times the floor of its own products: {times}."]
        lines += [*floor_lines(race["floor"]), *bound_lines(race, roof)]
    return lines


def floor_lines(floor: Stored) -> list[str]:
    """The floor's parts, and its speed in every variant."""
    parts = ", ".join(f"{part} {ms['median']:.3g} ms" for part, ms in floor["parts"][floor["variant"]].items())
    speeds = (
        f"{name} " + ", ".join(f"{speed:.3g} GFLOP/s ({variant})" for variant, speed in by_variant.items())
        for name, by_variant in floor["gflops"].items()
    )
    return [f"Floor ({floor['variant']}): {parts}; {'; '.join(speeds)}.", ""]


def bound_lines(stored: Stored, roof: bounds.Roof | None) -> list[str]:
    """Three sentences on each step of ours."""
    if roof is None:
        return ["What bounds it cannot be said without `scaling.json`.", ""]
    return [line for case in bounds.of_race(stored) for line in (bounds.sentences(case, roof), "")]


_BEST = {
    "peer": "best_peer",
    "hoisted peer": "best_hoisted_peer",
    "peer in bf16": "best_autocast_peer",
    "ReLU net": "best_relu",
}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def rules_table(stored: Stored) -> list[str]:
    lines = [
        f"Samples/s relative to `{stored['base']}` on the same neurons: {stored['net']}, batch {stored['batch']}, medians "
        f"of {stored['rounds']} round(s) of {stored['updates_in_a_round']} update(s) (`benchmarks/rules_table.py`). A dash is "
        "a pair that the library refuses.",
        "",
        "| rule | " + " | ".join(stored["kinds"]) + " |",
        "| --- |" + " --- |" * len(stored["kinds"]),
    ]
    for rule in stored["rules"]:
        cells = [_number(kind["relative_to_bp"].get(rule)) or "–" for kind in stored["kinds"].values()]
        lines.append(f"| `{rule}` | " + " | ".join(cells) + " |")
    speeds = (f"{k['samples_per_second'][stored['base']]:,.0f}" for k in stored["kinds"].values())
    return [*lines, f"| *{stored['base']}, samples/s* | " + " | ".join(speeds) + " |", ""]


def events(stored: Stored) -> list[str]:
    lines = [
        f"Products with a drive of which a share is not 0, medians of {stored['rounds']} round(s) in one process "
        "(`benchmarks/events.py`). The library sums over events up to a share of "
        + " and ".join(f"{share} where products are {kind}" for kind, share in stored["largest_share"].items())
        + ".",
        "",
    ]
    for name, found in stored["cases"].items():
        lines += [f"### {name}, ms", "", "| | " + " | ".join(f"{share:g}" for share in found["shares"])]
        lines[-1] += " | float32 | bf16 | as fast as float32 at | as bf16 |"
        lines += ["| --- |" + " --- |" * (len(found["shares"]) + 4)]
        for part in ("forward", "weight gradient"):
            told = found[part]
            full = (told["full_ms"][kind]["median"] for kind in ("float32", "bfloat16"))
            crossing = (told["crossing"][kind] for kind in ("float32", "bfloat16"))
            cells = [*(f"{ms:.3g}" for ms in (*told["sums_ms"], *full)), *(_number(share) or "–" for share in crossing)]
            lines.append(f"| {part} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def products(stored: Stored) -> list[str]:
    lines = [
        "Full products of dense layers in float32 by oneDNN against torch's own way, medians of "
        f"{stored['rounds']} round(s) in one process (`benchmarks/products.py`). A dash: too small, left to torch.",
        "",
        "| rows × inputs → units | forward, ms | by oneDNN | × faster | error below, ms | by oneDNN | × faster |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in stored["cases"]:
        cells = [f"{case['rows']} × {case['inputs']} → {case['units']}"]
        for part in ("forward", "error"):
            told = case[part]
            cells += [f"{told['ms'][way]:.3g}" if way in told["ms"] else "–" for way in ("torch", "oneDNN")]
            cells.append(_number(told.get("times_faster")) or "–")
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def winograd(stored: Stored) -> list[str]:
    lines = [
        "Convolutions of 3 × 3, padded by 1, by Winograd's tiles of 4 × 4 in float32 against plain ones, medians of "
        f"{stored['rounds']} round(s) in one process (`benchmarks/winograd.py`). Rounding is the root mean square error "
        "against float64, over that of the plain product in float32.",
        "",
        "| images, layer | | tiles, ms | float32 | bf16 | × faster than float32 | than bf16 | × its rounding |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case in stored["cases"]:
        name = f"{case['images']} × {case['channels']}→{case['units']} on {case['side']} × {case['side']}"
        for part in ("forward", "error", "weight gradient"):
            told = case[part]
            cells = [f"{told['ms'][way]['median']:.3g}" for way in ("tiles", "float32", "bfloat16")]
            cells += [_number(told["times_faster"][way]) for way in ("float32", "bfloat16")]
            cells.append(f"{told['times_rounding']:.1f}")
            lines.append(f"| {name} | {part} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def scaling(stored: Stored, conv: Stored | None, docs: Path) -> list[str]:
    roof = bounds.roof_of(stored)
    (docs / "speed_scaling.svg").write_text(speed_pictures.scaling(stored))
    (docs / "speed_roofline.svg").write_text(speed_pictures.roofline(stored, conv))
    base = ", ".join(f"{name} {value}" for name, value in stored["base"].items())
    lines = [
        f"Dense LIF nets; one of three is changed at a time from {base}; medians of {stored['rounds']} round(s), memory in a "
        "fresh process each with eager kernels (`benchmarks/scaling.py`).",
        "",
        "![time and memory of a training step against T, depth and width](speed_scaling.svg)",
        "",
        "Exponents over the upper half of the range, ± standard error:",
        "",
        "| | " + " | ".join(f"time in {axis} | memory in {axis}" for axis in stored["axes"]) + " |",
        "| --- |" + " --- |" * 2 * len(stored["axes"]),
    ]
    for method in stored["axes"]["T"]["exponents"]:
        laws = [found["exponents"][method][what] for found in stored["axes"].values() for what in ("time", "memory")]
        lines.append(f"| {method} | " + " | ".join(_law(law) for law in laws) + " |")
    lines += [
        "",
        "## Roofline",
        "",
        f"The machine: float32 products {roof.gflops:,.3g} GFLOP/s at best at these nets' own shapes, bfloat16 "
        f"{roof.narrow:,.3g}, {roof.narrow / roof.gflops:.2f} times that; a large copy moves {roof.gigabytes:.3g} GB/s. The "
        f"ridge lies at {roof.ridge:.3g} operations a byte. Bytes are what each operation reads and writes, as if no cache "
        "kept them between operations, so a step that stays in a cache may stand above the slope.",
        "",
        "![roofline](speed_roofline.svg)",
        "",
        "| at the largest | method | share of products | operations a byte | GFLOP/s | of the roof | most of the time |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for axis, found in stored["axes"].items():
        for case in bounds.of_points(stored, axis, -1):
            of_roof = case.gflops / roof.allows(case.intensity)
            lines.append(
                f"| {axis} = {found['values'][-1]} | {case.name} | {case.in_products:.0%} | {case.intensity:.3g} | "
                f"{case.gflops:.3g} | {of_roof:.0%} | {case.bound(roof)} |"
            )
    axis = "T"
    values = stored["axes"][axis]["values"]
    here = values.index(stored["base"][axis])
    lines += ["", f"At {base}:", ""]
    for case in bounds.of_points(stored, axis, here):
        lines += [bounds.sentences(case, roof), ""]
    return lines


def _law(law: dict[str, Any] | None) -> str:
    if law is None:
        return ""
    return f"{law['exponent']:.2f}" + ("" if law["error"] is None else f" ± {law['error']:.2f}")


def streams(path: Path) -> list[str]:
    """Without the heading, which is ours."""
    return page_streams.stream_speed(path)[2:]


def page(results: Path, docs: Path) -> str:
    """The text; the pictures are written on the way."""

    def load(name: str) -> Stored | None:
        path = results / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    conv, scaled = load("conv_step"), load("scaling")
    roof = None if scaled is None else bounds.roof_of(scaled)
    sections = {
        "start": ("Start", start),
        "train_step": ("A training step of a dense net", lambda stored: dense_step(stored, roof)),
        "conv_step": ("A training step of a conv net", lambda stored: conv_step(stored, roof)),
        "events": ("Sums over events", events),
        "products": ("Full products", products),
        "winograd": ("Convolutions tile by tile", winograd),
        "first_spike": ("A training step of first-spike nets", results_page.first_spike_table),
        "streams": ("A training step of stochastic streams", lambda _: streams(results / "streams.json")),
        "rules_table": ("All rules on all neurons", rules_table),
        "scaling": ("Scaling", lambda stored: scaling(stored, conv, docs)),
    }
    lines = [
        "# Speed and memory",
        "",
        "Generated by `python benchmarks/page_speed.py` from what `python benchmarks/suite.py` left. Every turn of a "
        "contestant is two steps, of which the second is timed, with caches as in training. Ratios are medians of ratios "
        "within a round of one process. A floor is the products of our own nets and nothing else, measured in the same run.",
        "",
    ]
    for name, (title, section) in sections.items():
        stored = load(name)
        lines += [f"## {title}", ""]
        if stored is None:
            lines += [
                f"Not measured: there is no `{name}.json`. `python benchmarks/suite.py --only {name}` makes it.",
                "",
            ]
        else:
            lines += [*conditions(stored), *section(stored)]
    return "\n".join(lines).rstrip() + "\n"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "results")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args(words)
    arguments.docs.mkdir(parents=True, exist_ok=True)
    (arguments.docs / "speed.md").write_text(page(arguments.results, arguments.docs))
    print(f"wrote {arguments.docs / 'speed.md'}")


if __name__ == "__main__":
    main()
