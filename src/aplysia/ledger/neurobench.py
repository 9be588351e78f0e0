"""What inference costs, as NeuroBench 2.3 defines and names it (Yik et al. 2025, Nature Communications 16:1545).

    footprint             bytes of parameters and buffers
    connection_sparsity   share of weights that are 0, rounded to four digits
    activation_sparsity   share of spiking units' outputs that are 0, over layers, steps and samples
    effective_macs        products of an input and a weight of which neither is 0, per sample: where a layer's input of one step
    effective_acs         holds anything but 0, 1 and −1 they are MACs, else ACs
    dense                 products were nothing 0
    membrane_updates      changes of a membrane from one step to the next, per sample; at the first step every unit counts

NeuroBench guesses from values what is a spike, which the ledger never does: a gain on spikes, or an average pool, makes MACs of
them here. A bias is in none of these, and an input that is held counts at every step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from aplysia.errors import PairError
from aplysia.ledger.activity import senders
from aplysia.ledger.reach import connections
from aplysia.nets.layer import Layer
from aplysia.nets.net import Input, Net, chunks
from aplysia.types import Held

_NAMES = {
    "footprint": "Footprint",
    "connection_sparsity": "ConnectionSparsity",
    "activation_sparsity": "ActivationSparsity",
    "effective_macs": "Effective_MACs",
    "effective_acs": "Effective_ACs",
    "dense": "Dense",
    "membrane_updates": "MembraneUpdates",
}


@dataclass(frozen=True)
class Inference:
    """NeuroBench's numbers, see the top of this file."""

    footprint: int
    connection_sparsity: float
    activation_sparsity: float
    effective_macs: float
    effective_acs: float
    dense: float
    membrane_updates: float

    def as_json(self) -> dict[str, float]:
        """By NeuroBench's names; the three counts of products are one dictionary there, `SynapticOperations`."""
        return {_NAMES[name]: value for name, value in asdict(self).items()}


@torch.no_grad()
def inference_metrics(net: Net, x: Input) -> Inference:
    """Run a batch step by step, and count.

    Args:
        net: of stepped neurons.
        x: `[T, B, …]`, or `Held([B, …], T)`.

    Raises:
        PairError: another kind of neurons, which NeuroBench does not know.
    """
    if net.kind != "stepped":
        raise PairError(
            "NeuroBench's metrics",
            expected="stepped neurons",
            got=f"{net.kind} ones, which NeuroBench does not know",
            fix="use the ledger's own counts",
        )
    batch = len(x.value) if isinstance(x, Held) else x.shape[1]
    sources = senders(net)
    macs = acs = dense = updates = zeros = outputs = 0
    states: Any = None
    for part in chunks(x, 1):
        done = net(part, states)
        for layer in net.synapses:
            place = sources[layer.name]
            first = part.value if isinstance(part, Held) else part[0]
            drive = layer.prepare(first if place is None else done.outs[place][0])
            products = _products(layer, drive)
            if bool(((drive == 0) | (drive.abs() == 1)).all()):
                acs += products
            else:
                macs += products
            dense += batch * connections(layer)
        for place, layer in enumerate(net.all):
            if layer.neuron.spiking:
                zeros += int((done.outs[place] == 0).sum())
                outputs += done.outs[place].numel()
            if layer.neuron.spiking or getattr(layer.neuron, "decay", 0.0) != 0.0:
                after = done.states[place].neuron[0]
                before = None if states is None else states[place].neuron[0]
                updates += after.numel() if before is None else int((after != before).sum())
        states = done.states
    weights = [layer.effective_weight() for layer in net.synapses]
    silent, whole = sum(int((w == 0).sum()) for w in weights), sum(w.numel() for w in weights)
    return Inference(
        footprint=sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers())),
        connection_sparsity=round(silent / whole, 4),
        activation_sparsity=zeros / outputs if outputs else 0.0,
        effective_macs=macs / batch,
        effective_acs=acs / batch,
        dense=dense / batch,
        membrane_updates=updates / batch,
    )


def _products(layer: Layer, drive: Tensor) -> int:
    weight = (layer.effective_weight() != 0).to(torch.float64)
    return round(float(layer.geometry.forward((drive != 0).to(torch.float64), weight).sum()))
