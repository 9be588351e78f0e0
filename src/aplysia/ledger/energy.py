"""What the counts of a book come to on a chip.

    E = Σ_operation n·e        over the operations whose price e is known; any other that occurs makes E a lower bound

Nothing is paid for twice. A product whose price holds the fetch of its weight pays for that read: of forward weights in the
forward phase and in transport, of feedback weights in the error phase. In the update phase a chip with a price for `learn` pays
it once for each pairing of an error with what met a synapse, or for each write where these are more, and nothing for the
products, reads and writes that are in it. Elsewhere a pairing is priced as the product that it is.

A word or a spike that is sent costs its message and `hops` links, or its bits where the chip prices those. Numbers are as wide
as the chip stores them. Static power is no part of this: it needs a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from aplysia.ledger.amount import Amount, Book, Phase
from aplysia.ledger.chip import Chip, Constant

# Bits of a number in a net of ours, which counts of bits are made with.
_WIDTH = 32


@dataclass(frozen=True)
class Sum:
    """Energy in pJ.

    Attributes:
        value, low, high: of all that has a price; None: nothing has.
        lower_bound: whether something occurs that has no price, or was not counted.
    """

    value: float | None = 0.0
    low: float | None = 0.0
    high: float | None = 0.0
    lower_bound: bool = False

    def __add__(self, other: Sum) -> Sum:
        return Sum(
            _plus(self.value, other.value),
            _plus(self.low, other.low),
            _plus(self.high, other.high),
            self.lower_bound or other.lower_bound,
        )


def _plus(a: float | None, b: float | None) -> float | None:
    # None stands for "nothing priced": it gives way to any sum, but not to an empty one.
    if a is None or b is None:
        return (a or b) or None
    return a + b


@dataclass(frozen=True)
class Energy:
    """Energy in pJ.

    Attributes:
        value, low, high, lower_bound: see `Sum`.
        by_phase, by_layer: the same, in parts; layer None is what belongs to no single one.
        unknown: operations that occur and have no price, and counts that are not known.
    """

    value: float | None
    low: float | None
    high: float | None
    lower_bound: bool
    by_phase: dict[Phase, Sum] = field(default_factory=dict)
    by_layer: dict[str | None, Sum] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def __add__(self, other: Energy) -> Energy:
        whole = Sum(self.value, self.low, self.high, self.lower_bound)
        whole += Sum(other.value, other.low, other.high, other.lower_bound)
        phases = {p: self.by_phase.get(p, Sum()) + other.by_phase.get(p, Sum()) for p in self.by_phase | other.by_phase}
        layers = {n: self.by_layer.get(n, Sum()) + other.by_layer.get(n, Sum()) for n in self.by_layer | other.by_layer}
        unknown = tuple(dict.fromkeys(self.unknown + other.unknown))
        return Energy(whole.value, whole.low, whole.high, whole.lower_bound, phases, layers, unknown)


def energy(book: Book, chip: Chip, *, samples: float = 1.0) -> Energy:
    """What a book costs on a chip, in pJ.

    Args:
        book: counts.
        chip: prices.
        samples: the book is of so many, and the energy is to be of one.
    """
    by_phase: dict[Phase, Sum] = {}
    by_layer: dict[str | None, Sum] = {}
    unknown: dict[str, None] = {}
    total = Sum()
    for charge in book:
        for name, count, price in operations(charge.amount, charge.phase, chip):
            if price is None or count is None:
                unknown[name if price is None else f"{name} (how many)"] = None
                part = Sum(None, None, None, True)
            else:
                each = count / samples
                part = Sum(each * price.value, each * price.low, each * price.high)
            by_phase[charge.phase] = by_phase.get(charge.phase, Sum()) + part
            by_layer[charge.layer] = by_layer.get(charge.layer, Sum()) + part
            total += part
    return Energy(total.value, total.low, total.high, total.lower_bound, by_phase, by_layer, tuple(unknown))


def operations(amount: Amount, phase: Phase, chip: Chip) -> Iterator[tuple[str, float | None, Constant | None]]:
    """What a chip is to be paid for: operation, how often (None: not known), price (None: not known). Nothing that is 0."""
    learn = chip.price("learn") if phase is Phase.UPDATE else None
    paid = set(learn.includes) if learn is not None else set()
    reads = {"forward_read": amount.forward_reads, "feedback_read": amount.feedback_reads}
    writes = {"forward_write": amount.forward_writes, "feedback_write": amount.feedback_writes}
    found: list[tuple[str, float | None]] = [("update", amount.updates), ("random", amount.random_numbers)]
    if learn is not None:
        found.append(("learn", _most(_total(amount.macs, amount.acs), _total(*writes.values()))))
    covered: float | None = 0
    for name, count in (("mac", amount.macs), ("ac", amount.acs)):
        price = chip.price(name)
        if name not in paid:
            found.append((name, count))
        if price is not None and "read" in price.includes:
            covered = _total(covered, count)
    fetched = {Phase.FORWARD: "forward_read", Phase.TRANSPORT: "forward_read", Phase.ERROR: "feedback_read"}.get(phase)
    for name, count in reads.items():
        if "read" not in paid:
            found.append((name, _less(count, covered) if name == fetched else count))
    if "write" not in paid:
        found += writes.items()
    found += _messages(amount, chip)
    for name, count in found:
        if count is None or count > 0:
            yield name, count, chip.price(name)


def _messages(amount: Amount, chip: Chip) -> list[tuple[str, float | None]]:
    """Spikes, words and single bits that are sent."""
    made: list[tuple[str, float | None]] = []
    words, bits = amount.words, amount.bits
    if words is None or bits is None:
        single, long = None, None
    else:
        single = max(0, bits - words * _WIDTH)
        long = min(bits - single, words * (chip.weight_bits or _WIDTH))
    # Addresses are in a message's price; sent bit by bit they are bits like others, the spikes' own or the words'.
    loose = 0 if amount.spikes else amount.address_bits
    for name, count, as_bits in (
        ("spike", amount.spikes, amount.address_bits if amount.spikes else 0),
        ("word", words, _total(long, loose)),
    ):
        if chip.price(name) is None and chip.price("bit") is not None:
            made.append(("bit", as_bits))
            continue
        made.append((name, count))
        if chip.price("hop") is not None:
            made.append(("hop", None if count is None else count * chip.hops))
    made.append(("bit", single))
    return made


def _total(*counts: float | None) -> float | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _most(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else max(a, b)


def _less(count: float | None, covered: float | None) -> float | None:
    return None if count is None or covered is None else max(0, count - covered)
