"""What a layer of first-spike neurons cannot have."""

from __future__ import annotations

from aplysia.errors import RecipeError
from aplysia.nets.pool import AveragePool, Pool
from aplysia.neurons.base import AbstractFirstSpike


def check_first_spike(
    name: str,
    neuron: AbstractFirstSpike,
    *,
    pools: tuple[Pool, ...],
    bias: bool,
    gain: float,
    dropout: float,
    stem_pool: bool,
    shortcut: bool,
) -> None:
    """Raise `RecipeError` where a part of a layer has no meaning for its first-spike neurons."""
    wrong = []
    if gain != 1.0:
        wrong.append(f"gain={gain:g}, which would push spikes out of their window")
    if dropout:
        wrong.append(f"dropout={dropout:g}, which is for stepped neurons")
    if bias and not neuron.biased:
        wrong.append("a bias")
    if not neuron.averages and any(isinstance(pool, AveragePool) for pool in pools):
        wrong.append(f"an average pool, which is not defined in front of {type(neuron).__name__}")
    if shortcut:
        wrong.append("a shortcut, since there are no currents to add to")
    if stem_pool:
        wrong.append("a pool of currents, since there are none")
    if wrong:
        raise RecipeError(
            f"layer {name}",
            expected=f"what first-spike neurons know ({type(neuron).__name__})",
            got=", and ".join(wrong),
            fix="leave it out"
            if len(wrong) == 1 and "pool" not in wrong[0]
            else "leave these out; pool by maximum (P2)",
        )
