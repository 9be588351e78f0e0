"""What a run's `ledger.json` says, added up to what the report shows: per trained sample, by phase; memory by kind.

    operations = MACs + ACs        accesses = weight reads + writes, of forward and feedback weights

A batch is divided by its samples, transport (a total of the whole run) by the run's samples. A count that is not known leaves
the sum a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aplysia.errors import RunError
from aplysia.train.ledger import PROPERTIES

VERSION = 1
PHASES = ("forward", "error", "update", "transport", "noise")
KINDS = ("weights", "gradients", "feedback", "rule", "state", "traces", "saved", "optimiser")
_OPERATIONS = ("macs", "acs")
_ACCESSES = ("forward_reads", "forward_writes", "feedback_reads", "feedback_writes")


@dataclass(frozen=True)
class Joules:
    """Energy of one trained sample, in pJ.

    Attributes:
        value, low, high: the best estimate, and its range.
        bound: whether something in it had no price, so that all three are lower bounds.
        unknown: what had none, in words.
    """

    value: float
    low: float
    high: float
    bound: bool = False
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Energy:
    """Prices of a chip.

    Attributes:
        chip: its name.
        summary: what it is.
        price: of a `ledger.json`; None: nothing in it has a price.
    """

    chip: str
    summary: str
    price: Callable[[Mapping[str, Any]], Joules | None]


def mean_joules(found: Sequence[Joules]) -> Joules | None:
    """The mean over seeds."""
    if not found:
        return None
    value, low, high = (
        math.fsum(getattr(one, name) for one in found) / len(found) for name in ("value", "low", "high")
    )
    unknown = dict.fromkeys(name for one in found for name in one.unknown)
    return Joules(value, low, high, any(one.bound for one in found), tuple(unknown))


@dataclass(frozen=True)
class Amounts:
    """One quantity in parts.

    Attributes:
        parts: name → amount, in the order in which they are drawn.
        bound: whether something in it was not known, so that the sum is a lower bound.
    """

    parts: dict[str, float] = field(default_factory=dict)
    bound: bool = False

    @property
    def total(self) -> float:
        """Of all that is known."""
        return math.fsum(self.parts.values())


@dataclass(frozen=True)
class Costs:
    """What one run costs.

    Attributes:
        operations, accesses: per trained sample, by phase.
        memory: bytes, by kind; None: not stated.
        needs: what the rule needs, in words; None: not stated.
        energy: of one trained sample; None: not known.
    """

    operations: Amounts
    accesses: Amounts
    memory: Amounts | None
    needs: tuple[str, ...] | None
    energy: Joules | None


def costs(ledger: Any, where: str, energy: Energy | None = None) -> Costs | None:
    """The sums of a ledger; None for one that older versions wrote, which held transport alone.

    Raises:
        RunError: it is damaged, or of a newer version.
    """
    if isinstance(ledger, dict) and "step" not in ledger and "version" not in ledger:
        return None
    try:
        version = ledger["version"]
        if version > VERSION:
            fix = "update Aplysia, or leave this run out"
            raise RunError(where, expected=f"version {VERSION} or older", got=f"version {version}", fix=fix)
        batch, samples = ledger["batch"], ledger.get("run", {}).get("samples")
        moved = ledger.get("run", {}).get("transport") or []
        memory, properties = ledger.get("memory"), ledger.get("properties")
        return Costs(
            _by_phase(ledger["step"], batch, moved, samples, _OPERATIONS),
            _by_phase(ledger["step"], batch, moved, samples, _ACCESSES),
            None if memory is None else _by_kind(memory),
            None if properties is None else tuple(text for key, text in PROPERTIES.items() if properties.get(key)),
            None if energy is None else energy.price(ledger),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        got = f"{type(error).__name__} at {error}" if str(error) else type(error).__name__
        raise RunError(where, expected="a ledger of a run", got=got, fix="restore or delete that file") from error


def mean_amounts(found: Sequence[Amounts | None]) -> Amounts | None:
    """The mean over those seeds that know the quantity."""
    there = [amounts for amounts in found if amounts is not None]
    if not there:
        return None
    names = list(dict.fromkeys(name for amounts in there for name in amounts.parts))
    parts = {name: math.fsum(amounts.parts.get(name, 0.0) for amounts in there) / len(there) for name in names}
    return Amounts(parts, any(amounts.bound for amounts in there))


def _by_phase(
    step: list[dict[str, Any]],
    batch: int,
    moved: list[dict[str, Any]],
    samples: int | None,
    keys: tuple[str, ...],
) -> Amounts:
    found: dict[str, float] = {}
    bound = bool(moved) and not samples
    for entries, count in ((step, batch), (moved if samples else [], samples or 1)):
        for entry in entries:
            for key in keys:
                if entry[key] is None:
                    bound = True
                else:
                    found[entry["phase"]] = found.get(entry["phase"], 0.0) + _finite(entry[key]) / count
    return Amounts(_ordered(found, PHASES), bound)


def _by_kind(memory: list[dict[str, Any]]) -> Amounts:
    found: dict[str, float] = {}
    for line in memory:
        if line["bytes"] is not None:
            found[line["kind"]] = found.get(line["kind"], 0.0) + _finite(line["bytes"])
    return Amounts(_ordered(found, KINDS), any(line["bytes"] is None for line in memory))


def _ordered(found: dict[str, float], known: Iterable[str]) -> dict[str, float]:
    """In the usual order, names that a later version added behind it; nothing that is 0."""
    order = [*known, *found]
    return {str(name): found[name] for name in dict.fromkeys(order) if found.get(name)}


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{number}")
    return number
