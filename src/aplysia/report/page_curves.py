"""Curves of a report: accuracy over epochs, alignment and drift over optimiser steps."""

from __future__ import annotations

from collections.abc import Sequence

from aplysia.report import page_svg as draw
from aplysia.report.page_figures import NARROW, Figure, panels, styles
from aplysia.report.page_rows import Curve, PageRow
from aplysia.report.page_svg import Scale, Style, compact

_LABELS = 116  # pixels beside a panel for the names of its curves
_HEIGHT = 290


def learning(rows: Sequence[PageRow]) -> list[Figure]:
    """Accuracy over epochs, a panel for each group; all panels share their axes."""
    found = {i: curve for i, row in enumerate(rows) if (curve := row.learning) is not None and len(curve.x) > 1}
    return _curves(rows, found, "epoch", " %", "")


def aligned(rows: Sequence[PageRow], quantity: str) -> list[Figure]:
    """A quantity over optimiser steps, a panel for each layer in which it is not one and the same value throughout."""
    layers = dict.fromkeys(
        layer for row in rows for run in row.runs for layer, name in run.alignment if name == quantity
    )
    made = []
    for layer in layers:
        found = {i: c for i, row in enumerate(rows) if (c := row.aligned(layer, quantity)) is not None}
        if len({round(v, 6) for curve in found.values() for v in curve.mean}) > 1:
            made += _curves(rows, found, "step", "", layer)
    return made


def _curves(rows: Sequence[PageRow], found: dict[int, Curve], unit: str, percent: str, title: str) -> list[Figure]:
    if not found:
        return []
    xs = [v for c in found.values() for v in (c.x[0], c.x[-1])]
    ys = [v for c in found.values() for m, s in zip(c.mean, c.sd, strict=True) for v in (m - s, m + s)]
    left, right, top, bottom = 36, NARROW - _LABELS, 14, _HEIGHT - 40
    x = Scale(min(xs), max(max(xs), min(xs) + 1), left + 4, right)
    y = draw.around(ys, bottom, top)
    ground = [*draw.y_axis(y, left, right), draw.line(left, bottom, right, bottom, "axis")]
    ground += [
        draw.text(x(v), bottom + 16, compact(v), anchor="middle", kind="tick") for v in x.ticks(4) if v == round(v)
    ]
    below = "epochs" if unit == "epoch" else "optimiser steps"
    ground.append(draw.text((left + right) / 2, _HEIGHT - 6, below, anchor="middle", kind="label"))
    baseline = [i for i, row in enumerate(rows) if row.is_baseline and i in found]
    styled, made = styles(rows), []
    for name, members in panels(rows):
        here = [i for i in members if i in found]
        if not here:
            continue
        here += [i for i in baseline if i not in here]
        ends = draw.spread([y(found[i].mean[-1]) for i in here], 13, top + 4, bottom)
        names = draw.shortened([rows[i].name for i in here], 17)
        drawn = []
        for i, end, short in zip(here, ends, names, strict=True):
            points = [(x(v), y(m)) for v, m in zip(found[i].x, found[i].mean, strict=True)]
            inner = [
                *_band(found[i], x, y, styled[i]),
                draw.path(points, styled[i]),
                draw.path([points[-1], (right + 5, end), (right + 9, end)], Style(styled[i].colour), "lead"),
                draw.text(right + 12, end + 3.5, short, kind="name", whole=rows[i].name),
                _reader(found[i], points, i, rows[i].name, unit, percent),
            ]
            drawn.append(f'<g class="one" data-row="{i}">{"".join(inner)}</g>')
        words = ": ".join(filter(None, [title, name]))
        label = f"{words or 'curves'} over {below}; {len(here)} rows"
        made.append(Figure(words, (draw.svg(NARROW, _HEIGHT, label, [*ground, *drawn]),)))
    return made


def _band(curve: Curve, x: Scale, y: Scale, style: Style) -> list[str]:
    if not any(curve.sd):
        return []
    low, high = ([y(m + k * s) for m, s in zip(curve.mean, curve.sd, strict=True)] for k in (-1, 1))
    return [draw.band([x(v) for v in curve.x], low, high, style)]


def _reader(curve: Curve, points: Sequence[tuple[float, float]], row: int, name: str, unit: str, percent: str) -> str:
    digits = 2 if percent else 3
    says = [f"{v:g}:{m:.{digits}f}:{s:.{digits}f}" for v, m, s in zip(curve.x, curve.mean, curve.sd, strict=True)]
    spread = f" ± {{2}} ({curve.seeds})" if curve.seeds > 1 else ""
    form = f"{unit} {{0}}: {{1}}{percent}{spread}"
    return draw.reader(points, row, f"{name}\n{form.format(*says[-1].split(':'))}", says, form)
