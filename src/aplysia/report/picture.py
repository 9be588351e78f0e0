"""Accuracy against what a row moves, as a page that can be hovered over (Plotly) and as a drawing (matplotlib).

Both libraries are imported only here and only when a picture is made. The page holds plotly.js itself and asks no server
for anything; without matplotlib (extra `figures`) there is no drawing.
"""

from __future__ import annotations

import html
import io
import math
from typing import Any

from aplysia.report.layout import COLOURS, MARKERS, Y_TITLE, Layout, Point, layout
from aplysia.report.measure import Report
from aplysia.report.render import columns, lines

_WALL = "#8a8a8a"


def figure_html(report: Report) -> str | None:
    """A whole HTML page, self-contained; None if nothing is measured yet."""
    plan = layout(report)
    if not plan.points:
        return None
    from plotly import graph_objects as go
    from plotly.io import to_html

    figure = go.Figure()
    heads, told = columns(report), {cells[0]: cells for cells in lines(report)}
    for group, points in plan.groups:
        colour, (marker, _) = _style(points[0])
        figure.add_scatter(
            x=[point.x for point in points],
            y=[point.y for point in points],
            error_y={"type": "data", "array": [point.half for point in points], "thickness": 1.2, "width": 4},
            mode="lines+markers" if plan.joined else "markers",
            marker={"symbol": marker, "size": 11, "color": colour, "line": {"width": 1, "color": "white"}},
            name=html.escape(group),
            hovertext=[_hover(heads, told[point.measured.row.name]) for point in points],
            hoverinfo="text",
        )
    for name, xs, ys in plan.dashed:
        figure.add_scatter(
            x=xs, y=ys, mode="lines", line={"dash": "dash", "color": _beside(plan, name)}, name=html.escape(name)
        )
    for y, name in plan.levels:
        figure.add_hline(y=y, line={"dash": "dot", "width": 1.5, "color": _WALL}, annotation_text=html.escape(name))
    if plan.wall is not None:
        figure.add_vline(x=plan.wall, line={"dash": "dot", "width": 1, "color": _WALL})
    figure.update_xaxes(
        type="log",
        title=plan.title,
        tickvals=[x for x, _ in plan.ticks],
        ticktext=[text for _, text in plan.ticks],
        range=[math.log10(plan.low), math.log10(plan.high)],
    )
    figure.update_yaxes(title=Y_TITLE)
    title = html.escape(report.table.title)
    figure.update_layout(title={"text": title}, template="plotly_white", showlegend=True, hovermode="closest")
    figure.update_layout(meta={"table": report.table.name, "errors": "95 % confidence intervals"})
    body = to_html(figure, include_plotlyjs=True, full_html=True, config={"displaylogo": False}, div_id="table")
    return body.replace("<head>", f'<head>\n    <title>{title}</title>\n    <link rel="icon" href="data:,">', 1)


def figure_svg(report: Report) -> str | None:
    """A drawing with the rows' names in it; None without matplotlib, or if nothing is measured yet."""
    plan = layout(report)
    if not plan.points:
        return None
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return None
    # Text as text and a fixed salt for ids, so that equal numbers give an equal file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "aplysia", "text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=(8.0, 4.8), layout="constrained")
        axes = figure.add_subplot()
        for group, points in plan.groups:
            colour, (_, marker) = _style(points[0])
            xs, ys = [point.x for point in points], [point.y for point in points]
            axes.errorbar(
                xs,
                ys,
                yerr=[math.nan if p.half is None else p.half for p in points],
                fmt="none",
                ecolor=colour,
                capsize=3,
            )
            axes.scatter(xs, ys, c=colour, marker=marker, s=45, edgecolors="white", label=group, zorder=3)
            if plan.joined:
                axes.plot(xs, ys, color=colour, linewidth=1.2)
        for name, xs, ys in plan.dashed:
            axes.plot(xs, ys, color=_beside(plan, name), linewidth=1.2, linestyle="--", label=name)
        for y, name in plan.levels:
            axes.axhline(y, linestyle=":", color=_WALL, linewidth=1.5, label=name)
        if plan.wall is not None:
            axes.axvline(plan.wall, linestyle=":", color=_WALL, linewidth=1)
        axes.set_xscale("log")
        axes.set_xlim(plan.low, plan.high)
        axes.set_xticks([x for x, _ in plan.ticks], [text for _, text in plan.ticks])
        axes.minorticks_off()
        axes.set(xlabel=plan.title, ylabel=Y_TITLE)
        axes.grid(alpha=0.25)
        if not plan.joined:
            _names(axes, plan)
        if len(plan.groups) > 1 or plan.joined:
            figure.legend(loc="outside lower center", ncols=min(4, len(plan.groups)), frameon=False)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Title": report.table.title})
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"


def _names(axes: Any, plan: Layout) -> None:
    """Write each row's name beside its point, moved up where two would stand on each other."""
    low, high = axes.get_ylim()
    step = (high - low) / 28
    free: dict[int, float] = {}
    for point in sorted(plan.points, key=lambda point: point.y):
        # Names reach about a decade to the right; points further left than that do not meet.
        column = round(math.log10(point.x))
        y = max(point.y, free.get(column, -math.inf))
        free[column] = y + step
        place = {"textcoords": "offset points", "xytext": (8, -3), "fontsize": 7.5}
        if column >= round(math.log10(plan.high)):
            place |= {"xytext": (-8, -3), "ha": "right"}
        axes.annotate(point.measured.row.name, (point.x, y), **place)


def _beside(plan: Layout, name: str) -> str:
    """The colour of the group that a dashed line belongs to."""
    return next(_style(points[0])[0] for group, points in plan.groups if name.startswith(f"{group}: "))


def _style(point: Point) -> tuple[str, tuple[str, str]]:
    """Colour and marker: as many pairs as the product of both before one comes again."""
    return COLOURS[point.style % len(COLOURS)], MARKERS[point.style % len(MARKERS)]


def _hover(heads: list[str], cells: list[str]) -> str:
    rest = [
        f"{html.escape(head)}: {html.escape(cell)}" for head, cell in zip(heads[1:], cells[1:], strict=True) if cell
    ]
    return "<br>".join([f"<b>{html.escape(cells[0])}</b>", *rest])
