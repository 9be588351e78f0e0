"""The closed-form counter: from shapes, spike counts, and what rule and scheme say of themselves, to a book of costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from aplysia.ledger.activity import Activity
from aplysia.ledger.amount import Book, Charge
from aplysia.ledger.sheet import Habits, Sheet
from aplysia.nets.layer import Layer
from aplysia.nets.net import Net, widest


class PricedRule(Protocol):
    """What a spatial rule says of its costs."""

    def learning(self, net: Net, step: int) -> list[Layer]: ...

    def charges(self, sheet: Sheet) -> Iterable[Charge]: ...

    def transported(self, net: Net, steps: int) -> Iterable[Charge]: ...


class PricedScheme(Protocol):
    """What a temporal scheme says of its habits."""

    def habits(self, steps: int, width: int = 1) -> Habits: ...

    def charges(self, sheet: Sheet) -> Iterable[Charge]: ...


def count_step(net: Net, rule: PricedRule, scheme: PricedScheme, activity: Activity, *, step: int = 0) -> Book:
    """One optimiser step with one batch, but for transport, which does not come every step.

    Args:
        net: the layers.
        rule: where errors come from.
        scheme: how time is gone through.
        activity: what was counted of the batch, or assumed.
        step: number of the optimiser step.
    """
    learning = rule.learning(net, step)
    names = frozenset(layer.name for layer in learning)
    habits = scheme.habits(activity.steps, widest(net, activity.batch))
    sheet, book = Sheet(net, activity, habits, step, names), Book()
    book.add(sheet.forward(layer) for layer in net.synapses)
    for layer in learning:
        book.add([sheet.update(layer)])
        if layer in net.hidden:
            book.add([sheet.slopes(layer)])
    book.add(rule.charges(sheet))
    book.add(scheme.charges(sheet))
    return book


def count_inference(net: Net, activity: Activity) -> Book:
    """The forward pass alone."""
    sheet, book = Sheet(net, activity, Habits(windows=1, traced=False)), Book()
    book.add(sheet.forward(layer) for layer in net.synapses)
    return book


def count_transport(net: Net, rule: PricedRule, steps: int) -> Book:
    """What a rule moves from the forward to the feedback side over this many optimiser steps."""
    book = Book()
    book.add(rule.transported(net, steps))
    return book
