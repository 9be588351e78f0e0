"""Is the net alive and finite? Said by layer name, with advice."""

from __future__ import annotations

from torch import Tensor

from aplysia.errors import TrainingError
from aplysia.nets.net import Net

# A layer that fires in less than this share of all places during an epoch passes on next to nothing.
SILENT = 0.005


def check_finite(net: Net, loss: Tensor, where: str) -> None:
    """Raise `TrainingError` naming the first layer whose weights are not finite, or the loss.

    Weights are looked at even when the loss is fine: a unit with a NaN membrane just stops firing, and says nothing.
    """
    for layer in net.all:
        for name, parameter in layer.named_parameters():
            if not bool(parameter.detach().sum().isfinite()):
                raise TrainingError(
                    f"layer {layer.name}, {where}",
                    expected=f"finite values in its {name}",
                    got="NaN or infinity",
                    fix="lower the learning rate (optimiser.lr) or set clip=1",
                )
    if not bool(loss.isfinite()):
        raise TrainingError(
            f"loss, {where}",
            expected="a finite number",
            got=f"{float(loss)} with finite weights",
            fix="look for NaN or very large values in the input data, or lower the learning rate (optimiser.lr)",
        )


def silent_layers(net: Net, rates: dict[str, float]) -> list[str]:
    """A sentence for each spiking layer that hardly fires."""
    said = []
    for layer in net.all:
        if layer.neuron.spiking and rates[layer.name] < SILENT:
            said.append(
                f"layer {layer.name} is silent: it fired in {rates[layer.name]:.2%} of all places this epoch "
                f"(under {SILENT:.1%}); {layer.neuron.advice}"
            )
    return said
