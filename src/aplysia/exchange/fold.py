"""A net without what is only there for learning: the same outputs from plain weights.

    Ŵ = γ·(W − mean)/√(var·fan_in + 1e-4)   or   W − mean       becomes the stored weight
    gain g behind a layer                                        goes into the weights of the next one:  W·(g·s) = (W·g)·s
    dropout                                                      vanishes, as it does wherever nothing is learnt

The products are rounded in another order, so a membrane may differ in its last places where there is a gain; without one the
outputs are the same bit for bit.
"""

from __future__ import annotations

import torch

from aplysia.nets.layer import Layer
from aplysia.nets.net import Net


@torch.no_grad()
def fold(net: Net) -> Net:
    """A plain net of the same outputs, in new memory, on the CPU. Shortcuts stay what they are and are not for it."""
    layers, gain = [], 1.0
    for old in net.all:
        weight = old.effective_weight()
        layer = Layer(
            old.name,
            old.geometry,
            old.input_shape,
            tuple(weight.shape),
            old.neuron,
            pools=old.pools,
            bias=old.bias is not None,
            stem_pool=old.stem_pool,
        ).to(weight.dtype)
        layer.weight.copy_(weight if gain == 1.0 else weight * gain)
        if layer.bias is not None and old.bias is not None:
            layer.bias.copy_(old.bias)
        layers.append((layer, layer.weight.clone(), None if layer.bias is None else layer.bias.clone()))
        gain = old.gain if old.neuron.spiking else 1.0
    plain = Net(layer for layer, _, _ in layers)
    for layer, weight, bias in layers:  # a net draws its weights anew
        layer.weight.copy_(weight)
        if layer.bias is not None and bias is not None:
            layer.bias.copy_(bias)
    return plain.eval().requires_grad_(False)
