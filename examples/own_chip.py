"""A chip of one's own: what a training sample costs on it, by rule, before anything is trained.

    python examples/own_chip.py
    aplysia cost digits-mlp --chip my.toml --rules symmetric,frozen:interval=100,direct_feedback

The numbers below are invented, so that every operation has one; a profile that ships names the source of each. Takes a second.
"""

import tempfile
from pathlib import Path

from aplysia.ledger.chip import Chip, find_chip
from aplysia.recipes import find
from aplysia.train.cost import asked, assumed_rates, price

# pJ per operation: a product with a real number, an addition for a spike, a unit brought up to date, a spike and a word sent,
# one hop of either, and the memory of both sets of weights.
PRICES = {
    "mac": 1.0,
    "ac": 0.1,
    "update": 2.0,
    "spike": 1.5,
    "word": 2.0,
    "hop": 3.5,
    "forward_read": 0.5,
    "forward_write": 5.0,
    "feedback_read": 0.5,
    "feedback_write": 5.0,
    "random": 1.0,
}


def write(file: Path) -> None:
    """A profile is a TOML file."""
    lines = ['name = "mine"', 'summary = "an example with invented numbers"']
    for operation, picojoules in PRICES.items():
        lines += [
            f"[operation.{operation}]",
            f"value = {picojoules}",
            f"low = {picojoules / 2}",
            f"high = {picojoules * 2}",
            'unit = "pJ"',
            'kind = "projected"',
            'certainty = "C"',
            'source = "invented for this example"',
        ]
    file.write_text("\n".join(lines) + "\n")


def show(chip: Chip) -> None:
    recipe = find("digits-mlp")
    rules = "symmetric,frozen:interval=100,feedback_alignment,direct_feedback,pseudo_zeroth_order"
    # A tenth of the hidden units fires in a step; `measured_rates(RUN)` takes the rates of a finished run.
    for row in price(asked(recipe, rules), assumed_rates(0.1)):
        spent, words = row.energy(chip), row.transport.total().words
        bound = "at least " if spent.lower_bound else ""
        print(
            f"{row.rule}: {bound}{spent.value / 1e6:.3f} µJ a sample, {words / row.steps:,.0f} weight words moved a batch"
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mine.toml"
        write(file)
        show(find_chip(str(file)))
