"""What has to be known of a library whose neurons are recognised."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from types import ModuleType
from typing import ClassVar

from torch import nn


class AbstractLibrary(ABC):
    """A library of spiking modules. Nothing of it is imported: a model of it has done that.

    Attributes:
        package: its import name.
    """

    package: ClassVar[str]

    @property
    def loaded(self) -> ModuleType | None:
        """The library, where this process has it."""
        return sys.modules.get(self.package)

    @abstractmethod
    def neuron(self, module: nn.Module) -> bool:
        """Whether a module is a neuron of this library, spiking or not: parameters of its own are learnt in place."""

    @abstractmethod
    def spikes(self, module: nn.Module) -> bool:
        """Whether what such a neuron gives, alone or first in a tuple, are spikes."""

    @abstractmethod
    def whole_sequence(self, module: nn.Module) -> bool:
        """Whether one call takes all steps, `[T, B, …]`, and not one, `[B, …]`."""
