"""The pictures of `page_speed.py`: scaling curves with exponents, and the roofline. Needs matplotlib (extra `figures`)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bounds
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from aplysia.report.layout import COLOURS, MARKERS

AXES = {"T": "time steps T", "depth": "hidden layers", "width": "units a layer"}
GREY = "#777777"


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "aplysia", "font.size": 9}):
        yield Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, title: str) -> str:
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Title": title})
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"


def scaling(stored: dict[str, Any]) -> str:
    """Time above, memory below, against each axis; floors dotted; exponents of the upper half beside each curve's colour."""
    with _figure(9.5, 6.4) as figure:
        grid = figure.subplots(2, len(stored["axes"]), squeeze=False)
        for column, (axis, found) in enumerate(stored["axes"].items()):
            for row, what in enumerate(("time", "memory")):
                _curves(grid[row][column], found, what)
                grid[row][column].set_xticks(found["values"], [str(value) for value in found["values"]], fontsize=7)
                grid[row][column].minorticks_off()
            grid[1][column].set_xlabel(AXES[axis])
        grid[0][0].set_ylabel("a training step, ms")
        grid[1][0].set_ylabel("peak memory of a step, MB")
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=(len(labels) + 1) // 2, frameon=False)
        return _svg(figure, "time and memory of a training step against T, depth and width")


def _curves(axes: Axes, found: dict[str, Any], what: str) -> None:
    axes.set(xscale="log", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.25)
    floors: dict[tuple[float, ...], list[str]] = {}
    for i, method in enumerate(found["points"][0]):
        ys = [_value(point[method], what) for point in found["points"]]
        pairs = [(x, y) for x, y in zip(found["values"], ys, strict=True) if y]
        colour, marker = COLOURS[i], MARKERS[i][1]
        xs, ys = ([pair[k] for pair in pairs] for k in (0, 1))
        axes.plot(xs, ys, color=colour, marker=marker, markersize=4, linewidth=1.2, label=method)
        law = found["exponents"][method][what]
        if law:
            spread = "" if law["error"] is None else f" ± {law['error']:.2f}"
            told = f"{law['exponent']:.2f}{spread}"
            axes.text(0.03, 0.96 - 0.075 * i, told, transform=axes.transAxes, color=colour, fontsize=8, va="top")
        if what == "time":
            key = tuple(point[method]["floor_milliseconds"]["median"] for point in found["points"])
            floors.setdefault(key, []).append(method)
    for number, (ys, methods) in enumerate(floors.items()):
        style = (":", "--", "-.")[number % 3]
        label = "products alone: " + ("through layers" if "bptt" in methods else "direct")
        axes.plot(found["values"], ys, color=GREY, linestyle=style, linewidth=1.1, label=label, zorder=1)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.35)  # room for the exponents


def _value(row: dict[str, Any], what: str) -> float | None:
    if what == "time":
        return row["milliseconds"]["median"]
    return row["peak_bytes"] / 1e6 if row.get("peak_bytes") else None


def roofline(stored: dict[str, Any], conv: dict[str, Any] | None) -> str:
    """Achieved GFLOP/s of every point against its operations a byte, under what the machine allows."""
    roof = bounds.roof_of(stored)
    with _figure(7.5, 5.0) as figure:
        axes = figure.add_subplot()
        shown: list[float] = []
        for shape, (axis, found) in enumerate(stored["axes"].items()):
            cases = [bounds.of_points(stored, axis, place) for place in range(len(found["points"]))]
            for colour, method in enumerate(found["points"][0]):
                here = [case for point in cases for case in point if case.name == method]
                shown += _scatter(axes, here, colour, MARKERS[shape][1], 16)
        if conv is not None:
            methods = list(stored["axes"]["T"]["points"][0])
            for case in bounds.of_race(conv):
                # What leaves zeros out does other work than is counted, so full products stand for it.
                if case.full_ms is None:
                    shown += _scatter(axes, [case], methods.index(case.name.removesuffix("_full")), "*", 110)
        left, right = min(*shown, roof.ridge) / 2, max(*shown, roof.ridge) * 2
        xs = [left, roof.ridge, right]
        axes.plot(xs, [roof.allows(x) for x in xs], color="black", linewidth=1.4)
        axes.axhline(roof.narrow, color="black", linestyle=":", linewidth=1.1)
        axes.axvline(roof.ridge, color=GREY, linewidth=0.7, linestyle="--")
        axes.set(xscale="log", yscale="log", xlim=(left, right))
        axes.set_ylim(top=2.5 * max(roof.gflops, roof.narrow))
        for y, told in ((roof.gflops, "float32"), (roof.narrow, "bfloat16")):
            axes.text(0.99 * right, 1.05 * y, f"{told} products: {y:,.3g} GFLOP/s", ha="right", va="bottom", fontsize=8)
        x = (left * min(roof.ridge, right)) ** 0.5
        copy = f"copy: {roof.gigabytes:.3g} GB/s"
        axes.annotate(copy, (x, roof.allows(x)), (6, -4), textcoords="offset points", ha="left", va="top", fontsize=8)
        axes.set(xlabel="operations a byte read or written", ylabel="GFLOP/s of a training step")
        axes.grid(alpha=0.25)
        _keys(figure, axes, stored, conv)
        return _svg(figure, "roofline: training steps under what the machine allows")


def _scatter(axes: Axes, cases: list[bounds.Case], colour: int, marker: str, size: int) -> list[float]:
    xs, ys = [case.intensity for case in cases], [case.gflops for case in cases]
    axes.scatter(xs, ys, c=COLOURS[colour], marker=marker, s=size, edgecolors="white", linewidths=0.4, zorder=3)
    return xs


def _keys(figure: Figure, axes: Axes, stored: dict[str, Any], conv: dict[str, Any] | None) -> None:
    """Colours are methods, shapes are what was changed."""
    for i, method in enumerate(stored["axes"]["T"]["points"][0]):
        axes.scatter([], [], c=COLOURS[i], marker="o", s=24, label=method)
    for i, axis in enumerate(stored["axes"]):
        axes.scatter([], [], c=GREY, marker=MARKERS[i][1], s=20, label=f"dense, {AXES[axis]}")
    if conv is not None:
        axes.scatter([], [], c=GREY, marker="*", s=90, label="convolutions")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
