"""snnTorch 1.0: one step a call; neurons give spikes, or spikes and potentials."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from aplysia.adoption.libraries.base import AbstractLibrary


class SnnTorch(AbstractLibrary):
    """`SpikingNeuron` and what is derived from it; the recurrent ones own a layer of weights besides."""

    package: ClassVar[str] = "snntorch._neurons"

    def neuron(self, module: nn.Module) -> bool:
        return self.loaded is not None and isinstance(module, self.loaded.SpikingNeuron)

    def spikes(self, module: nn.Module) -> bool:
        return True

    def whole_sequence(self, module: nn.Module) -> bool:
        return False
