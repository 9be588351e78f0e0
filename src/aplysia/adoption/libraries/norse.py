"""Norse 1.1: cells take one step, the modules without "Cell" in their name whole sequences; both give (spikes, state)."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from aplysia.adoption.libraries.base import AbstractLibrary

_NEURONS = ("SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell")
# Leaky integrators give potentials.
_SILENT = ("LI", "LICell", "LIBoxCell", "LILinearCell")


class Norse(AbstractLibrary):
    """Every class derived from Norse's four bases of neurons."""

    package: ClassVar[str] = "norse"

    def neuron(self, module: nn.Module) -> bool:
        if self.loaded is None:
            return False
        ours = [kind for kind in type(module).__mro__ if kind.__module__.startswith("norse.")]
        return any(kind.__name__ in (*_NEURONS, *_SILENT) for kind in ours)

    def spikes(self, module: nn.Module) -> bool:
        return not any(kind.__name__ in _SILENT for kind in type(module).__mro__)

    def whole_sequence(self, module: nn.Module) -> bool:
        return any(kind.__name__ in ("SNN", "SNNRecurrent") for kind in type(module).__mro__)
