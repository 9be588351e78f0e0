"""A report in text: the cells of the table, its footnotes, and the Markdown file."""

from __future__ import annotations

from aplysia.report.measure import Measured, Report
from aplysia.report.statistics import Estimate
from aplysia.tables.base import Published

COLUMNS = (
    "row",
    "test accuracy %, mean ± sd (n)",
    "difference to {baseline}, pp [95 %]",
    "words moved, of BP's",
    "bits moved, of BP's",
    "published",
)
_MARKS = {"confirmed": "", "inferred": "~", "unknown": "?"}


def columns(report: Report) -> list[str]:
    """The heads of the columns."""
    heads = [text.format(baseline=report.table.baseline) for text in COLUMNS]
    return [*heads[:2], *(column.title for column in report.table.extra), *heads[2:]]


def lines(report: Report) -> list[list[str]]:
    """One list of cells per row."""
    numbers = {key: i for i, key in enumerate(_sources(report), 1)}
    return [
        [
            row.row.name,
            _accuracy(row),
            *(_number(row.extra.get(column.key)) for column in report.table.extra),
            "baseline" if row.row.name == report.table.baseline else _difference(row.difference),
            share(row.words),
            share(row.bits),
            _published(row.row.published, numbers),
        ]
        for row in report.rows
    ]


def footnotes(report: Report) -> list[str]:
    """What stands below the table: sources, what the marks mean, what is missing or failed."""
    notes = [report.table.note] if report.table.note else []
    notes += [f"every row with {', '.join(report.table.settings)}"] if report.table.settings else []
    notes += [
        f"[{i}] {source} ({certainty}{_meaning(certainty)})"
        for i, (source, certainty) in enumerate(_sources(report), 1)
    ]
    notes += _searches(report) + _noise(report)
    notes += [f"data: {caveat}" for caveat in report.caveats]
    if report.missing:
        many = f" and {len(report.missing) - 8} more" if len(report.missing) > 8 else ""
        notes.append(f"missing: {', '.join(report.missing[:8])}{many}")
    reasons: dict[str, list[str]] = {}
    for row in report.rows:
        for seed, sentence in row.failed.items():
            reasons.setdefault(sentence, []).append(f"{row.row.name} s{seed}")
    return notes + [f"failed: {', '.join(cells)}: {sentence}" for sentence, cells in reasons.items()]


def markdown(report: Report) -> str:
    """The table as Markdown, footnotes below."""

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"

    head = columns(report)
    text = [f"**{_escaped(report.table.title)}**", "", line(head), "| " + " | ".join("---" for _ in head) + " |"]
    text += [line(cells) for cells in lines(report)]
    for note in footnotes(report):
        text += ["", _escaped(note)]
    return "\n".join(text) + "\n"


def share(x: float | None) -> str:
    """A share of backpropagation's traffic: 0, 1/1,000, 0.25, 1, 1.5."""
    if x is None:
        return "n/a"
    if 0.0 < x < 0.15:
        return f"1/{float(f'{1 / x:.3g}'):,.10g}"
    return f"{x:.3g}"


def interval(e: Estimate) -> str:
    """`[-0.30, +0.10]`, or nothing for a single value."""
    return "" if e.low is None or e.high is None else f"[{_signed(e.low)}, {_signed(e.high)}]"


def _accuracy(row: Measured) -> str:
    if row.accuracy is None:
        return "failed" if row.failed else "missing"
    spread = "" if row.accuracy.sd is None else f" ± {row.accuracy.sd:.2f}"
    failed = f", {len(row.failed)} failed" if row.failed else ""
    return f"{row.accuracy.mean:.2f}{spread} ({row.accuracy.n}{failed})"


def _number(e: Estimate | None) -> str:
    if e is None:
        return "n/a"
    places = 2 if abs(e.mean) >= 1.0 else 3
    return f"{e.mean:.{places}f}" + ("" if e.sd is None else f" ± {e.sd:.{places}f}")


def _difference(e: Estimate | None) -> str:
    if e is None:
        return "n/a"
    told = " ".join(filter(None, [_signed(e.mean), interval(e)]))
    return told + (" within noise" if e.within_noise else "")


def _signed(x: float) -> str:
    """With its sign, two places; what rounds to nothing has none."""
    return f"{x:+.2f}" if round(x, 2) else "0.00"


def _published(published: Published | None, numbers: dict[tuple[str, str], int]) -> str:
    if published is None:
        return ""
    value = f"{published.value + 0.0:+g} pp" if published.unit == "pp" else f"{published.value:g}"
    return f"{_MARKS[published.certainty]}{value} [{numbers[published.source, published.certainty]}]"


def _searches(report: Report) -> list[str]:
    """Where the rows' settings came from: one note for each budget, and a warning where the rows do not share one."""
    rows = [(row.row.name, row.row.search) for row in report.rows]
    budgets: dict[str, dict[str, list[str]]] = {}
    for name, search in rows:
        if search is not None:
            samples = "all" if search.samples is None else f"{search.samples:,}"
            told = f"trials: {search.trials}, epochs: {search.epochs}, training samples: {samples}, seed: {search.seed}"
            told = f"settings by a search ({told}; {search.record})"
            budgets.setdefault(told, {}).setdefault(" ".join(search.space), []).append(name)
    notes = [
        f"{told}: " + "; ".join(f"{', '.join(names)}: {space}" for space, names in spaces.items())
        for told, spaces in budgets.items()
    ]
    if without := [name for name, search in rows if search is None] if notes else []:
        notes.append(f"settings without a search: {', '.join(without)}")
    if len({search.budget for _, search in rows if search is not None}) > 1:
        notes.append("warning: the searches differ in trials, epochs or samples, so these rows were not tuned alike")
    return notes


def _noise(report: Report) -> list[str]:
    """What the marks beside a difference mean, where one stands."""
    shown = [row.difference for row in report.rows if row.difference is not None]
    notes = []
    if any(e.within_noise for e in shown):
        notes.append("within noise: the 95 % interval of the paired difference holds 0")
    if any(e.within_noise is None for e in shown):
        notes.append("a difference without an interval: one seed alone, so nothing tells it from noise")
    return notes


def _sources(report: Report) -> list[tuple[str, str]]:
    """(source, certainty), each once, in the order of the rows."""
    stated = [row.row.published for row in report.rows if row.row.published is not None]
    return list(dict.fromkeys((p.source, p.certainty) for p in stated))


def _meaning(certainty: str) -> str:
    return f", marked {_MARKS[certainty]}" if _MARKS[certainty] else ""


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: a bar would end the cell, an asterisk or an underscore start a slant."""
    for letter in "\\|*_`<":
        text = text.replace(letter, "\\" + letter)
    return text.replace("\n", " ")
