"""A call of torch in which a drive meets a weight, and how to read one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from aplysia.ops.geometry import AbstractGeometry
from aplysia.ops.synapse import synapse


@dataclass(frozen=True)
class Call:
    """One call, read.

    Attributes:
        drive: what the weight meets, with whatever axes the call takes.
        weight: the forward weight.
        bias: or None.
        geometry: the product of the two, and its adjoints, on that very drive.
        axes: how many of the last axes make one sample, of the drive and of the value alike.
    """

    drive: Tensor
    weight: Tensor
    bias: Tensor | None
    geometry: AbstractGeometry
    axes: int

    def run(self, feedback: Tensor | None) -> Tensor:
        """The value of the call, bit for bit, with `feedback` in the error slot."""
        tensors = (self.drive, self.weight, self.bias, feedback)
        device = self.drive.device.type
        if torch.is_autocast_enabled(device):
            # A product of our own is not on autocast's list, and its adjoints run later, outside of it.
            narrow = torch.get_autocast_dtype(device)
            tensors = tuple(t.to(narrow) if t is not None and t.is_floating_point() else t for t in tensors)
        drive, weight, bias, back = tensors
        assert drive is not None
        assert weight is not None
        return synapse(drive, weight, bias, geometry=self.geometry, feedback=back)


class AbstractCall(ABC):
    """How one of torch's functions is read. A user's own is handed to `adopt(..., calls=(...))`.

    Attributes:
        functions: those it reads, as a model calls them (`torch.nn.functional.linear`).
    """

    functions: ClassVar[tuple[Callable[..., Any], ...]]

    @abstractmethod
    def read(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """The call with these arguments; None where the geometry cannot say it."""
