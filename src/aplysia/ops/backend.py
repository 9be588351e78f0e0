"""Eager or compiled kernels: one switch for the process, announced when it cannot be followed.

Both give the same numbers (tested bit for bit on CPU), so this is a matter of speed alone and no part of a recipe's meaning.
Compiling costs seconds once per process and kernel; short runs do better without.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import types
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch


class CompilerMissingWarning(UserWarning):
    """Compiled kernels were asked for and cannot be had; the run goes on with eager ones and the same numbers."""


_state = {"compiled": False}


def compiler_problem() -> str | None:
    """Why kernels cannot be compiled here, or None when they can."""
    if torch.cuda.is_available():
        return None if importlib.util.find_spec("triton") else "no Triton for the GPU kernels"
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if any(shutil.which(c) for c in candidates):
        return None
    return "no C++ compiler found (looked for " + ", ".join(candidates) + ")"


def compiled_kernels() -> bool:
    """Whether kernels run compiled at this moment."""
    return _state["compiled"]


@contextlib.contextmanager
def kernels(*, compiled: bool) -> Iterator[bool]:
    """Run the body with compiled (or eager) kernels; yields what it really is.

    Falls back to eager, with one `CompilerMissingWarning`, where no compiler is found.
    """
    if compiled and (problem := compiler_problem()):
        warnings.warn(f"kernels run eager, with the same numbers: {problem}", CompilerMissingWarning, stacklevel=3)
        compiled = False
    before = _state["compiled"]
    _state["compiled"] = compiled
    try:
        yield compiled
    finally:
        _state["compiled"] = before


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for an element-wise kernel `function(static, *tensors)`, eager or compiled as the switch says at call time.

    `static` is hashable (a neuron, a step count); each value of it gets a compiled kernel of its own. Tensor sizes stay
    dynamic, so the last batch of an epoch compiles nothing.
    """
    specialised: dict[Hashable, Callable[..., Any]] = {}

    @functools.wraps(function)
    def call(static: Hashable, *tensors: torch.Tensor) -> Any:
        if not _state["compiled"]:
            return function(static, *tensors)
        key = (static, len(tensors[0]))
        if key not in specialised:
            # The compiler's cache and its limit of recompilations hang on the code object, so each kernel gets its own.
            code = function.__code__.replace(co_name=f"{function.__name__}_{len(specialised)}")
            own = types.FunctionType(
                code, function.__globals__, code.co_name, function.__defaults__, function.__closure__
            )
            specialised[key] = torch.compile(functools.partial(own, static), dynamic=True, fullgraph=True)
        return specialised[key](*tensors)

    return call
