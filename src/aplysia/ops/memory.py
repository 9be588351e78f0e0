"""Freed memory stays with the process while it trains, in place of going back to the system after every step.

A step of a convolutional net takes and frees hundreds of megabytes in tensors that live for a few milliseconds. The C library
of Linux gets blocks of that size from the system one by one and returns each when it is freed, and the system zeroes every page
again at its first touch. Kept, the same pages serve the next step. Nothing that is computed depends on it.

Where kernels run compiled (`aplysia.ops.backend`), large tensors of torch get a range of addresses of their own
(`memory.cpp`), in which what is freed serves tensors of any size; a process then holds little more than what was once in use at
a time. Elsewhere the C library is told to keep what is freed, at the price of what lies between its blocks: of a conv net's
step about half as much again.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aplysia.ops.native import allocator

# Of glibc's malloc.h: number of each setting, its value while memory is kept, and the default it has otherwise.
_SETTINGS = {
    "M_MMAP_MAX": (-4, 0, 65_536),  # blocks that are asked of the system one by one: none
    "M_TRIM_THRESHOLD": (-1, -1, 128 << 10),  # free bytes at the end of the heap beyond which they are returned: never
    "M_TOP_PAD": (-2, 64 << 20, 128 << 10),  # bytes by which the heap grows beyond what is needed
    # Heaps: else autograd's thread has one of its own, and neither can use what the other has freed.
    "M_ARENA_MAX": (-8, 1, 0),
}
_depth = 0


def _malloc() -> tuple[Callable[[int, int], int], Callable[[int], int]] | None:
    """glibc's `mallopt` and `malloc_trim`, or None: another system, or the user has set its allocator up already."""
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return None
    try:
        library = ctypes.CDLL(None)
        return library.mallopt, library.malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Keep freed memory while the body runs, and give it back after; yields whether that is done.

    It concerns the whole process. It does nothing outside of Linux with glibc, and nothing where the environment has settings
    of its own for the allocator (`MALLOC_…`, `GLIBC_TUNABLES`). Tensors made inside may live on after it.
    """
    global _depth
    malloc = _malloc()
    if malloc is None or _depth:
        yield malloc is not None
        return
    mallopt, malloc_trim = malloc
    own = allocator()
    owned = own is not None and bool(own.keep_memory())
    _depth += 1
    if not owned:
        for number, kept, _ in _SETTINGS.values():
            mallopt(number, kept)
    try:
        yield True
    finally:
        _depth -= 1
        if own is not None and owned:
            own.give_memory_back()
        else:
            for number, _, default in _SETTINGS.values():
                mallopt(number, default)
        malloc_trim(0)
