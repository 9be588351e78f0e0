"""The comparison table of a report: its columns, and what they are in Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aplysia.report.page_rows import Page, PageRow
from aplysia.report.page_svg import compact
from aplysia.report.render import interval, share

INSIDE = "inside the noise"


@dataclass(frozen=True)
class ShownColumn:
    """A column of the table.

    Attributes:
        head: what stands above it.
        told: a row's cell in words; empty where nothing is known.
        value: what rows are sorted by; None: by the words.
        help: what the head means.
    """

    head: str
    told: Callable[[PageRow], str]
    value: Callable[[PageRow], float | None] | None
    help: str = ""


def columns(page: Page) -> list[ShownColumn]:
    """The columns that at least one row knows something of."""
    every = [
        ShownColumn("row", lambda row: row.name, None),
        ShownColumn("data", lambda row: row.data, None) if len(page.data) > 1 else None,
        ShownColumn(
            "accuracy, %",
            _accuracy,
            lambda row: row.accuracy.mean,
            "test accuracy after the last epoch, mean ± standard deviation (seeds)",
        ),
        ShownColumn(
            "95 % interval",
            lambda row: "" if row.accuracy.low is None else f"{row.accuracy.low:.2f} to {row.accuracy.high:.2f}",
            lambda row: row.accuracy.low,
            "Student's interval of the mean",
        ),
        ShownColumn(
            f"to {page.baseline}, pp",
            _difference,
            lambda row: 0.0 if row.is_baseline else row.difference.mean if row.difference else None,
            "paired difference over the seeds both have, with its 95 % interval",
        ),
        ShownColumn(
            "words moved",
            lambda row: "" if row.words is None else share(row.words),
            lambda row: row.words,
            "weight words moved for learning, as a share of backpropagation's on the same net",
        ),
        ShownColumn(
            "bits moved",
            lambda row: "" if row.bits is None else share(row.bits),
            lambda row: row.bits,
            "the same in bits, addresses included",
        ),
        ShownColumn(
            "energy, pJ",
            _energy,
            lambda row: row.energy and row.energy.value,
            "of one trained sample on the chip chosen, with its range; ≥: a part has no price",
        ),
        ShownColumn(
            "operations",
            lambda row: _bounded(row.operations),
            lambda row: row.operations and row.operations.total,
            "MACs and ACs of one trained sample; ≥: a part is not known",
        ),
        ShownColumn(
            "memory, bytes",
            lambda row: _bounded(row.memory),
            lambda row: row.memory and row.memory.total,
            "what learning keeps; ≥: a part is not known",
        ),
        ShownColumn(
            "needs",
            lambda row: "" if row.needs is None else ", ".join(row.needs) or "nothing",
            None,
            "what the rule needs of a chip, as measured",
        ),
    ]
    return [
        c
        for c in every
        if c is not None and any(c.told(row) for row in page.rows) and (page.baseline or "None" not in c.head)
    ]


def inside(rows: Sequence[PageRow]) -> list[PageRow]:
    """Rows whose difference to the baseline may be chance: its interval holds 0."""
    return [row for row in rows if row.difference is not None and row.difference.within_noise]


def warnings(page: Page) -> list[str]:
    """What is to be known before differences are read."""
    compared = [row for row in page.rows if row.difference is not None]
    told = []
    if page.baseline is None and len(page.rows) > 1:
        told.append("No baseline: choose one with --baseline, and differences are paired with it over equal seeds.")
    if noisy := inside(compared):
        holds = "the 95 % interval of each holds 0" if len(noisy) > 1 else "its 95 % interval holds 0"
        told.append(
            f"{len(noisy)} of {len(compared)} differences {'are' if len(noisy) > 1 else 'is'} {INSIDE}: {holds}."
        )
    if single := [row.name for row in compared if row.difference and row.difference.within_noise is None]:
        told.append(f"One seed alone tells nothing from noise: {_some(single)}.")
    if alone := [row.name for row in page.rows if page.baseline and not row.is_baseline and row.difference is None]:
        told.append(f"No seed in common with the baseline on the same data: {_some(alone)}.")
    return told


def markdown(page: Page) -> str:
    """The table as Markdown, its warnings and notes below."""
    shown = columns(page)
    body = [[c.head for c in shown], ["---"] * len(shown), *([c.told(row) for c in shown] for row in page.rows)]
    lines = [f"**{_escaped(page.title)}**", ""]
    lines += [
        "| " + " | ".join(cell if n == 1 else _escaped(cell) for cell in cells) + " |" for n, cells in enumerate(body)
    ]
    for note in (*warnings(page), *page.notes, *left_out(page)):
        lines += ["", _escaped(note)]
    return "\n".join(lines) + "\n"


def left_out(page: Page) -> list[str]:
    """Folders that are not shown, by name alone: where they lie on a machine is no reader's business."""
    told = []
    for one in page.left_out:
        reason = one.reason.removeprefix(f"{one.path}: ").replace(f"{one.path}/", "").replace(str(one.path), "it")
        told.append(f"left out: {one.path.name}: {reason}")
    return told


def csv_text(page: Page) -> str:
    """A line for each row with all digits; what is not known is empty."""
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(_HEADS)
    for row in page.rows:
        e, d, j = row.accuracy, row.difference, row.energy
        cells = [row.name, row.group, row.data, int(row.is_baseline), " ".join(str(run.seed) for run in row.runs)]
        cells += [e.mean, e.sd, e.n, e.low, e.high]
        cells += [None] * 5 if d is None else [d.mean, d.sd, d.n, d.low, d.high]
        cells += [None if d is None or d.within_noise is None else int(d.within_noise), row.words, row.bits]
        cells += [None] * 4 if j is None else [j.value, j.low, j.high, int(j.bound)]
        for amounts in (row.operations, row.accesses, row.memory):
            cells += [None, None] if amounts is None else [amounts.total, int(amounts.bound)]
        writer.writerow(["" if cell is None else _harmless(cell) for cell in cells])
    return made.getvalue()


_HEADS = (
    *("row", "group", "data", "is_baseline", "seeds"),
    *(f"accuracy_{name}" for name in ("mean", "sd", "n", "low", "high")),
    *(f"difference_{name}" for name in ("mean", "sd", "n", "low", "high", "within_noise")),
    *("words_of_bp", "bits_of_bp", "energy_pj", "energy_low_pj", "energy_high_pj", "energy_lower_bound"),
    *("operations", "operations_lower_bound", "weight_accesses", "weight_accesses_lower_bound"),
    *("memory_bytes", "memory_lower_bound"),
)


def _energy(row: PageRow) -> str:
    e = row.energy
    if e is None:
        return ""
    span = "" if e.low == e.high else f" ({compact(e.low)} to {compact(e.high)})"
    return f"{'≥ ' if e.bound else ''}{compact(e.value)}{span}"


def _accuracy(row: PageRow) -> str:
    e = row.accuracy
    return f"{e.mean:.2f}" + ("" if e.sd is None else f" ± {e.sd:.2f}") + f" ({e.n})"


def _difference(row: PageRow) -> str:
    if row.is_baseline:
        return "baseline"
    if (d := row.difference) is None:
        return ""
    return " ".join(filter(None, [f"{d.mean:+.2f}", interval(d), INSIDE if d.within_noise else ""]))


def _bounded(amounts: object) -> str:
    total, bound = getattr(amounts, "total", None), getattr(amounts, "bound", False)
    return "" if total is None else ("≥ " if bound else "") + compact(total)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _escaped(text: str) -> str:
    for letter in "\\|*_`<[]":
        text = text.replace(letter, "\\" + letter)
    return " ".join(text.split())


def _harmless(cell: object) -> object:
    """A text that a spreadsheet would take for a formula gets a quote in front."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
