"""What `gradient_variance.py` shows of its numbers: tables, the paper's claims beside them, and a drawing."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.table import Table

from aplysia.report.layout import COLOURS, MARKERS

BP, PLAIN, OPZO = "BP", "ZO, plain", "OPZO"


def show(title: str, told: dict[str, Any], console: Console) -> None:
    """One net in one state, a row per rule, the layers side by side."""
    layers, of_bp = list(told["rates"]), told["rules"][BP]
    table = Table(title=f"{title}: training accuracy {100 * told['training_accuracy']:.0f} %", title_justify="left")
    table.add_column("rule")
    for head in ("Var, of BP's", "Var/‖mean‖²", "cos with BP"):
        table.add_column(head, justify="right")
    for name, row in told["rules"].items():
        cells = [row[layer] for layer in layers]
        ratios = (f"{row[layer]['variance'] / of_bp[layer]['variance']:,.2g}" for layer in layers)
        noise = (f"{cell['variance'] / cell['mean_square']:.2g}" for cell in cells)
        cosines = (f"{cell['cosine']:.2f}" for cell in cells)
        table.add_row(name, *("  ".join(column) for column in (ratios, noise, cosines)))
    console.print(table)


def claims(nets: dict[str, Any]) -> list[dict[str, Any]]:
    """What the paper says of variances, beside the smallest and largest ratio to BP's over layers; nothing is averaged."""
    made = []
    for data, net in nets.items():
        for state, told in net["states"].items():
            for rule, row in told["rules"].items():
                if rule != PLAIN and not rule.startswith(OPZO):
                    continue
                ratios = [cell["variance"] / told["rules"][BP][layer]["variance"] for layer, cell in row.items()]
                low, high = min(ratios), max(ratios)
                claim = "at least 1,000 × BP's" if rule == PLAIN else "at most 10 × BP's"
                holds = low >= 1000 if rule == PLAIN else high <= 10
                words = {"data": data, "state": state, "rule": rule, "claim": claim}
                made.append({**words, "lowest": low, "highest": high, "holds": holds})
    return made


def told(claim: dict[str, Any]) -> str:
    """A claim and what became of it, in a line."""
    verdict = "holds" if claim["holds"] else "fails"
    measured = f"{claim['lowest']:,.2g} to {claim['highest']:,.2g} ×"
    return (
        f"{claim['data']}, {claim['state']}: {claim['rule']}, {claim['claim']} in every layer: {verdict} ({measured})"
    )


def picture(results: dict[str, Any]) -> str | None:
    """One column per net and state: above the ratio of variances, below the cosine; None without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        return None
    columns = [
        (f"{data},\n{state}", told) for data, net in results["nets"].items() for state, told in net["states"].items()
    ]
    names = list(columns[0][1]["rules"])
    # Text as text and a fixed salt for ids, so that equal numbers give an equal file.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "aplysia", "text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=(2.0 + 3.0 * len(columns), 7.2), layout="constrained")
        rows = figure.subplots(2, len(columns), sharey=True, squeeze=False)
        for column, (title, told) in enumerate(columns):
            above, below = rows[0][column], rows[1][column]
            there = [name for name in names if name in told["rules"]]
            for number, layer in enumerate(told["rates"]):
                cells = [told["rules"][name][layer] for name in there]
                level = told["rules"][names[0]][layer]["variance"]
                style = {"c": COLOURS[number], "marker": MARKERS[number][1], "s": 26, "zorder": 3, "alpha": 0.85}
                label = f"layer {number + 1}" if column == 0 else None
                ys = [names.index(name) + 0.18 * (number - 1) for name in there]
                above.scatter([cell["variance"] / level for cell in cells], ys, label=label, **style)
                below.scatter([cell["cosine"] for cell in cells], ys, **style)
            for limit in (10, 1000):
                above.axvline(limit, linestyle=":", color="#8a8a8a", linewidth=1)
            above.set_xscale("log")
            above.set(title=title, xlabel="variance, of BP's", xlim=(5e-3, 5e5))
            above.set_xticks([10.0**power for power in range(-2, 6, 2)], ["0.01", "1", "100", "10,000"])
            above.minorticks_off()
            below.set(xlabel="cosine of means with BP's", xlim=(-0.3, 1.05))
            below.axvline(0, linestyle=":", color="#8a8a8a", linewidth=1)
            for axes in (above, below):
                axes.set_yticks(range(len(names)), names)
                axes.grid(alpha=0.25)
        rows[0][0].invert_yaxis()  # the first rule on top; all panels share the axis
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Title": "Gradient variance"})
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"
