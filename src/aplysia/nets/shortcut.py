"""Residual joins: a layer's currents are added to those of an earlier layer, in front of the neurons.

    x_l[t] = x_s[t] + α·g·(W_l·s_{l−1}[t] + b_l)        identity: x_s are the currents of the source, a layer further down
    x_l[t] = V·s_s[t] + c + α·g·(W_l·s_{l−1}[t] + b_l)  projection: s_s are its spikes, V a second synapse of layer l
    u_l[t] = λ·v_l[t−1] + x_l[t]/β

x is real-valued and goes on along the next shortcut; the neurons of layer l, which see x_l/β, are thus the first ones of the
block that follows (pre-activation). g is learnt and starts at 0 (skip-init), α is fixed, β² is the variance x would have at
g = 1. α·g is part of the weight that the drive meets, and so of what stands in the error slot: where feedback is not copied
from the weights, nothing of g enters the errors below.

An error of x_l splits: into the branch through the error slot of W_l, along the shortcut unchanged or through the slot of V. A
rule that cuts layers apart cuts here too: each layer's error reaches its own W, V and g, and no other layer.

The form is that of normaliser-free residual nets (Brock et al. 2021), in spiking nets of OTTT (Xiao et al. 2022).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from aplysia.errors import RecipeError
from aplysia.nets.noise import Noisy
from aplysia.nets.route import Route

if TYPE_CHECKING:
    from aplysia.nets.layer import Layer


class Sent(NamedTuple):
    """What a layer has given in one chunk to the layers above it.

    Attributes:
        signal: its output with its noise, `[K, B, …]`.
        currents: x, in front of its neurons, where a shortcut carries them on.
    """

    signal: Tensor | Noisy
    currents: Tensor | None


class Shortcut(nn.Module):
    """The second input of a layer, which makes the first one a branch.

    Args:
        source: name of the earlier layer.
        projection: the second synapse, a `Layer` of which only the synapse is used, its neurons those of the join; None: the
            source's currents themselves.
        alpha: α > 0.
        beta: β > 0.

    Raises:
        RecipeError: α or β not above 0.
    """

    def __init__(self, source: str, *, projection: Layer | None = None, alpha: float = 0.2, beta: float = 1.0) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta)):
            if not (value > 0.0 and math.isfinite(value)):
                raise RecipeError(
                    f"shortcut from {source}, {name}", expected="a number > 0", got=repr(value), fix="use 0.2 and 1"
                )
        self.source, self.projection, self.alpha, self.beta = source, projection, alpha, beta
        self.gain = nn.Parameter(torch.zeros(()))

    @property
    def scale(self) -> Tensor:
        """α·g, 0-dim."""
        return self.alpha * self.gain

    def bring(self, sent: Sent, carry: Any, route: Route, decay: float) -> tuple[Tensor, Any]:
        """The currents `[K, B, …]` that the source adds, and the carry of the projection's eligibility."""
        if self.projection is not None:
            return self.projection.currents(sent.signal, carry, route, decay)
        assert sent.currents is not None, "the net has its sources keep them"
        return sent.currents.detach() if route.cut else sent.currents, None


def check_shortcuts(layers: list[Layer]) -> None:
    """Raise `RecipeError` where a shortcut leads nowhere, or shapes do not fit; have the sources keep their currents."""
    earlier: dict[str, Layer] = {}
    for layer in layers:
        shortcut = layer.shortcut
        if shortcut is not None:
            source, projection = earlier.get(shortcut.source), shortcut.projection
            if source is None or layer is layers[-1]:
                raise RecipeError(
                    f"layer {layer.name}",
                    expected="a shortcut from an earlier layer to a hidden one",
                    got=f"one from {shortcut.source}" + (" to the readout" if layer is layers[-1] else ""),
                    fix="name one of " + (", ".join(earlier) or "the layers, which begin with this one"),
                )
            brought = source.output_shape if projection is None else projection.output_shape
            if brought != layer.output_shape or (projection and projection.input_shape != source.output_shape):
                raise RecipeError(
                    f"layer {layer.name}",
                    expected=f"a shortcut from {source.name} {source.output_shape} to {layer.output_shape}",
                    got="an identity"
                    if projection is None
                    else f"{projection.input_shape} to {projection.output_shape}",
                    fix="give it a projection of that stride and these channels",
                )
            source.carried = source.carried or projection is None
        earlier[layer.name] = layer
