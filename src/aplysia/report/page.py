"""The page of a report: one HTML file that asks nobody for anything.

Its policy lets no request out and runs no script but ours, told by its digest; all that comes from files is escaped besides.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from aplysia.report import page_bars, page_curves, page_figures
from aplysia.report.page_figures import Figure
from aplysia.report.page_rows import Page, PageRow
from aplysia.report.page_svg import escape
from aplysia.report.page_table import INSIDE, columns, left_out, warnings


def html(page: Page) -> str:
    """The whole file."""
    style, script = (
        resources.files("aplysia.report").joinpath(f"assets/page.{end}").read_text("utf-8") for end in ("css", "js")
    )
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {_digest(script)}; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(page.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"{_head(page)}\n<main>\n{''.join(_sections(page))}</main>\n{_foot(page)}\n"
        f'<div id="tip" role="status" hidden></div>\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _digest(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _head(page: Page) -> str:
    seeds = sorted({run.seed for run in page.runs})
    facts = [
        f"{len(page.runs)} run{'s' * (len(page.runs) != 1)}",
        f"{len(page.rows)} row{'s' * (len(page.rows) != 1)}",
        f"{len(seeds)} seed{'s' * (len(seeds) != 1)}",
        ", ".join(page.data),
        *([f"baseline: {page.baseline}"] if page.baseline else []),
    ]
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    return (
        f'<header><div class="bar"><span class="brand">Aplysia report</span>'
        f'<button type="button" id="theme" hidden>theme: auto</button></div>'
        f'<h1>{escape(page.title)}</h1><ul class="facts">{items}</ul></header>'
    )


def _sections(page: Page) -> list[str]:
    rows = page.rows
    drift = page_curves.aligned(rows, "drift")
    return [
        _section("Comparison", _lead(warnings(page)) + _table(page)),
        _figures(
            "Accuracy against cost",
            page_figures.tradeoffs(rows),
            "Means, with 95 % intervals as thin lines, cut off where they run far past all means. The dashed line is the "
            "Pareto front of the means: no row beats those on it in both; neighbours may still differ by chance. "
            "› marks a cost that is only a lower bound: it ranks nothing, and the front leaves it out.",
        ),
        _figures(
            "Learning curves",
            page_curves.learning(rows),
            _curve_words(rows)
            + " The band is ± one standard deviation over seeds; the baseline is in the colour of the text.",
        ),
        _figures(
            "Alignment with backpropagation",
            page_curves.aligned(rows, "gradient_cosine"),
            "Cosine between a layer's update and that of true backpropagation on the same batch; 1 is the same direction.",
        ),
        _figures(
            "Drift of the feedback weights",
            drift,
            "Distance of feedback weights from the forward weights they stand for, relative.",
        ),
        _figures(
            "Spike rates",
            page_bars.rates(rows),
            "On the test set after training: spikes per unit and step; for first-spike neurons the share that fires.",
        ),
        _figures(
            "Cost by phase",
            page_bars.by_phase(rows) + page_bars.memory(rows),
            "From each run's ledger, mean over seeds. A batch is divided by its samples, transport by all samples of the run; "
            "≥ marks a lower bound.",
        ),
        _section("Provenance", _provenance(page)),
    ]


def _curve_words(rows: Sequence[PageRow]) -> str:
    held_out = {run.held_out for row in rows for run in row.runs if len(run.accuracy.x) > 1}
    if held_out == {True}:
        return "Held-out accuracy, %, after each epoch."
    if held_out == {False}:
        return "Training accuracy, %, after each epoch; nothing was held out."
    return "Held-out accuracy, %, after each epoch; training accuracy for runs that held nothing out."


def _section(title: str, body: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{body}</section>\n'


def _lead(sentences: Sequence[str]) -> str:
    return "".join(f'<p class="lead">{escape(sentence).replace(" %", "&nbsp;%")}</p>' for sentence in sentences)


def _table(page: Page) -> str:
    shown = columns(page)
    heads = "".join(
        f'<th scope="col"{"" if c.value is None else " class=number"}><button type="button" title="{escape(c.help or c.head)}">'
        f"{escape(c.head)}</button></th>"
        for c in shown
    )
    body = []
    for i, row in enumerate(page.rows):
        cells = [f'<th scope="row" title="{escape(row.name)}"><span>{escape(row.name)}</span></th>']
        for c in shown[1:]:
            value = None if c.value is None else c.value(row)
            told = escape(c.told(row)) or '<span class="none">n/a</span>'
            if told.endswith(f" {INSIDE}"):
                told = f'<span class="noise">{INSIDE}</span> {told.removesuffix(f" {INSIDE}")}'
            kind = "" if c.value is None else ' class="number"'
            cells.append(f"<td{kind}{'' if value is None else f' data-v={chr(34)}{value!r}{chr(34)}'}>{told}</td>")
        marked = ' class="baseline"' if row.is_baseline else ""
        body.append(f'<tr data-row="{i}"{marked}>{"".join(cells)}</tr>')
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Comparison of the rows"><table id="comparison">'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        '<p class="hint">Choose a head to sort by it.</p>'
    )


def _figures(title: str, figures: Sequence[Figure], words: str) -> str:
    if not figures:
        return ""
    several = len(figures[0].drawings) == 1
    made = []
    for figure in figures:
        named = f"<figcaption>{escape(figure.title)}</figcaption>" if figure.title else "<figcaption></figcaption>"
        saves = "".join(
            f'<button type="button" data-save="{end}" aria-label="save {escape(figure.title or title)} as {end.upper()}">'
            f"{end.upper()}</button>"
            for end in ("svg", "png")
        )
        bar = f'<div class="caption">{named}<span class="saves">{saves}</span></div>'
        name = escape(figure.title or title)
        made.append(f'<figure data-name="{name}">{bar}{"".join(figure.drawings)}</figure>')
    kind = "panels" if several else "wholes"
    return _section(title, f'<p class="words">{escape(words)}</p><div class="{kind}">{"".join(made)}</div>')


def _provenance(page: Page) -> str:
    heads = ("run", "row", "seed", "aplysia", "commit", "torch", "machine", "threads", "finished", "note on the data")
    lines = []
    for row in page.rows:
        for run in row.runs:
            facts = run.facts
            commit = str(facts.get("commit") or "")
            commit = commit[:8] + ("-dirty" if commit.endswith("-dirty") else "")
            machine = str(facts.get("device_name") or facts.get("device") or "")
            told = [run.path.name, row.name, run.seed, facts.get("aplysia"), commit, facts.get("torch"), machine]
            told += [facts.get("threads"), str(facts.get("finished") or "")[:16].replace("T", " "), facts.get("caveat")]
            cells = "".join(f"<td>{escape('' if cell is None else cell)}</td>" for cell in told)
            lines.append(f"<tr>{cells}</tr>")
    versions = ", ".join(dict.fromkeys(str(run.facts.get("aplysia", "unknown")) for run in page.runs))
    commits = len({run.facts.get("commit") for run in page.runs})
    days = sorted(str(run.facts["finished"])[:10] for run in page.runs if run.facts.get("finished"))
    when = "" if not days else f", finished {days[0]}" + ("" if days[0] == days[-1] else f" to {days[-1]}")
    told = f"Aplysia {versions}; {commits} commit{'s' * (commits != 1)}{when}."
    head = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    return (
        f'<p class="words">{escape(told)}</p><details><summary>All {len(lines)} runs</summary>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Provenance of the runs"><table class="plain">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _foot(page: Page) -> str:
    notes = "".join(f"<p>{escape(note)}</p>" for note in page.notes)
    missing = left_out(page)
    listed = f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in missing)}</ul>" if missing else ""
    return f"<footer>{notes}{listed}</footer>" if notes or listed else "<footer></footer>"
