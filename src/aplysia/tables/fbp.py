"""The tables of frozen backpropagation (Goupy et al. 2025): accuracy against the words a rule moves.

Confirmed of the paper are its claims for the best of three partial schemes: 1,000 times fewer words for −0.5 pp on CIFAR-10 and
−1.1 pp on CIFAR-100, 10,000 times at a "moderate" loss. Its tables, networks and the pairs of interval Φ and fraction ρ could
not be had. So the rows are ours: whole copies over Φ, and three schemes at Φ/ρ = 1,000 and 10,000, each in two ways.
"""

from __future__ import annotations

from dataclasses import replace

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.spatial.copy_once import CopyOnce
from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.spatial.feedback_alignment import FeedbackAlignment
from aplysia.credit.spatial.frozen import FrozenBackprop
from aplysia.credit.spatial.kolen_pollack import KolenPollack
from aplysia.credit.spatial.readout_only import ReadoutOnly
from aplysia.credit.spatial.sign_symmetric import FixedMagnitude, SignSymmetric
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.transport import Cyclic, LargestChange, Random, RunningQuantile, Threshold
from aplysia.neurons.constant_slope import ConstantSlope
from aplysia.recipes.fbp import fbp_cifar10 as cifar10
from aplysia.recipes.fbp import fbp_cifar100 as cifar100
from aplysia.recipes.fbp import fbp_fmnist as fmnist
from aplysia.tables.base import Published, Row, Table
from aplysia.train.recipe import Recipe

_ABSTRACT = "Goupy et al. 2025, arXiv 2505.13741, abstract"
_SCHEMES = {"random": Random, "cyclic": Cyclic, "largest": LargestChange}
_NOTE = (
    "Windowed first-spike neurons; 'ReLU net' is the same shape and schedule with constant-slope neurons, which are exact "
    "ReLUs. The published drops belong to larger nets, trained longer. Layer 1 owns no feedback weights and counts nowhere."
)


def _rows(base: Recipe, decay: float, thousandfold: Published | None) -> tuple[Row, ...]:
    """The same rows for every data set.

    Args:
        decay: of Kolen-Pollack, its own; with the learning rate it sets how fast the two sides align.
        thousandfold: the paper's drop at 1,000 times fewer words, for the best of its schemes.
    """

    def row(name: str, rule: AbstractSpatial, group: str, published: Published | None = None) -> Row:
        return Row(name, replace(base, rule=rule), published, group)

    rows = [
        Row("ReLU net, BP", replace(base, rule=Symmetric(), neuron=ConstantSlope()), None, "reference"),
        row("BP", Symmetric(), "reference"),
        *(row(f"fBP Φ={n}", FrozenBackprop(interval=n), "fBP, whole copies") for n in (10, 100)),
        row("fBP Φ=1000", FrozenBackprop(interval=1000), "fBP, whole copies", thousandfold),
    ]
    for pairs in (((100, 0.1), (10, 0.01)), ((1000, 0.1), (100, 0.01))):
        for name, scheme in _SCHEMES.items():
            for interval, fraction in pairs:
                rule = FrozenBackprop(interval=interval, transport=scheme(fraction=fraction))
                published = thousandfold if interval / fraction == 1000 else None
                title = f"fBP {name} Φ={interval} ρ={100 * fraction:g} %"
                rows.append(row(title, rule, f"fBP, {name}", published))
    quantile = Threshold(level=RunningQuantile(fraction=0.01))
    rows += [
        row(
            "fBP threshold Φ=10 ρ≈1 %", FrozenBackprop(interval=10, transport=quantile), "fBP, threshold", thousandfold
        ),
        row("copy once", CopyOnce(), "control"),
        row("FA", FeedbackAlignment(), "control"),
        row("DFA", DirectFeedback(), "control"),
        row("sign-symmetric", SignSymmetric(), "control"),
        row("sign-symmetric, fixed", SignSymmetric(magnitude=FixedMagnitude()), "control"),
        row("Kolen-Pollack", KolenPollack(decay=decay), "control"),
        row("readout only", ReadoutOnly(), "control"),
    ]
    return tuple(rows)


def fbp_fmnist() -> Table:
    """Frozen backpropagation on Fashion-MNIST, all of it, 16C3-P2-32C3-P2-F10."""
    return Table(
        title="What does frozen backpropagation lose on Fashion-MNIST as it moves fewer words?",
        rows=_rows(fmnist(), 0.5, None),
        baseline="BP",
        note=_NOTE,
    )


def fbp_alignment() -> Table:
    """How far frozen feedback turns the gradients, layer by layer, with less and less transport."""
    base = replace(fmnist(), epochs=3, probe=100, probe_samples=512)
    rows = [
        Row(f"fBP Φ={n}", replace(base, rule=FrozenBackprop(interval=n)), None, "whole copies") for n in (10, 100, 1000)
    ]
    rows += [
        Row(
            f"fBP {name} Φ=10 ρ=1 %",
            replace(base, rule=FrozenBackprop(interval=10, transport=scheme(fraction=0.01))),
            None,
            "a thousandth of the words",
        )
        for name, scheme in _SCHEMES.items()
    ]
    return Table(
        title="How well do gradients keep the direction of backpropagation's on Fashion-MNIST?",
        rows=(*rows, Row("copy once", replace(base, rule=CopyOnce()), None, "control")),
        baseline="fBP Φ=10",
        note="Measured every 100 steps on 512 training samples, after the optimiser's step and before the copy: with Φ = 10 "
        "and 100 the worst moment, with Φ = 1000 every tenth of an interval. The picture is alignment.svg.",
    )


def fbp_cifar10() -> Table:
    """Frozen backpropagation on CIFAR-10, all of it, with a net small enough for a CPU."""
    base = replace(cifar10(), net="16C3-P2-32C3-P2-64C3-P2-F10", epochs=6, augment=())
    return Table(
        title="What does frozen backpropagation lose on CIFAR-10 as it moves fewer words?",
        rows=_rows(base, 0.5, Published(-0.5, _ABSTRACT, "confirmed", "pp")),
        baseline="BP",
        note=_NOTE + " Here 16C3-P2-32C3-P2-64C3-P2-F10 for 6 epochs without augmentation, all 45,000 training images.",
    )


def fbp_cifar100() -> Table:
    """Frozen backpropagation on CIFAR-100; sized for a GPU."""
    return Table(
        title="What does frozen backpropagation lose on CIFAR-100 as it moves fewer words?",
        rows=_rows(cifar100(), 0.5, Published(-1.1, _ABSTRACT, "confirmed", "pp")),
        baseline="BP",
        note=_NOTE,
    )
