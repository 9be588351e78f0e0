"""Files of every format, written by the tests themselves, so that no test needs a download."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_bytes(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = idx_bytes(array)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def mnist_arrays(rng: np.random.Generator, train: int = 20, test: int = 10) -> dict[str, np.ndarray]:
    arrays = (
        rng.integers(0, 256, (train, 28, 28)),
        np.arange(train) % 10,
        rng.integers(0, 256, (test, 28, 28)),
        np.arange(test) % 10,
    )
    return dict(zip(STEMS, arrays, strict=True))


def write_mnist(raw: Path, arrays: dict[str, np.ndarray], end: str = "") -> None:
    for stem, array in arrays.items():
        write_idx(raw / f"{stem}{end}", array)


def cifar_arrays(rng: np.random.Generator, count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, 256, (count, 3072)).astype(np.uint8), rng.integers(0, classes, count)


def write_batch(path: Path, images: np.ndarray, labels, key: bytes = b"labels", protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {b"data": images, key: [int(label) for label in labels], b"batch_label": b"a batch"}
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def python2_batch(images: np.ndarray, labels) -> bytes:
    """A batch with the opcodes that Python 2 wrote, as in the published files: byte strings and old numpy names."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    shape = b"M" + struct.pack("<H", images.shape[0]) + b"M" + struct.pack("<H", images.shape[1]) + b"\x86"
    dtype = b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R" + b"(K\x03" + short(b"|") + b"NNN"
    dtype += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = images.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + b"K\x00\x85" + short(b"b") + b"\x87R"
    array += b"(K\x01" + shape + dtype + b"\x89" + b"T" + struct.pack("<I", len(raw)) + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([int(label)]) for label in labels) + b"e"
    return b"\x80\x02}(" + short(b"data") + array + short(b"labels") + numbers + b"u."


def tar_of(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as pack:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            pack.addfile(info, io.BytesIO(data))


def aer_bytes(x, y, p, t) -> bytes:
    """40-bit address events."""
    x, y, p, t = (np.asarray(values, np.int64) for values in (x, y, p, t))
    rows = np.stack([x, y, p << 7 | (t >> 16 & 0x7F), t >> 8 & 0xFF, t & 0xFF], 1)
    return rows.astype(np.uint8).tobytes()
