"""Kernels in C++ beside Inductor's: compiled for the processor at first use and kept in the user's cache folder.

They are for what no element-wise kernel does well: sums over events (`aplysia.ops.events`), convolutions tile by tile
(`aplysia.ops.winograd`), products with a short side (`aplysia.ops.wide`), averages of neighbours (`aplysia.ops.pool`), scans of
any number of steps (`aplysia.ops.scan`), errors at the readout (`aplysia.ops.readout`), noise (`aplysia.ops.normal`), pairs of
steps (`aplysia.ops.pairs`); and for memory that is kept from step to step (`aplysia.ops.memory`). They serve on a CPU where
kernels run compiled (`aplysia.ops.backend`); everything runs without them.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aplysia.ops.backend import compiled_kernels, compiler


@dataclass(frozen=True)
class _Part:
    """What is compiled into one library.

    Attributes:
        name: of the library.
        sources: in this folder.
        shared: files that those include.
        flags: of the compiler.
        targets: more flags, of which the first serve that the compiler takes.
    """

    name: str
    sources: tuple[str, ...]
    shared: tuple[str, ...]
    flags: tuple[str, ...]
    targets: tuple[tuple[str, ...], ...]


_BASIC = ("-shared", "-fPIC")
_KERNELS = _Part(
    "native",
    (
        "events.cpp",
        "lif.cpp",
        "normal.cpp",
        "pairs.cpp",
        "pool.cpp",
        "readout.cpp",
        "trace.cpp",
        "wide.cpp",
        "winograd.cpp",
    ),
    ("native.h",),
    ("-O3", "-fno-math-errno", "-std=c++17", *_BASIC),
    # Without OpenMP one thread does all.
    (
        ("-march=native", "-fopenmp"),
        ("-mcpu=native", "-fopenmp"),
        ("-fopenmp",),
        ("-march=native",),
        ("-mcpu=native",),
        (),
    ),
)


def _memory() -> _Part:
    """torch's allocator, against torch's own headers."""
    folder = Path(torch.__file__).parent
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    flags = ("-O2", *_BASIC, abi, f"-I{folder / 'include'}", f"-L{folder / 'lib'}", f"-DTORCH={torch.__version__}")
    return _Part("memory", ("memory.cpp",), (), (*flags,), (("-std=c++20", "-lc10"), ("-std=c++17", "-lc10")))


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


def _build(command: str, part: _Part) -> Path:
    """The compiled library, from the cache where it is there."""
    here = Path(__file__).parent
    sources = [here / name for name in part.sources]
    text = b"".join((here / name).read_bytes() for name in (*part.sources, *part.shared))
    told = "\n".join([command, *part.flags, repr(part.targets), _processor()]).encode()
    name = f"{part.name}-{hashlib.sha256(text + told).hexdigest()[:20]}.so"
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
        for target in part.targets:
            words = [command, *part.flags, *map(str, sources), "-o", str(made), *target]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                # Whole at once: another process may be building the same.
                made.replace(path)
                return path
            problem = problem or done.stderr
        raise OSError(f"{command} does not compile them: {problem.strip().splitlines()[-1:]}")


def _loaded(part: _Part, lost: str) -> ctypes.CDLL | None:
    """A library, or None and one warning that says what is lost."""
    command = compiler()
    if command is None:
        return None
    try:
        return ctypes.CDLL(str(_build(command, part)))
    except OSError as problem:
        warnings.warn(f"{lost}: {problem}", NativeMissingWarning, stacklevel=3)
        return None


@functools.cache
def _library() -> ctypes.CDLL | None:
    return _loaded(_KERNELS, "no kernels in C++, so torch's own operations serve, slower")


@functools.cache
def _allocator() -> ctypes.CDLL | None:
    return _loaded(_memory(), "no allocator in C++, so that of the system serves, which takes more memory")


def allocator() -> ctypes.CDLL | None:
    """What keeps torch's memory (`aplysia.ops.memory`), likewise, on Linux."""
    return _allocator() if compiled_kernels() and sys.platform.startswith("linux") else None


def library() -> ctypes.CDLL | None:
    """The kernels where they serve at this moment; None: kernels run eager, or these cannot be compiled."""
    return _library() if compiled_kernels() else None


def native() -> bool:
    """Whether there are kernels at this moment."""
    return library() is not None


def ready(*tensors: Tensor) -> bool:
    """Whether kernels can take these: float32, contiguous, on the CPU."""
    for t in tensors:  # noqa: SIM110 - a generator takes as long as a call of an operation
        if t.dtype != torch.float32 or not t.is_contiguous() or t.device.type != "cpu":
            return False
    return True


def call(function: Any, tensors: list[Tensor | None], sizes: list[int], out: Tensor, *, counts: bool = False) -> int:
    """Call a kernel that takes tensors, sizes, what it writes and the number of threads, in this order.

    Args:
        function: of `library()`.
        tensors: float32, contiguous, on the CPU; None for one that is not there.
        sizes: whole numbers of 64 bits.
        out: what it writes.
        counts: whether it gives a number, the same at every call.

    Returns:
        that number.
    """
    if function.argtypes is None:
        # Once for each kernel: calls are then converted in C.
        pointers, numbers = [ctypes.c_void_p] * len(tensors), [ctypes.c_int64] * len(sizes)
        function.restype = ctypes.c_int64 if counts else None
        function.argtypes = [*pointers, *numbers, ctypes.c_void_p, ctypes.c_int]
    pointed = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    return function(*pointed, *sizes, out.data_ptr(), torch.get_num_threads())


@functools.lru_cache(maxsize=256)
def numbers(*values: float) -> Tensor:
    """Numbers as kernels take them, whatever types and devices are the user's defaults; not to be written to."""
    return torch.tensor(values, dtype=torch.float32, device="cpu")
