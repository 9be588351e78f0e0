"""Operations and bytes of a training step, counted while it runs: where it stands on a roofline.

Operations are those of matrix products and convolutions, as torch counts them. Bytes are what every operation reads and writes,
each tensor once, views apart; a fused kernel of ours counts as one operation, as it runs when compiled. No cache is assumed
between operations: a step whose tensors stay in one can be faster than memory allows by this count.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any, NamedTuple

import torch
from interleave import Step
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from aplysia.ops import backend
from aplysia.ops.backend import fused


class Work(NamedTuple):
    """Of one step."""

    operations: int
    bytes: int


def of(step: Step) -> Work:
    """Count one step, with eager kernels; the step is taken."""
    seen = _Bytes()
    with backend.kernels(compiled=False), _kernels_counted(seen):
        counter = FlopCounterMode(display=False)
        with counter, seen:
            step()
    return Work(counter.get_total_flops(), seen.total)


class _Bytes(TorchDispatchMode):
    """Adds up what operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def add(self, *trees: Any) -> None:
        tensors = {id(leaf): leaf for leaf in tree_leaves(trees) if isinstance(leaf, torch.Tensor)}
        self.total += sum(_size(tensor) for tensor in tensors.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not (_is_view(func) or func.overloadpacket in _FREE):
            self.add(args, kwargs, out)
        return out


# They touch no element.
_FREE = {torch.ops.aten.empty, torch.ops.aten.empty_strided, torch.ops.aten.empty_like, torch.ops.aten.new_empty}


def _is_view(func: Any) -> bool:
    """Whether an operation only looks at its argument in another way."""
    returns = func._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _size(tensor: torch.Tensor) -> int:
    """Bytes behind a tensor: one that repeats itself is stored once."""
    elements = 1
    for length, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= length if stride else 1
    return elements * tensor.element_size()


@contextlib.contextmanager
def _kernels_counted(seen: _Bytes) -> Iterator[None]:
    """Every fused kernel of the package counts what goes in and what comes out, and nothing in between."""
    code = fused(lambda static: static).__code__
    found = [
        (module, name, value)
        for key, module in list(sys.modules.items())
        if key.startswith("aplysia.")
        for name, value in list(vars(module).items())
        if isinstance(value, FunctionType) and value.__code__ is code
    ]

    def counted(kernel: Any) -> Any:
        def call(static: Any, *tensors: torch.Tensor) -> Any:
            with _disable_current_modes():
                out = kernel(static, *tensors)
            seen.add(tensors, out)
            return out

        return call

    for module, name, value in found:
        setattr(module, name, counted(value))
    try:
        yield
    finally:
        for module, name, value in found:
            setattr(module, name, value)
