"""How rows are drawn in all figures of a report, and accuracy against what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aplysia.report import page_svg as draw
from aplysia.report.page_rows import PageRow
from aplysia.report.page_svg import Style, compact
from aplysia.report.render import share

WIDE, NARROW = 900, 360
MOST = 8  # rows in a panel


@dataclass(frozen=True)
class Figure:
    """One drawing, or one for wide and one for narrow screens.

    Attributes:
        title: what is seen.
        drawings: SVG; two where the second is for narrow screens.
    """

    title: str
    drawings: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """A quantity that accuracy is set against.

    Attributes:
        title: of the axis.
        value: of a row; None: not known.
        told: the value in words.
        ends: low and high where the value has a range.
        bound: whether the value is only a lower bound, which ranks nothing.
    """

    title: str
    value: Callable[[PageRow], float | None]
    told: Callable[[float], str]
    ends: Callable[[PageRow], tuple[float, float] | None] = lambda row: None
    bound: Callable[[PageRow], bool] = lambda row: False


COSTS = (
    Cost("weight words moved, of backpropagation's", lambda row: row.words, share),
    Cost(
        "energy of a trained sample, pJ",
        lambda row: row.energy and row.energy.value,
        compact,
        lambda row: row.energy and (row.energy.low, row.energy.high),
        lambda row: row.energy is not None and row.energy.bound,
    ),
    Cost(
        "memory for learning, bytes",
        lambda row: row.memory.total if row.memory else None,
        compact,
        bound=lambda row: row.memory is not None and row.memory.bound,
    ),
    Cost(
        "operations of a trained sample",
        lambda row: row.operations.total if row.operations else None,
        compact,
        bound=lambda row: row.operations is not None and row.operations.bound,
    ),
)


def panels(rows: Sequence[PageRow]) -> list[tuple[str, list[int]]]:
    """Rows that are drawn together, by number: all, or by group, at most `MOST` with the baseline in each."""
    if len(rows) <= MOST:
        return [("", list(range(len(rows))))]
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.group, []).append(i)
    made: list[tuple[str, list[int]]] = []
    single: list[int] = []
    for name, members in groups.items():
        if len(members) == 1:
            single += members
            continue
        made += [(name, members[at : at + MOST - 1]) for at in range(0, len(members), MOST - 1)]
    if len(single) == 1:
        made.append((rows[single[0]].group, single))
        single = []
    made += [("", single[at : at + MOST - 1]) for at in range(0, len(single), MOST - 1)]
    return [(name or ("others" if len(groups) > 1 else "rows"), members) for name, members in made]


def styles(rows: Sequence[PageRow]) -> list[Style]:
    """A style for each row, the same in all figures: colour and dash within a panel, marker by panel."""
    found: dict[int, Style] = {}
    chunks = panels(rows)
    for number, (_, members) in enumerate(chunks):
        coloured = [i for i in members if not rows[i].is_baseline]
        for place, i in enumerate(coloured):
            found[i] = Style(place, place if len(chunks) == 1 else number, place // draw.COLOURS + place % 2)
    return [found.get(i, Style(None)) for i in range(len(rows))]


def row_tip(row: PageRow, *more: str) -> str:
    """What a mark of a row says: its name and its numbers."""
    e = row.accuracy
    lines = [row.name, f"{e.mean:.2f} %" + ("" if e.sd is None else f" ± {e.sd:.2f}") + f" ({e.n})"]
    if e.low is not None and e.high is not None:
        lines.append(f"95 % interval {e.low:.2f} to {e.high:.2f}")
    if (d := row.difference) is not None:
        noise = ", inside the noise" if d.within_noise else ", one seed" if d.within_noise is None else ""
        lines.append(f"{d.mean:+.2f} pp to the baseline{noise}")
    return "\n".join([*lines, *more])


def tradeoffs(rows: Sequence[PageRow]) -> list[Figure]:
    """Accuracy against each cost that at least two rows know and that is not the same for all."""
    made = []
    for cost in COSTS:
        known = [(i, value) for i, row in enumerate(rows) if (value := cost.value(row)) is not None]
        if len({value for _, value in known}) > 1:
            title = f"Test accuracy against {cost.title.split(',')[0]}"
            made.append(Figure(title, (_tradeoff(rows, known, cost, WIDE), _tradeoff(rows, known, cost, NARROW))))
    return made


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points (cost, accuracy) that no other beats in one without losing in the other, cheapest first."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    kept: list[int] = []
    for i in order:
        if not kept or points[i][1] > points[kept[-1]][1]:
            kept.append(i)
    return kept


def _tradeoff(rows: Sequence[PageRow], known: Sequence[tuple[int, float]], cost: Cost, width: int) -> str:
    narrow = width == NARROW
    height, left, right, top = (380, 40, width - 14, 26) if narrow else (440, 48, width - 24, 26)
    bottom = height - 46
    ends = {i: pair for i, _ in known if (pair := cost.ends(rows[i])) is not None and pair[0] > 0}
    values = [value for _, value in known] + [value for pair in ends.values() for value in pair]
    positive = [value for value in values if value > 0]
    log = max(positive) > 12 * min(positive) if positive else False
    nothing = log and len(positive) < len(values)
    start = left + (46 if nothing else 12)
    x = draw.decades(positive, start, right) if log else draw.around(values, left + 12, right)
    shown = [rows[i].accuracy for i, _ in known]
    means = [e.mean for e in shown]
    room = max(means) - min(means) or 1.0
    # Intervals of two or three seeds may be far longer than all that differs: they are cut off, not the means.
    reach = [
        min(max(v, min(means) - room / 2), max(means) + room / 2)
        for e in shown
        for v in (e.low or e.mean, e.high or e.mean)
    ]
    y = draw.around([*means, *reach], bottom, top)
    body = [*draw.y_axis(y, left, right), draw.line(left, bottom, right, bottom, "axis")]
    ticks = [(x(v), cost.told(v)) for v in x.ticks(4 if narrow else 7)]
    if nothing:
        body.append(draw.line(left + 38, top, left + 38, bottom, "split"))
        ticks.insert(0, (left + 18, "0"))
    body += [draw.text(px, bottom + 17, told, anchor="middle", kind="tick") for px, told in ticks]
    body.append(draw.text((left + right) / 2, height - 8, cost.title, anchor="middle", kind="label"))
    body.append(draw.text(0, 12, "test accuracy, %", kind="label"))
    at = [(left + 18 if log and value == 0 else x(value), y(rows[i].accuracy.mean)) for i, value in known]
    firm = [k for k, (i, _) in enumerate(known) if not cost.bound(rows[i])]
    best = [firm[k] for k in front([(known[k][1], rows[known[k][0]].accuracy.mean) for k in firm])]
    stairs: list[tuple[float, float]] = []
    for k in best:
        stairs += [(at[k][0], stairs[-1][1])] if stairs else []
        stairs.append(at[k])
    if stairs:
        body.append(draw.path([*stairs, (right, stairs[-1][1])], Style(None), "front"))
    styled = styles(rows)
    for (i, _), (px, _) in zip(known, at, strict=True):
        e = rows[i].accuracy
        if e.low is not None and e.high is not None:
            low, high = (min(max(y(v), top), bottom) for v in (e.low, e.high))
            body.append(draw.line(px, low, px, high, f"{styled[i].name} whisker"))
    for (i, value), (px, py) in zip(known, at, strict=True):
        loose = cost.bound(rows[i])
        tip = row_tip(rows[i], f"{cost.title}: {'≥ ' if loose else ''}{cost.told(value)}")
        if i in ends:
            tip += f", {cost.told(ends[i][0])} to {cost.told(ends[i][1])}"
            body.append(draw.line(x(ends[i][0]), py, x(ends[i][1]), py, f"{styled[i].name} whisker"))
        if loose:
            body.append(draw.text(px + 6, py + 4, "›", kind="tick"))
        body.append(draw.mark(px, py, styled[i], i, tip))
    body += _point_names(rows, known, at, best, (left, right, top, bottom), narrow)
    label = f"{cost.title} across, test accuracy in percent up; {len(known)} rows"
    return draw.svg(width, height, label, body, "narrow" if narrow else "wide")


def _point_names(
    rows: Sequence[PageRow],
    known: Sequence[tuple[int, float]],
    at: Sequence[tuple[float, float]],
    best: Sequence[int],
    frame: tuple[float, float, float, float],
    narrow: bool,
) -> list[str]:
    """Names beside points, those on the front first, as far as they are short and meet nothing; hovering tells the others."""
    left, right, top, bottom = frame
    taken = [(px - 6, py - 6, px + 6, py + 6) for px, py in at]
    made, letters = [], 16 if narrow else 28
    for k in sorted(range(len(known)), key=lambda k: (k not in best, not rows[known[k][0]].is_baseline)):
        (px, py), name = at[k], rows[known[k][0]].name
        if len(name) > letters:
            continue
        long = 6.7 * len(name)
        for anchor, x0, dy in (
            *(("start", px + 9, dy) for dy in (-7, 15, 4)),
            *(("end", px - 9 - long, dy) for dy in (-7, 15, 4)),
            *(("middle", px - long / 2, dy) for dy in (-11, 20)),
        ):
            box = (x0, py + dy - 9, x0 + long, py + dy + 3)
            inside = box[0] >= left and box[2] <= right and box[1] >= top and box[3] <= bottom
            if inside and not any(_meet(box, other) for other in taken):
                taken.append(box)
                place = {"start": x0, "end": x0 + long, "middle": x0 + long / 2}[anchor]
                made.append(draw.text(place, py + dy, name, anchor=anchor, kind="name"))
                break
    return made


def _meet(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
