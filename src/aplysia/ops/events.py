"""Products with a drive that is mostly 0, as sums over the entries that are not: a spike costs one row of a table.

    W·x   = Σ over j with x_j ≠ 0 of x_j·W[:, j]            forward
    δ ⊗ x = for each j: Σ over samples with x_j ≠ 0 of x_j·δ      update

Both are the products themselves with their zeros left out, in float32 and exact but for the order of the sums; a convolution
is such a product for each tap of its kernel. A full product does 2·samples·inputs·units operations however few units fire;
these do that times the share that does, at a lower speed, since a row comes from a cache and is used once. A weight that is not
finite spreads to the units it reaches and no further: 0·∞ is not taken.

They are C++ (`events.cpp`), compiled for the processor at first use and kept in the user's cache folder. They serve on a CPU
where kernels run compiled (`aplysia.ops.backend`); everywhere else the full products do.
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
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aplysia.ops.backend import compiled_kernels, compiler
from aplysia.ops.geometry import AbstractGeometry, AbstractWrapped, Conv2d, Dense

# Of a drive's entries, by the type of full products: with more that are not 0, those are as fast (`benchmarks/events.py`).
# Constants, and not measured on the spot, so that a run takes the same path each time.
LARGEST_SHARE = {torch.float32: 0.3, torch.bfloat16: 0.15}
# Weights, units and samples (of a convolution: pixels) from which on a call pays.
_LEAST_WEIGHTS, _LEAST_UNITS, _LEAST_SAMPLES = 1 << 14, 32, 16
# Entries of a drive that are looked at for the share.
_LOOKED_AT = 1 << 15

_SOURCE = Path(__file__).with_name("events.cpp")
_FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC")
# The first that the compiler takes; without OpenMP one thread does all.
_TARGETS = (
    ("-march=native", "-fopenmp"),
    ("-mcpu=native", "-fopenmp"),
    ("-fopenmp",),
    ("-march=native",),
    ("-mcpu=native",),
    (),
)


class EventsMissingWarning(UserWarning):
    """The sums over events cannot be compiled here; full products serve, which give the same."""


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
    source = _SOURCE.read_bytes()
    told = "\n".join([command, *_FLAGS, repr(_TARGETS), _processor()]).encode()
    name = f"events-{hashlib.sha256(source + told).hexdigest()[:20]}.so"
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
            words = [command, *_FLAGS, *target, str(_SOURCE), "-o", str(made)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                # Whole at once: another process may be building the same.
                made.replace(path)
                return path
            problem = problem or done.stderr
        raise OSError(f"{command} does not compile {_SOURCE.name}: {problem.strip().splitlines()[-1:]}")


@functools.cache
def _library() -> ctypes.CDLL | None:
    command = compiler()
    if command is None:
        return None
    try:
        library = ctypes.CDLL(str(_build(command)))
    except OSError as problem:
        warnings.warn(f"full products in place of sums over events: {problem}", EventsMissingWarning, stacklevel=2)
        return None
    for function in (library.event_forward, library.event_outer, library.event_conv_forward, library.event_conv_outer):
        function.restype = None
    return library


def share(drive: Tensor) -> float:
    """Share of entries that are not 0, from samples spread evenly over a drive `[B, …]`."""
    looked_at = drive.flatten(0, -2)  # of images: rows of pixels
    looked_at = looked_at[:: max(1, looked_at.numel() // _LOOKED_AT)]
    return int(looked_at.count_nonzero()) / max(1, looked_at.numel())


def _at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _call(function: Any, tensors: list[Tensor | None], sizes: list[int], out: Tensor, threads: int) -> None:
    function(*map(_at, tensors), *map(ctypes.c_int64, sizes), _at(out), threads)


@dataclass(frozen=True)
class AbstractEvents(AbstractWrapped):
    """Products with drives that are mostly 0 are sums over events, all others full products.

    Attributes:
        plain: the full products.
        largest: share of entries that are not 0 up to which sums serve.
    """

    largest: float

    def skips_zeros(self, drive: Tensor, weight_shape: torch.Size) -> bool:
        return (
            weight_shape.numel() >= _LEAST_WEIGHTS
            and weight_shape[0] >= _LEAST_UNITS
            and drive.numel() >= _LEAST_SAMPLES * drive.shape[1]
            and drive.device.type == "cpu"
            and drive.dtype == torch.float32
            and drive.is_contiguous()
            and share(drive) <= self.largest
        )

    def _library(self, drive: Tensor, other: Tensor, weight_shape: torch.Size) -> ctypes.CDLL | None:
        """The kernels, where they are to serve."""
        return _library() if other.dtype == torch.float32 and self.skips_zeros(drive, weight_shape) else None

    def forward(self, drive: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        library = self._library(drive, weight, weight.shape)
        if library is None:
            return self.plain.forward(drive, weight, bias)
        return self.sum_forward(library, drive, weight, None if bias is None else bias.contiguous())

    def error(self, delta: Tensor, feedback: Tensor, drive_shape: torch.Size) -> Tensor:
        return self.plain.error(delta, feedback, drive_shape)

    def outer(self, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        library = self._library(pre, delta, weight_shape)
        if library is None:
            return self.plain.outer(delta, pre, weight_shape)
        return self.sum_outer(library, delta.contiguous(), pre, weight_shape)

    @abstractmethod
    def sum_forward(self, library: ctypes.CDLL, drive: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """`forward` by events."""

    @abstractmethod
    def sum_outer(self, library: ctypes.CDLL, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        """`outer` by events."""


@dataclass(frozen=True)
class DenseEvents(AbstractEvents):
    """Dense weights."""

    def sum_forward(self, library: ctypes.CDLL, drive: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight = weight.contiguous()
        units, inputs = weight.shape
        out, table = drive.new_empty(len(drive), units), drive.new_empty(inputs, units)
        sizes = [len(drive), inputs, units]
        _call(library.event_forward, [drive, weight, bias, table], sizes, out, torch.get_num_threads())
        return out

    def sum_outer(self, library: ctypes.CDLL, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        out = pre.new_empty(weight_shape)
        sizes = [len(pre), weight_shape[1], weight_shape[0]]
        _call(library.event_outer, [pre, delta], sizes, out, torch.get_num_threads())
        return out


@dataclass(frozen=True)
class ConvEvents(AbstractEvents):
    """Convolutions of one group."""

    plain: Conv2d

    def sum_forward(self, library: ctypes.CDLL, drive: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        table = weight.permute(2, 3, 1, 0).contiguous()
        shape, kernel = self.plain.output_shape(tuple(drive.shape[1:]), weight.shape), weight.shape[-1]
        out = drive.new_empty(len(drive), *shape)
        sizes = [*drive.shape, len(weight), kernel, self.plain.stride, self.plain.padding, *shape[1:]]
        _call(library.event_conv_forward, [drive, table, bias], sizes, out, torch.get_num_threads())
        return out

    def sum_outer(self, library: ctypes.CDLL, delta: Tensor, pre: Tensor, weight_shape: torch.Size) -> Tensor:
        units, channels, kernel, _ = weight_shape
        if self.plain.stride != 1 or self.plain.padding >= kernel:
            return self.plain.outer(delta, pre, weight_shape)
        threads = torch.get_num_threads()
        sums = pre.new_zeros(threads, kernel, kernel, channels, units)
        sizes = [*pre.shape, units, kernel, self.plain.padding]
        _call(library.event_conv_outer, [pre, delta], sizes, sums, threads)
        return sums.sum(0).permute(3, 2, 0, 1).contiguous()


def for_events(geometry: AbstractGeometry, *, among: torch.dtype = torch.float32) -> AbstractGeometry:
    """The same geometry by sums over events, where there are such and kernels run compiled.

    Args:
        geometry: of the synapse.
        among: the type of its full products, which sets where sums are faster.
    """
    if not compiled_kernels():
        return geometry
    if isinstance(geometry, Dense) and _library() is not None:
        return DenseEvents(geometry, LARGEST_SHARE[among])
    if isinstance(geometry, Conv2d) and geometry.groups == 1 and _library() is not None:
        return ConvEvents(geometry, LARGEST_SHARE[among])
    return geometry
