"""Amounts: what is counted, and the book they are written into.

Every number is an exact integer, or None where it is not known; a sum with an unknown part is a lower bound and says so.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any


class Phase(enum.Enum):
    """What a cost is for."""

    FORWARD = "forward"
    ERROR = "error"
    UPDATE = "update"
    TRANSPORT = "transport"
    NOISE = "noise"


@dataclass(frozen=True, kw_only=True)
class Amount:
    """Counts of one layer in one phase.

    A product of a weight with a signal is a MAC where the signal is a real number and an AC where it is a spike: that is the
    neuron's and the encoder's word, never guessed from values. Signals that are 0 cost nothing where they are inputs of a layer
    (they are events); errors are real numbers that are sent whether or not they are 0, unless they are spikes themselves.

    Attributes:
        dense: products if every signal were counted, 0 or not.
        macs: products of a weight and a real number.
        acs: additions of a weight, one for each spike that meets it.
        updates: units brought up to date: membranes, traces, surrogate derivatives.
        spikes: fired.
        words: real numbers sent from one place to another: errors, or weights.
        bits: of these words and of one-bit messages, without addresses.
        address_bits: of spikes and of sparse copies: ⌈log₂ n⌉ each for one of n.
        forward_reads: words read from forward weights.
        forward_writes: words written to them.
        feedback_reads: words read from weights that only errors meet.
        feedback_writes: words written to them.
        random_numbers: drawn.
    """

    dense: int | None = 0
    macs: int | None = 0
    acs: int | None = 0
    updates: int | None = 0
    spikes: int | None = 0
    words: int | None = 0
    bits: int | None = 0
    address_bits: int | None = 0
    forward_reads: int | None = 0
    forward_writes: int | None = 0
    feedback_reads: int | None = 0
    feedback_writes: int | None = 0
    random_numbers: int | None = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(**{name: _sum(getattr(self, name), getattr(other, name)) for name in COUNTED})

    def times(self, number: int) -> Amount:
        """This often."""
        return Amount(**{name: None if (n := getattr(self, name)) is None else n * number for name in COUNTED})

    def as_json(self) -> dict[str, int | None]:
        """The fields by name."""
        return {name: getattr(self, name) for name in COUNTED}


COUNTED = tuple(item.name for item in fields(Amount))


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


@dataclass(frozen=True)
class Charge:
    """An amount, for a layer (None: for no single one) and a phase."""

    layer: str | None
    phase: Phase
    amount: Amount


@dataclass
class Book:
    """Charges added up by layer and phase."""

    entries: dict[tuple[str | None, Phase], Amount] = field(default_factory=dict)

    def charge(self, layer: str | None, phase: Phase, **counts: int | None) -> None:
        """Write down what a layer did in a phase."""
        amount = Amount(**counts)
        before = self.entries.get((layer, phase))
        self.entries[layer, phase] = amount if before is None else before + amount

    def add(self, charges: Iterable[Charge]) -> None:
        """Write down several charges."""
        for one in charges:
            self.charge(one.layer, one.phase, **one.amount.as_json())

    def __iter__(self) -> Iterator[Charge]:
        return (Charge(layer, phase, amount) for (layer, phase), amount in self.entries.items())

    def total(self, *phases: Phase) -> Amount:
        """The sum over layers; over all phases unless said."""
        return sum(
            (amount for (_, phase), amount in self.entries.items() if not phases or phase in phases), start=Amount()
        )

    def layer(self, name: str | None, phase: Phase) -> Amount:
        """What one layer did in one phase."""
        return self.entries.get((name, phase), Amount())

    def as_json(self) -> list[dict[str, Any]]:
        """One object per layer and phase."""
        return [{"layer": c.layer, "phase": c.phase.value} | c.amount.as_json() for c in self]


def read_book(entries: list[dict[str, Any]]) -> Book:
    """The book that `as_json` wrote; counts it does not know are left out."""
    book = Book()
    for entry in entries:
        book.charge(entry["layer"], Phase(entry["phase"]), **{name: entry.get(name) for name in COUNTED})
    return book
