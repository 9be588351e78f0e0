"""Kernels in C++ beside Inductor's: compiled for the processor at first use and kept in the user's cache folder.

They are for what no element-wise kernel does well: sums over events (`aplysia.ops.events`), convolutions tile by tile
(`aplysia.ops.winograd`), averages of neighbours (`aplysia.ops.pool`), traces of any number of steps (`aplysia.ops.scan`). They serve on a CPU where kernels run compiled
(`aplysia.ops.backend`), and everything runs without them.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aplysia.ops.backend import compiled_kernels, compiler

_SOURCES = tuple(Path(__file__).with_name(name) for name in ("events.cpp", "pool.cpp", "normal.cpp", "trace.cpp", "winograd.cpp"))
_SHARED = Path(__file__).with_name("native.h")
_FLAGS = ("-O3", "-fno-math-errno", "-std=c++17", "-shared", "-fPIC")
# The first that the compiler takes; without OpenMP one thread does all.
_TARGETS = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-fopenmp",),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)


class NativeMissingWarning(UserWarning):
    """The kernels cannot be compiled here; torch's own operations serve, which give the same."""


def _processor() -> str:
    """What a kernel compiled for this processor depends on."""
    told = Path("/proc/cpuinfo")
    if told.exists():
        lines = told.read_text(errors="replace").splitlines()
        for line in lines:
            if line.startswith(("flags", "Features")):
                return line
    return f"{platform.machine()} {platform.processor()}"


def _folder() -> Path:
    import pooch  # lazily: only where something is compiled

    return Path(pooch.os_cache("aplysia")) / "kernels"


def _build(command: str) -> Path:
    """The compiled library, from the cache where it is there."""
    source = b"".join(path.read_bytes() for path in (*_SOURCES, _SHARED))
    told = "\n".join([command, *_FLAGS, repr(_TARGETS), _processor()]).encode()
    name = f"native-{hashlib.sha256(source + told).hexdigest()[:20]}.so"
    path = _folder() / name
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(path.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        path = Path(tempfile.mkdtemp(prefix="aplysia-kernels-")) / name
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / name
        problem = ""
        for target in _TARGETS:
            words = [command, *_FLAGS, *target, *map(str, _SOURCES), "-o", str(made)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                # Whole at once: another process may be building the same.
                made.replace(path)
                return path
            problem = problem or done.stderr
        raise OSError(f"{command} does not compile them: {problem.strip().splitlines()[-1:]}")


@functools.cache
def _library() -> ctypes.CDLL | None:
    command = compiler()
    if command is None:
        return None
    try:
        library = ctypes.CDLL(str(_build(command)))
    except OSError as problem:
        warnings.warn(
            f"no kernels in C++, so torch's own operations serve, slower: {problem}", NativeMissingWarning, stacklevel=2
        )
        return None
    return library


def library() -> ctypes.CDLL | None:
    """The kernels where they serve at this moment; None: kernels run eager, or these cannot be compiled."""
    return _library() if compiled_kernels() else None


def call(function: Any, tensors: list[Tensor | None], sizes: list[int], out: Tensor) -> None:
    """Call a kernel that takes tensors, sizes, what it writes and the number of threads, in this order.

    Args:
        function: of `library()`; it returns nothing.
        tensors: float32, contiguous, on the CPU; None for one that is not there.
        sizes: whole numbers of 64 bits.
        out: what it writes.
    """
    function.restype = None
    pointers = [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
    numbers = [ctypes.c_int64(size) for size in sizes]
    function(*pointers, *numbers, ctypes.c_void_p(out.data_ptr()), torch.get_num_threads())
