"""Reading a pickle from a stranger without running its code.

A pickle is a program: it may call any importable function. This reader gives it six names and no other, and none of
them is the real thing: arrays and dtypes become inert stand-ins that record what the pickle says, and are turned into
arrays afterwards, by us, after checks. Enough for the CIFAR batches: dictionaries, lists, numbers, bytes, byte arrays.
"""

from __future__ import annotations

import codecs
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from aplysia.errors import DataError


class _DType:
    """What the pickle says about an array's type."""

    def __init__(self, code: str | bytes, *_flags: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like: without meaning for single bytes, the only type accepted."""


class _Array:
    """What the pickle says about an array."""

    state: tuple[Any, ...] = ()

    def __init__(self, *_arguments: Any) -> None:
        """An array is empty until its state comes."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array, if it is a whole C-ordered one of unsigned bytes; else ValueError."""
        try:
            _version, shape, dtype, fortran_order, data = self.state
            if dtype.code == "u1" and not fortran_order and len(data) == math.prod(shape):
                return np.frombuffer(bytearray(data), np.uint8).reshape(shape)
        except (TypeError, ValueError, AttributeError):
            pass  # another state than an array of numpy has: refused below like every other kind
        raise ValueError("an array that is not a whole one of unsigned bytes")


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 stores bytes in an old pickle."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text encoded as {encoding}")
    return codecs.encode(text, "latin1")


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _DType,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"the name {module_name}.{global_name}")
        return _ALLOWED[module_name, global_name]


def read_pickle(path: Path, owner: str) -> dict[str, Any]:
    """The dictionary of a pickle; byte strings as keys become text, arrays are uint8.

    Raises:
        DataError: damaged, not a dictionary, or a pickle that asks for anything that plain data do not need.
    """
    try:
        with path.open("rb") as stream:
            content = _Reader(stream, encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"a {type(content).__name__}")
        return {
            key.decode("latin1") if isinstance(key, bytes) else str(key): _plain(value)
            for key, value in content.items()
        }
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything; it is the file that is wrong, each time
        raise DataError(
            str(path),
            expected="a pickled dictionary of numbers and byte arrays",
            got=f"{error or type(error).__name__}",
            fix=f"do not trust this file: delete it and run `aplysia data fetch {owner}`",
        ) from error


def _plain(value: Any) -> Any:
    return value.array() if isinstance(value, _Array) else value
