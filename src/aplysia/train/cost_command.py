"""What `aplysia cost` prints."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aplysia.errors import RecipeError, RunError
from aplysia.ledger.amount import Phase
from aplysia.ledger.chip import Chip, find_chip
from aplysia.ledger.energy import Energy, Sum
from aplysia.ledger.memory import totals
from aplysia.train.cost import Priced, Rates, asked, assumed_rates, from_ledger, measured_rates, price
from aplysia.train.folder import RunFolder
from aplysia.train.log import table
from aplysia.train.recipe import Recipe
from aplysia.train.run import axis_name

FORMATS = ("table", "json", "csv")

_COUNTS = {
    "macs": "MACs",
    "acs": "ACs",
    "spikes": "spikes",
    "words": "words",
    "forward_writes": "forward writes",
    "feedback_writes": "feedback writes",
    "random_numbers": "random numbers",
}
_UNITS = ((1e12, "J"), (1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ"), (1.0, "pJ"))


@dataclass(frozen=True)
class Request:
    """What was asked on the command line.

    Attributes:
        chips: names and paths of profiles.
        rules: with settings, separated by commas; None: the recipe's own.
        rate: assumed; None: 0.1, or what the run says.
        run: folder that rates are taken from.
        batch: B; None: the recipe's.
        shape: of a sample, `C,H,W`.
        form: table, json or csv.
    """

    chips: tuple[str, ...]
    rules: str | None = None
    rate: float | None = None
    run: Path | None = None
    batch: int | None = None
    shape: str | None = None
    form: str = "table"


def show_cost(recipe: Recipe, request: Request) -> None:
    """Count, price, print.

    Raises:
        RecipeError: something asked for that makes no sense.
        RunError: no run to take rates from.
    """
    if request.form not in FORMATS:
        raise RecipeError("--format", expected="table, json or csv", got=f"'{request.form}'", fix="use table")
    if request.rate is not None and request.run is not None:
        raise RecipeError("--rate", expected="either --rate or --run", got="both", fix="leave one of them out")
    chosen = [find_chip(name) for name in dict.fromkeys(request.chips or ("counts-only",))]
    if request.batch is not None:
        recipe = replace(recipe, batch_size=request.batch)
    rates, priced = _counted(recipe, request)
    if request.form == "json":
        print(json.dumps(_as_json(recipe, rates, priced, chosen), indent=1))
    elif request.form == "csv":
        _write_csv(priced, chosen)
    else:
        _tables(recipe, rates, priced, chosen)


def _counted(recipe: Recipe, request: Request) -> tuple[Rates, list[Priced]]:
    if request.run is not None:
        rates = measured_rates(request.run)
        # What streams cost no rate tells; their run has counted it.
        if recipe.neuron.kind == "stream":
            if not (request.run / "ledger.json").is_file():
                fix = "train the recipe again with this version"
                raise RunError(str(request.run), expected="a run with its ledger.json", got="none", fix=fix)
            summary, data = (RunFolder(request.run).read_json(name) for name in ("summary.json", "ledger.json"))
            if request.rules is not None or request.batch is not None:
                got = "--rules or --batch"
                raise RecipeError("--run", expected="the rule and batch of the run", got=got, fix="leave it out")
            said = f"measured: one batch of {data['batch']} of {summary['recipe']} in {request.run}"
            return Rates({}, 0.0, said), [from_ledger(summary["rule"], data)]
    else:
        rates = assumed_rates(0.1 if request.rate is None else request.rate)
    recipes = asked(recipe, request.rules)
    named = {name or axis_name(recipe.rule): made for name, made in recipes.items()}
    return rates, price(named, rates, shape=_shape(request.shape))


def _shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise RecipeError("--input", expected="three sizes C,H,W", got=f"'{text}'", fix="write --input 3,32,32")
    channels, height, width = map(int, parts)
    return channels, height, width


def show_energy(part: Sum | Energy) -> str:
    """`≥ 1.2 µJ (1–1.5)`: a value, its range where there is one, and whether it is only a lower bound."""
    if part.value is None or part.low is None or part.high is None:
        return "n/a"
    scale, unit = next((one for one in _UNITS if part.high >= one[0]), _UNITS[-1])
    value, low, high = (_three(pj / scale) for pj in (part.value, part.low, part.high))
    text = f"{value} {unit}" if low == high else f"{value} {unit} ({low}–{high})"
    return f"≥ {text}" if part.lower_bound else text


def _three(number: float) -> str:
    """Three digits that count, and no power of ten."""
    if number >= 100 or number == 0:
        return f"{number:,.0f}"
    return f"{number:.3g}" if number >= 1e-3 else f"{number:.1e}"


def _tables(recipe: Recipe, rates: Rates, priced: Sequence[Priced], chosen: Sequence[Chip]) -> None:
    good = [one for one in priced if not one.refused]
    print(f"{recipe.name}: {recipe.net}, T = {recipe.steps}, batch {recipe.batch_size}; rates {rates.said}\n")
    energies = {(one.rule, chip.name): one.energy(chip) for one in good for chip in chosen}
    names = [chip.name for chip in chosen]
    priced_any = any(e.value is not None for e in energies.values())
    if good and priced_any:
        rows = []
        for one in good:
            rows.append([one.rule, "all", *(show_energy(energies[one.rule, name]) for name in names)])
            for phase in Phase:
                parts = [energies[one.rule, name].by_phase.get(phase, Sum()) for name in names]
                if any(part != Sum() for part in parts):
                    rows.append(["", phase.value, *map(show_energy, parts)])
        table(rows, ["rule", "phase", *names], "energy of one sample, learning included (low–high)")
        print()
    if good:
        rows = []
        for one in good:
            for phase, counts in one.counts().items():
                if any(counts[name] != 0 for name in _COUNTS):
                    rows.append([one.rule, phase.value, *(_count(counts[name]) for name in _COUNTS)])
        table(rows, ["rule", "phase", *_COUNTS.values()], "counts of one sample")
        print()
        rows = []
        for one in good:
            sums: dict[str, int | None] = totals(one.lines) if one.lines else {}
            whole = None if not sums or None in sums.values() else sum(filter(None, sums.values()))
            rows.append([one.rule, *(_bytes(sums.get(kind)) for kind in totals([])), _bytes(whole)])
        table(rows, ["rule", *totals([]), "sum"], f"memory of a batch of {good[0].batch}")
    for one in priced:
        if one.refused:
            print(f"\n{one.rule}: {one.refused}")
    _footnotes(energies, chosen, priced_any)


def _footnotes(energies: dict[tuple[str, str], Energy], chosen: Sequence[Chip], priced_any: bool) -> None:
    print()
    for chip in chosen:
        unknown = dict.fromkeys(name for (_, of), e in energies.items() if of == chip.name for name in e.unknown)
        if chip.operations and unknown:
            print(f"{chip.name}: ≥ is a lower bound, and ranks nothing; no number for {', '.join(unknown)}")
        if chip.static is not None:
            print(f"{chip.name}: static power {chip.static.value:g} µW is not in these energies, it needs a time")
    if not priced_any:
        print("counts only, no energy; name chips with --chip, see aplysia list chips")


def _count(number: float | None) -> str | None:
    if number is None:
        return None
    return f"{number:,.0f}" if number == int(number) or number >= 100 else f"{number:.3g}"


def _bytes(number: int | None) -> str | None:
    if number is None:
        return None
    for scale, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= scale:
            return f"{number / scale:.3g} {unit}" if number < 1000 * scale else f"{number / scale:,.0f} {unit}"
    return f"{number} B"


def _as_json(recipe: Recipe, rates: Rates, priced: Sequence[Priced], chosen: Sequence[Chip]) -> dict[str, Any]:
    def parts(part: Sum | Energy) -> dict[str, Any]:
        return {"value": part.value, "low": part.low, "high": part.high, "lower_bound": part.lower_bound}

    rows = []
    for one in priced:
        if one.refused:
            rows.append({"rule": one.rule, "refused": one.refused})
            continue
        prices = {}
        for chip in chosen:
            found = one.energy(chip)
            phases = {phase.value: parts(part) for phase, part in found.by_phase.items()}
            prices[chip.name] = parts(found) | {"by_phase": phases, "unknown": list(found.unknown)}
        rows.append(
            {
                "rule": one.rule,
                "batch": one.batch,
                "energy": prices,
                "counts": {phase.value: counts for phase, counts in one.counts().items()},
                "memory": [line.as_json() for line in one.lines],
            }
        )
    facts = {
        "recipe": recipe.name,
        "net": recipe.net,
        "steps": recipe.steps,
        "rates": rates.said,
        "unit": "pJ per sample",
    }
    return facts | {"rules": rows}


def _write_csv(priced: Sequence[Priced], chosen: Sequence[Chip]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["rule", "chip", "phase", "value_pj", "low_pj", "high_pj", "lower_bound", *_COUNTS])
    for one in priced:
        if one.refused:
            print(f"{one.rule}: {one.refused}", file=sys.stderr)
            continue
        counts = one.counts()
        for chip in chosen:
            for phase, part in one.energy(chip).by_phase.items():
                numbers = [part.value, part.low, part.high]
                writer.writerow(
                    [one.rule, chip.name, phase.value, *numbers, part.lower_bound, *(counts[phase][n] for n in _COUNTS)]
                )
