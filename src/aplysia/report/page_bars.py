"""Figures with a line for each row: spike rates per layer, costs by phase, memory by kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aplysia.report import page_svg as draw
from aplysia.report.page_costs import KINDS, PHASES, Amounts
from aplysia.report.page_figures import NARROW, WIDE, Figure
from aplysia.report.page_rows import PageRow
from aplysia.report.page_svg import Scale, Style, compact


@dataclass(frozen=True)
class _Frame:
    """Where the lines of a figure stand: names beside them, or above them on a narrow screen."""

    narrow: bool
    left: float
    right: float
    line: int
    letters: int

    @classmethod
    def of(cls, width: int, beside: float) -> _Frame:
        """`beside`: pixels kept free at the right."""
        narrow = width == NARROW
        return cls(narrow, 8 if narrow else 232, width - beside, 40 if narrow else 24, 48 if narrow else 32)

    @property
    def kind(self) -> str:
        return "narrow" if self.narrow else "wide"

    def name(self, y: float, short: str, whole: str) -> str:
        """The name of the row whose middle is at y."""
        if self.narrow:
            return draw.text(0, y - 13, short, kind="name", whole=whole)
        return draw.text(self.left - 8, y + 4, short, anchor="end", kind="name", whole=whole)


def rates(rows: Sequence[PageRow]) -> list[Figure]:
    """Spikes per unit and step (first-spike nets: share of units that fire), a marker for each layer."""
    found = [(i, row.rates) for i, row in enumerate(rows) if row.rates]
    if not found:
        return []
    layers = list(dict.fromkeys(layer for _, per_layer in found for layer in per_layer))
    return [Figure("Spike rate of each layer", tuple(_rates(rows, found, layers, width) for width in (WIDE, NARROW)))]


def by_phase(rows: Sequence[PageRow]) -> list[Figure]:
    """Operations and weight accesses of a trained sample, where ledgers say."""
    made = []
    for title, of in (
        ("Operations (MACs and ACs) of a trained sample, by phase", lambda row: row.operations),
        ("Weight reads and writes of a trained sample, by phase", lambda row: row.accesses),
    ):
        made += _stacked(rows, title, of, PHASES, "")
    return made


def memory(rows: Sequence[PageRow]) -> list[Figure]:
    """Bytes that learning keeps, by kind, where ledgers say."""
    return _stacked(rows, "Memory for learning, by kind", lambda row: row.memory, KINDS, " bytes")


def _rates(
    rows: Sequence[PageRow], found: Sequence[tuple[int, dict[str, float]]], layers: list[str], width: int
) -> str:
    frame = _Frame.of(width, 20)
    styled = {layer: Style(k if k < draw.COLOURS else None, k) for k, layer in enumerate(layers)}
    body, top = _legend([(layer, styled[layer]) for layer in layers], width)
    bottom = top + frame.line * len(found)
    every = [0.0, *(rate for _, per_layer in found for rate in per_layer.values())]
    x = draw.around(every, frame.left, frame.right, zero=True)
    body += _ground(x, top, bottom, frame.narrow)
    names = draw.shortened([rows[i].name for i, _ in found], frame.letters)
    for place, (i, per_layer) in enumerate(found):
        y = top + frame.line * (place + 1) - 12
        body.append(frame.name(y, names[place], rows[i].name))
        body.append(draw.line(frame.left, y, frame.right, y))
        for layer, rate in per_layer.items():
            body.append(draw.mark(x(rate), y, styled[layer], i, f"{rows[i].name}\n{layer}: {rate:.3f}", size=0.9))
    body.append(draw.text((frame.left + frame.right) / 2, bottom + 34, "spike rate", anchor="middle", kind="label"))
    return draw.svg(width, bottom + 42, f"spike rates of {len(found)} rows", body, frame.kind)


def _stacked(
    rows: Sequence[PageRow], title: str, of: Callable[[PageRow], Amounts | None], order: Sequence[str], unit: str
) -> list[Figure]:
    found = [(i, amounts) for i, row in enumerate(rows) if (amounts := of(row)) is not None and amounts.total > 0]
    if not found:
        return []
    names = {name for _, amounts in found for name in amounts.parts}
    # Colours belong to names, so that a phase looks the same whatever else is there; as far as there are enough.
    every = [*order, *sorted(names - set(order))]
    every = every if len(every) <= draw.COLOURS else [name for name in every if name in names]
    styled = {name: Style(k if k < draw.COLOURS else None) for k, name in enumerate(every) if name in names}
    drawings = tuple(_bars(rows, found, styled, title, unit, width) for width in (WIDE, NARROW))
    return [Figure(title, drawings)]


def _bars(
    rows: Sequence[PageRow],
    found: Sequence[tuple[int, Amounts]],
    styled: dict[str, Style],
    title: str,
    unit: str,
    width: int,
) -> str:
    frame = _Frame.of(width, 64)
    body, top = _legend(list(styled.items()), width, square=True)
    bottom = top + frame.line * len(found)
    x = Scale(0.0, max(amounts.total for _, amounts in found), frame.left, frame.right)
    body += _ground(x, top, bottom, frame.narrow)
    names = draw.shortened([rows[i].name for i, _ in found], frame.letters)
    for place, (i, amounts) in enumerate(found):
        y, start = top + frame.line * (place + 1) - 19, 0.0
        body.append(frame.name(y + 7, names[place], rows[i].name))
        for name, amount in amounts.parts.items():
            tip = f"{rows[i].name}\n{name}: {amount:,.0f}{unit}, {amount / amounts.total:.1%} of {amounts.total:,.0f}"
            long = max(x(start + amount) - x(start) - 1, 0.6)
            body.append(
                f'<g class="hot" {draw.hot(i, tip)}><rect class="{styled[name].name} bar" x="{x(start):.1f}" '
                f'y="{y:.1f}" width="{long:.1f}" height="14" rx="1.5"/></g>'
            )
            start += amount
        total = ("≥ " if amounts.bound else "") + compact(amounts.total)
        body.append(draw.text(x(amounts.total) + 5, y + 11, total, kind="tick"))
    return draw.svg(width, bottom + 22, f"{title}; {len(found)} rows", body, frame.kind)


def _ground(x: Scale, top: float, bottom: float, narrow: bool) -> list[str]:
    made = []
    for value in x.ticks(3 if narrow else 6):
        made.append(draw.line(x(value), top, x(value), bottom))
        made.append(draw.text(x(value), bottom + 16, compact(value), anchor="middle", kind="tick"))
    return made


def _legend(entries: Sequence[tuple[str, Style]], width: int, *, square: bool = False) -> tuple[list[str], float]:
    """Names with their marks, line after line; the drawing, and where it ends."""
    made, x, y = [], 8.0, 12.0
    for name, style in entries:
        short = draw.cut(name, 24)
        long = 24 + 6.6 * len(short)
        if x + long > width and x > 8:
            x, y = 8.0, y + 20
        if square:
            made.append(
                f'<rect class="{style.name} bar" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" rx="1.5"/>'
            )
        else:
            made.append(f'<g aria-hidden="true">{draw.mark(x, y, style, -1, name).replace("hot", "key", 1)}</g>')
        made.append(draw.text(x + 10, y + 4, name, kind="name", letters=24))
        x += long
    return made, y + 20
