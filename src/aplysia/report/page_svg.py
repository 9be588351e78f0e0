"""Drawing by hand: scales, axes and marks as SVG text, small enough that a page holds all of it.

Every text that comes from a file goes through `escape`. Colours are classes; the page's style sheet knows them, light and dark.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

COLOURS = 7  # classes c0 … c6 of the style sheet, after Okabe and Ito
_DASHES = ("", "6 3", "2 3", "9 3 2 3")
_MARKS = (
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0Z",
    "M-4 -4H4V4H-4Z",
    "M0 -5.5L5.5 0L0 5.5L-5.5 0Z",
    "M0 -5.2L5 3.8H-5Z",
    "M0 5.2L5 -3.8H-5Z",
    "M-1.7 -5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5V-1.7H-1.7Z",
    "M0 -5.6L1.6 -1.8L5.4 -1.7L2.4 0.7L3.4 4.6L0 2.4L-3.4 4.6L-2.4 0.7L-5.4 -1.7L-1.6 -1.8Z",
    "M-5 -3L-3 -5L0 -2L3 -5L5 -3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0Z",
)


@dataclass(frozen=True)
class Style:
    """How a row is drawn, everywhere the same.

    Attributes:
        colour: number of the colour; None: the colour of the text.
        mark: number of the marker.
        dash: number of the dash.
    """

    colour: int | None
    mark: int = 0
    dash: int = 0

    @property
    def name(self) -> str:
        """Class of the colour."""
        return "ink" if self.colour is None else f"c{self.colour % COLOURS}"

    @property
    def dashes(self) -> str:
        """The attribute of a line."""
        dash = _DASHES[self.dash % len(_DASHES)]
        return f' stroke-dasharray="{dash}"' if dash else ""


@dataclass(frozen=True)
class Scale:
    """Values to pixels.

    Attributes:
        low, high: ends in values.
        start, end: ends in pixels.
        log: whether decades are equally long.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            (math.log10(x) for x in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values, about as many."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            step = max(1, math.ceil((last - first + 1) / count))
            return [10.0**k for k in range(first, last + 1, step)]
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def around(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> Scale:
    """A linear scale with a little room on both sides; from 0 if asked for."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(0.0 if zero else low - room, high + room, start, end)


def decades(values: Sequence[float], start: float, end: float) -> Scale:
    """A scale of whole decades around positive values."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Scale(10.0**first / 1.6, 10.0 ** max(last, first + 1) * 1.6, start, end, log=True)


def escape(text: object) -> str:
    """Text for HTML and SVG, attributes included."""
    return html.escape(str(text), quote=True)


def cut(text: str, letters: int) -> str:
    """At most so many letters; the middle goes, for names differ at their ends."""
    if len(text) <= letters:
        return text
    head = (letters - 1) * 3 // 5
    return text[:head].rstrip() + "…" + text[len(text) - (letters - 1 - head) :].lstrip()


def shortened(names: Sequence[str], letters: int) -> list[str]:
    """Names of at most so many letters: those too long lose the words that they all begin with, before anything is cut."""
    words = [name.split(" ") for name in names if len(name) > letters]
    shared = 0
    while len(words) > 1 and all(len(w) > shared + 1 and w[shared] == words[0][shared] for w in words):
        shared += 1
    return [
        cut("…" + " ".join(name.split(" ")[shared:]) if shared and len(name) > letters else name, letters)
        for name in names
    ]


def compact(x: float) -> str:
    """A number in a few letters: 0, 0.25, 12.5, 8,400, 1.2 M."""
    if x == 0:
        return "0"
    for factor, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(x) >= factor:
            return f"{x / (1e3 if unit == ' k' else factor):.3g}{unit}"
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def svg(width: float, height: float, label: str, body: Sequence[str], kind: str = "") -> str:
    """A drawing that scales with the page."""
    return (
        f'<svg class="drawing {kind}" viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg" '
        f'role="group" aria-label="{escape(label)}">{"".join(body)}</svg>'
    )


def text(
    x: float, y: float, words: str, *, anchor: str = "start", kind: str = "", letters: int = 99, whole: str = ""
) -> str:
    """A line of text; the whole of it as a title where it is cut, here or before."""
    short = cut(words, letters)
    title = f"<title>{escape(whole or words)}</title>" if short != (whole or words) else ""
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{named}>{title}{escape(short)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str = "grid") -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def mark(x: float, y: float, style: Style, row: int, tip: str, *, size: float = 1.0) -> str:
    """A marker that can be hovered over and focused; `tip` is what it says, line by line."""
    grown = f" scale({size:g})" if size != 1.0 else ""
    shape = f'<path class="{style.name} mark" d="{_MARKS[style.mark % len(_MARKS)]}"/>'
    place = f"translate({x:.1f} {y:.1f}){grown}"
    return f'<g class="hot" {hot(row, tip)} transform="{place}"><circle r="11" class="hit"/>{shape}</g>'


def hot(row: int, tip: str) -> str:
    """Attributes of what answers to pointer and keys."""
    return f'tabindex="-1" role="img" data-row="{row}" data-tip="{escape(tip)}" aria-label="{escape(tip)}"'


def path(points: Sequence[tuple[float, float]], style: Style, kind: str = "curve") -> str:
    """An open line."""
    return f'<path class="{style.name} {kind}" d="{_joined(points)}"{style.dashes}/>'


def band(xs: Sequence[float], low: Sequence[float], high: Sequence[float], style: Style) -> str:
    """The area between two lines."""
    outline = [*zip(xs, high, strict=True), *reversed(list(zip(xs, low, strict=True)))]
    return f'<path class="{style.name} band" d="{_joined(outline)}Z"/>'


def reader(points: Sequence[tuple[float, float]], row: int, tip: str, says: Sequence[str], form: str) -> str:
    """A wide unseen line over a curve, which tells the numbers of the point that the pointer or the arrow keys are at.

    `tip` is what it says as a whole, `says` a point's numbers parted by colons, `form` the sentence they are put into.
    """
    told = f'data-says="{escape("|".join(says))}" data-form="{escape(form)}"'
    return f'<path class="hot reader" {hot(row, tip)} {told} d="{_joined(points)}"/>'


def y_axis(scale: Scale, left: float, right: float, *, count: int = 5, unit: str = "") -> list[str]:
    """Lines across, their values at the left."""
    made = []
    for value in scale.ticks(count):
        y = scale(value)
        made += [line(left, y, right, y), text(left - 6, y + 3.5, f"{value:g}{unit}", anchor="end", kind="tick")]
    return made


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places for labels as near as can be to where they are wanted, `gap` apart, in `low` … `high` while there is room."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    free = low
    for i in order:
        placed[i] = max(wanted[i], free)
        free = placed[i] + gap
    free = high
    for i in reversed(order):
        placed[i] = min(placed[i], free)
        free = placed[i] - gap
    return placed


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * k for k in (1, 2, 2.5, 5, 10) if power * k >= step * (1 - 1e-9))
