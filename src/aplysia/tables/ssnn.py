"""Stochastic streams (SSNN-BP) against their length, beside the artificial net of equal clip, width, bounds and regulariser.

Of the paper (Biswas et al. 2023) no table could be read, so nothing published stands beside our numbers; its claim is that
accuracy approaches that of the artificial net as spike trains grow.
"""

from __future__ import annotations

from dataclasses import replace

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.spatial.copy_once import CopyOnce
from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.credit.spatial.frozen import FrozenBackprop
from aplysia.credit.spatial.readout_only import ReadoutOnly
from aplysia.credit.spatial.sign_symmetric import SignSymmetric
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.coincidence import Coincidence
from aplysia.credit.transport import LargestChange
from aplysia.devices.base import AbstractDevice
from aplysia.devices.constant_step import ConstantStep
from aplysia.devices.ideal import Ideal
from aplysia.devices.law import Spread
from aplysia.devices.presets import Capacitor, Ecram, EcramMo, GokmenVlasov, Idealized, ReramEs, ReramSb
from aplysia.devices.soft_bounds import SoftBounds
from aplysia.devices.tiki_taka import TikiTaka
from aplysia.neurons.bitstream import Bitstream
from aplysia.neurons.stream_memory import AbstractMemory, BlockMean, Memoryless, RunningMean
from aplysia.neurons.winner_take_all import WinnerTakeAll
from aplysia.ops.stream import AbstractEngine, Bits, Counts, Expect
from aplysia.recipes import find
from aplysia.tables.base import Column, Row, Table
from aplysia.train.optimise import Pulsed
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


def _lengths(
    recipe: Recipe, kinds: dict[str, tuple[AbstractEngine, AbstractMemory, tuple[int, ...]]], note: str
) -> Table:
    rows = [Row("artificial net", _with(recipe, Expect(), RunningMean(), 1), group="artificial net", level=True)]
    rows += [
        Row(f"{kind} N={n}", _with(recipe, engine, memory, n), group=kind)
        for kind, (engine, memory, lengths) in kinds.items()
        for n in lengths
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
    recipe = replace(find("ssnn-digits"), validation=0.0)
    return _lengths(
        recipe,
        {
            "running mean": (Bits(), RunningMean(), LENGTHS),
            "memoryless": (Bits(), Memoryless(), LENGTHS),
            "block mean, counts": (Counts(), BlockMean(), LENGTHS),
        },
        f"64-48-10, {recipe.epochs} epochs, batches of {recipe.batch_size}.",
    )


def _whole(name: str) -> Table:
    recipe = replace(find(name), validation=0.0, epochs=4)
    return _lengths(
        recipe,
        {"block mean, counts": (Counts(), BlockMean(), LENGTHS), "running mean": (Bits(), RunningMean(), LENGTHS[:3])},
        f"784-256-10, all 60,000 training images, {recipe.epochs} epochs, batches of {recipe.batch_size}. Streams sent bit "
        f"by bit (running mean) end at N = {LENGTHS[2]}, since their time grows with N and that of counts does not.",
    )


def ssnn_mnist() -> Table:
    """Bits and counts over stream lengths on MNIST."""
    return _whole("ssnn-mnist")


def ssnn_fmnist() -> Table:
    """Bits and counts over stream lengths on Fashion-MNIST."""
    return _whole("ssnn-fmnist")


def _devices(title: str, devices: dict[str, tuple[AbstractDevice, str]], note: str) -> Table:
    recipe = replace(find("ssnn-digits"), validation=0.0)
    rows = [
        Row(name, replace(recipe, optimiser=Pulsed(lr=0.5, device=device, several=True)), group=group)
        for name, (device, group) in devices.items()
    ]
    return Table(
        title=title,
        rows=tuple(rows),
        baseline=rows[0].name,
        note=_READING
        + note
        + " 64-48-10 on the digits, streams of 32 bits, running mean, 15 epochs, lr 0.5 for all; a "
        "coincidence that asks for more than one pulse gets several.",
        extra=(_EXTRA[0], _EXTRA[3]),
    )


def ssnn_devices() -> Table:
    """Real devices, and what a second array recovers."""
    bound = 2.0
    asymmetric = SoftBounds(quantum=0.01, bound=bound, spread=Spread(asymmetry=0.3))
    return _devices(
        "What do resistive devices cost, and what does a second array recover?",
        {
            "any real step": (Ideal(bound=bound), "ideal"),
            "constant step": (ConstantStep(quantum=0.01, bound=bound), "constant step"),
            "idealized": (Idealized(bound=bound), "constant step"),
            "gokmen_vlasov": (GokmenVlasov(bound=bound), "constant step"),
            "capacitor": (Capacitor(bound=bound), "linear step"),
            "ecram": (Ecram(bound=bound), "linear step"),
            "ecram_mo": (EcramMo(bound=bound), "linear step"),
            "reram_sb": (ReramSb(bound=bound), "soft bounds"),
            "reram_sb, quiet": (ReramSb(bound=bound, quiet=True), "soft bounds"),
            "reram_es": (ReramEs(bound=bound), "exponential step"),
            "reram_es, quiet": (ReramEs(bound=bound, quiet=True), "exponential step"),
            "asymmetric": (asymmetric, "soft bounds"),
            "asymmetric, Tiki-Taka": (TikiTaka(fast=asymmetric, slow=asymmetric), "two arrays"),
            "reram_sb, quiet, Tiki-Taka": (
                TikiTaka(fast=ReramSb(bound=bound, quiet=True), slow=ReramSb(bound=bound, quiet=True)),
                "two arrays",
            ),
        },
        "'quiet' leaves out the noise of single pulses and of writes; 'asymmetric': soft bounds, steps down 30 % smaller.",
    )


def ssnn_quantum() -> Table:
    """From many states to few."""
    bound, quanta = 2.0, (0.001, 0.005, 0.02, 0.05, 0.1)
    steps = {
        f"step {q:g}, {2 * bound / q:,.0f} states": (ConstantStep(quantum=q, bound=bound), "constant step")
        for q in quanta
    }
    return _devices(
        "How many states must a weight have?", {"any real step": (Ideal(bound=bound), "ideal"), **steps}, ""
    )


def ssnn_feedback() -> Table:
    """What feeds errors back to streams: the weights, stale copies of them, random weights, or nothing."""
    recipe = replace(find("ssnn-digits"), net="F48-F48-F10", validation=0.0)
    rules: dict[str, tuple[AbstractSpatial, str]] = {
        "symmetric": (Symmetric(), "exact copies"),
        "frozen Φ=10": (FrozenBackprop(interval=10), "frozen"),
        "frozen Φ=100": (FrozenBackprop(interval=100), "frozen"),
        "frozen Φ=10, largest ρ=1 %": (FrozenBackprop(interval=10, transport=LargestChange(fraction=0.01)), "frozen"),
        "sign-symmetric": (SignSymmetric(), "signs"),
        "feedback alignment": (FeedbackAlignment(), "random"),
        "direct feedback": (DirectFeedback(), "random"),
        "copy once": (CopyOnce(), "control"),
        "readout only": (ReadoutOnly(), "control"),
    }
    return Table(
        title="Must streams of gradients come back through the same weights?",
        rows=tuple(Row(name, replace(recipe, rule=rule), group=group) for name, (rule, group) in rules.items()),
        baseline="symmetric",
        note=_READING
        + "64-48-48-10 on the digits, streams of 32 bits, running mean, 15 epochs. Kolen-Pollack is not here: the "
        "step of a device depends on where its weight is, and the rule's law holds for steps that do not.",
        extra=_EXTRA[:1],
    )
