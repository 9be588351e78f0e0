"""Eager or compiled kernels: one switch for the process, announced when it cannot be followed.

Both compute the same, so this is a matter of speed and no part of a recipe's meaning. On a CPU spikes, membranes and the
backward passes of the triangle, arctan and rectangle surrogates are equal bit for bit; the sigmoid's backward pass agrees to
the last place, since the two sides evaluate the exponential of the last few elements of an array differently. Products of
large layers are summed in another order: with sparse drives (`aplysia.ops.events`) unless `precision.events=false`,
convolutions of 3 × 3 (`aplysia.ops.winograd`) unless `precision.winograd=false`.

Compiling costs seconds once per process and kernel; short runs do better without.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import subprocess
import types
import warnings
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch


class CompilerMissingWarning(UserWarning):
    """Compiled kernels were asked for and cannot be had; the run goes on with eager ones, which compute the same."""


_state = {"compiled": False}


def _candidates() -> list[str]:
    return [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]


@functools.cache
def _compiles(program: str) -> bool:
    """Whether a program says which compiler it is; one that is there for its name alone would end a run much later."""
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def compiler() -> str | None:
    """The C++ compiler: `$CXX`, else g++ or clang++, or None."""
    return next((found for name in _candidates() if (found := shutil.which(name)) and _compiles(found)), None)


def compiler_problem() -> str | None:
    """Why kernels cannot be compiled here, or None when they can."""
    if torch.cuda.is_available():
        return None if importlib.util.find_spec("triton") else "no Triton for the GPU kernels"
    return None if compiler() else "no C++ compiler found (looked for " + ", ".join(_candidates()) + ")"


def compiled_kernels() -> bool:
    """Whether kernels run compiled at this moment."""
    return _state["compiled"]


@contextlib.contextmanager
def kernels(*, compiled: bool) -> Iterator[bool]:
    """Run the body with compiled (or eager) kernels; yields what it really is.

    Falls back to eager, with one `CompilerMissingWarning`, where no compiler is found.
    """
    if compiled and (problem := compiler_problem()):
        warnings.warn(
            f"kernels run eager, which computes the same, slower: {problem}", CompilerMissingWarning, stacklevel=3
        )
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
    dynamic, so the last batch of an epoch compiles nothing. No gradient passes through a kernel.
    """
    specialised: dict[Hashable, Callable[..., Any]] = {}

    @functools.wraps(function)
    def call(static: Hashable, *tensors: torch.Tensor) -> Any:
        if not _state["compiled"]:
            return function(static, *tensors)
        # A kernel would be compiled anew for every shape of what its arguments are views of; these are views of nothing.
        tensors = tuple(tensor.detach() for tensor in tensors)
        key = (static, len(tensors), len(tensors[0]))
        if key not in specialised:
            # The compiler's cache and its limit of recompilations hang on the code object, so each kernel gets its own.
            def kernel(*arguments: torch.Tensor) -> Any:
                return function(static, *arguments)

            code = kernel.__code__.replace(co_name=f"{function.__name__}_{len(specialised)}")
            own = types.FunctionType(code, kernel.__globals__, code.co_name, None, kernel.__closure__)
            compiled = torch.compile(own, dynamic=True, fullgraph=True)
            # Numbers are constants here; as symbols they would be handed over as tensors, made anew at each call.
            with torch._dynamo.config.patch(specialize_float=True):
                result = compiled(*tensors)
            specialised[key] = compiled
            return result
        return specialised[key](*tensors)

    return call
