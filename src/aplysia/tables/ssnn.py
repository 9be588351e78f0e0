"""Stochastic streams (SSNN-BP) against their length, beside the artificial net of equal clip, width, bounds and regulariser.

Of the paper (Biswas et al. 2023) no table could be read, so nothing published stands beside our numbers; its claim is that
accuracy approaches that of the artificial net as spike trains grow.
"""

from __future__ import annotations

from dataclasses import replace

from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.neurons.bitstream import Bitstream
from aplysia.neurons.stream_memory import AbstractMemory, BlockMean, Memoryless, RunningMean
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.stream import AbstractEngine, Bits, Counts, Expect
from aplysia.recipes import find
from aplysia.tables.base import Column, Row, Table
from aplysia.train.recipe import Recipe

LENGTHS = (8, 32, 128, 512)
_EXTRA = (
    Column("limit_test_accuracy", "endless streams %", 100.0, drawn=True),
    Column("test_loss", "test loss"),
    Column("limit_test_loss", "endless, loss"),
    Column("train_accuracy", "train %", 100.0),
)
_READING = (
    "Test accuracy is with streams of the row's own length; 'endless streams' are the same weights in the artificial net that "
    "they tend to. "
)


def _with(recipe: Recipe, engine: AbstractEngine, memory: AbstractMemory, steps: int) -> Recipe:
    # A readout without memory would flatten the softmax; what is compared is the memory of the hidden units.
    readout = RunningMean() if isinstance(memory, Memoryless) else memory
    return replace(
        recipe,
        temporal=Coincidence(engine=engine),
        neuron=Bitstream(memory=memory),
        readout=WinnerTakeAll(memory=readout),
        steps=steps,
    )


def _lengths(name: str, kinds: dict[str, tuple[AbstractEngine, AbstractMemory]], note: str) -> Table:
    recipe = replace(find(name), validation=0.0)
    rows = [Row("artificial net", _with(recipe, Expect(), RunningMean(), 1), group="artificial net", level=True)]
    rows += [
        Row(f"{kind} N={n}", _with(recipe, engine, memory, n), group=kind)
        for kind, (engine, memory) in kinds.items()
        for n in LENGTHS
    ]
    return Table(
        title=f"How long must streams be? {recipe.net} on {recipe.data.name}",
        rows=tuple(rows),
        baseline="artificial net",
        note=_READING + note,
        axis="steps",
        extra=_EXTRA,
    )


def ssnn_digits() -> Table:
    """Three memories over stream lengths on the digits."""
    kinds: dict[str, tuple[AbstractEngine, AbstractMemory]] = {
        "running mean": (Bits(), RunningMean()),
        "memoryless": (Bits(), Memoryless()),
        "block mean, counts": (Counts(), BlockMean()),
    }
    return _lengths("ssnn-digits", kinds, "64-48-10, 15 epochs, batches of 16.")


def ssnn_mnist() -> Table:
    """Bits and counts over stream lengths on MNIST."""
    return _lengths("ssnn-mnist", _TWO, _WHOLE)


def ssnn_fmnist() -> Table:
    """Bits and counts over stream lengths on Fashion-MNIST."""
    return _lengths("ssnn-fmnist", _TWO, _WHOLE)


_TWO: dict[str, tuple[AbstractEngine, AbstractMemory]] = {
    "block mean, counts": (Counts(), BlockMean()),
    "running mean": (Bits(), RunningMean()),
}
_WHOLE = "784-256-10, all 60,000 training images, 10 epochs, batches of 32."
