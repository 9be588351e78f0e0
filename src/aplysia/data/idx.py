"""The IDX format of the MNIST family.

    bytes 0–3    magic: 0, 0, 8 (unsigned bytes), number of dimensions D
    then         D sizes, 32-bit big-endian
    then         the values, last dimension fastest, exactly as many as the sizes say

Source: the format note of the MNIST page (LeCun, Cortes and Burges).
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from aplysia.errors import DataError

_GZIP = 31  # zlib's number for: a gzip header and checksum, largest window
_CHUNK = 1 << 20


def find_idx(folders: tuple[Path, ...], stem: str) -> Path | None:
    """`stem` or `stem.gz` in the first folder that has one."""
    candidates = (folder / name for folder in folders for name in (stem, f"{stem}.gz"))
    return next((path for path in candidates if path.is_file()), None)


def read_idx(path: Path, dimensions: int, owner: str) -> np.ndarray:
    """The array of an IDX file, uint8, packed with gzip or not.

    Args:
        dimensions: 3 for images `[N, H, W]`, 1 for labels `[N]`.
        owner: the data set's name, for messages.

    Raises:
        DataError: another magic number, or fewer or more bytes than the header promises.
    """
    data, whole = _read(path)
    fix = f"delete it and run `aplysia data fetch {owner}`"
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, 8, dimensions])
    if not whole and len(data) < header:
        got = f"a cut or damaged one with {len(data)} readable bytes"
        raise DataError(str(path), expected="a whole .gz", got=got, fix=fix)
    if data[:4] != magic:
        want, got = magic.hex(" "), bytes(data[:4]).hex(" ") or "an empty file"
        raise DataError(str(path), expected=f"an IDX file that begins with {want}", got=got, fix=fix)
    if len(data) < header:
        raise DataError(str(path), expected=f"a header of {header} bytes", got=f"{len(data)} bytes", fix=fix)
    sizes = struct.unpack(f">{dimensions}I", data[4:header])
    expected = header + math.prod(sizes)
    if len(data) != expected or not whole:
        got = f"{len(data):,} bytes" + ("" if whole else " and then the end of a cut or damaged .gz")
        raise DataError(str(path), expected=f"{expected:,} bytes, as its header says", got=got, fix=fix)
    return np.frombuffer(data, np.uint8, offset=header).reshape(sizes)


def _read(path: Path) -> tuple[bytearray, bool]:
    """All bytes that can be read, and whether the packing ended where it should."""
    packed = path.read_bytes()
    if path.suffix != ".gz":
        return bytearray(packed), True
    data, whole = bytearray(), False
    try:
        while packed:  # one round per part: a .gz may be several, one after the other, and zeros at the end
            part, start = zlib.decompressobj(_GZIP), 0
            while start < len(packed) and not part.eof:
                data += part.decompress(packed[start : start + _CHUNK])
                start += _CHUNK
            whole, packed = part.eof, (part.unused_data + packed[start:]).lstrip(b"\0")
    except zlib.error:
        whole = False
    return data, whole
