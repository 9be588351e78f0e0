"""SpikingJelly 2.0: single-step and multi-step modules, told apart by their own `step_mode`."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from aplysia.adoption.libraries.base import AbstractLibrary


class SpikingJelly(AbstractLibrary):
    """Every class of `spikingjelly.activation_based.neuron`; those called non-spiking give potentials."""

    package: ClassVar[str] = "spikingjelly.activation_based.neuron"

    def neuron(self, module: nn.Module) -> bool:
        # A user's own neuron is derived from one of theirs, so the ancestors count.
        return self.loaded is not None and any(
            kind.__module__.startswith(self.package) for kind in type(module).__mro__
        )

    def spikes(self, module: nn.Module) -> bool:
        return not any("NonSpiking" in kind.__name__ for kind in type(module).__mro__)

    def whole_sequence(self, module: nn.Module) -> bool:
        return getattr(module, "step_mode", "s") == "m"
