"""Files that come from the network: what is known about each, checking a copy, and getting one.

A file appears under its own name only when it is complete and its checksum is right: it is written in a temporary
folder beside its place and renamed. Mirrors are tried in order.
"""

from __future__ import annotations

import enum
import gzip
import hashlib
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from aplysia.data.progress import Progress, announce
from aplysia.errors import DataError

_TIMEOUT = 30  # seconds without one byte before a mirror is given up
_AS_STORED = {"Accept-Encoding": "identity"}  # else a server may unpack a .gz on the way and break its checksum


class FileState(enum.StrEnum):
    """What a check found."""

    OK = "ok"
    MISSING = "missing"
    EMPTY = "empty"
    WRONG = "wrong checksum"
    UNVERIFIED = "present, no checksum known"


@dataclass(frozen=True)
class FileReport:
    """One line of `aplysia data check`.

    Attributes:
        file: where it is, or should be.
        state: what was found there.
        size: bytes, `None` where there is nothing or where it is a folder.
        note: anything worth a word more.
    """

    file: Path
    state: FileState
    size: int | None = None
    note: str = ""


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded.

    Attributes:
        path: relative to the data root, with `/`.
        urls: mirrors, in the order they are tried.
        known_hash: `md5:…` or `sha256:…` of the file as it is served.
        size: bytes as served, `None` if not known.
        content_hash: for a `.gz` whose content matters, not its packing: the hash of the unpacked bytes. A copy
            that was unpacked or packed again is then known as good.
        unpacks: for an archive: what it leaves beside itself, names relative to the archive's folder.
    """

    path: str
    urls: tuple[str, ...]
    known_hash: str
    size: int | None = None
    content_hash: str | None = None
    unpacks: tuple[str, ...] = ()


def file_hash(path: Path, algorithm: str) -> str:
    """`algorithm:hex` of the bytes of a file."""
    with path.open("rb") as stream:
        return _stream_hash(stream, algorithm)


def check_hash(path: Path, known_hash: str | None) -> FileReport:
    """Is the file there, and is it the right one? `None`: no checksum is known."""
    if not path.is_file():
        return FileReport(path, FileState.MISSING)
    size = path.stat().st_size
    if size == 0:
        return FileReport(path, FileState.EMPTY, 0)
    if known_hash is None:
        return FileReport(path, FileState.UNVERIFIED, size)
    right = file_hash(path, _algorithm(known_hash)) == known_hash
    return FileReport(path, FileState.OK if right else FileState.WRONG, size)


def check_remote(root: Path, file: RemoteFile) -> FileReport:
    """Check the local copy of `file`, packed or unpacked."""
    path = root / file.path
    plain = path.with_suffix("") if path.suffix == ".gz" and not file.unpacks else path
    if plain.is_file() and plain != path:
        return check_hash(plain, file.content_hash)
    report = check_hash(path, file.known_hash)
    if report.state is FileState.WRONG and file.content_hash and _content_hash(path, file) == file.content_hash:
        return FileReport(path, FileState.OK, report.size, "packed again: the content is right")
    return report


def fetch_remote(root: Path, file: RemoteFile, owner: str) -> Path:
    """The local copy of `file`, downloaded unless a good one is there.

    Args:
        owner: the data set's name, for messages.

    Raises:
        DataError: no mirror gave the right file; nothing is left under the file's name that was not there before.
    """
    report = check_remote(root, file)
    if report.state is FileState.OK:
        return report.file
    path = root / file.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
            got = Path(folder) / path.name
            _download(got, file, owner, path)
            os.replace(got, path)
    except OSError as error:
        raise DataError(
            f"{owner}: {path}",
            expected="a folder that can be written",
            got=error.strerror or type(error).__name__,
            fix="free space or rights there, or choose another folder with --data DIR or APLYSIA_DATA",
        ) from error
    return path


def _download(to: Path, file: RemoteFile, owner: str, final: Path) -> None:
    """Fill `to` from the first mirror that serves the right bytes."""
    import pooch  # lazily, both: `import aplysia.data` must not pay for the network
    import requests

    reasons = []
    for url in file.urls:
        host = urlsplit(url).netloc
        announce(f"{owner}: downloading {final.name}{_megabytes(file.size)} from {host}")
        progress: Any = Progress(final.name)  # pooch takes any object with these members, and declares a bool
        try:
            pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=_TIMEOUT, headers=_AS_STORED)(
                url, str(to), None
            )
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "error"
            reasons.append(f"HTTP {status} from {host}")
            continue
        except requests.RequestException as error:
            reasons.append(f"no download from {host} ({type(error).__name__})")
            continue
        finally:
            progress.close()
        report = check_hash(to, file.known_hash)
        if report.state is FileState.OK:
            return
        found = "an empty file" if report.state is FileState.EMPTY else f"{report.size} bytes with another checksum"
        reasons.append(f"{found} from {host}")
    raise DataError(
        f"{owner}: {final}",
        expected=f"a download with {file.known_hash}",
        got=" and ".join(reasons) or "no address to ask",
        fix=f"check the network and run `aplysia data fetch {owner}`, or put the file there yourself",
    )


def _algorithm(known_hash: str) -> str:
    return known_hash.split(":", 1)[0]


def _stream_hash(stream: BinaryIO | gzip.GzipFile, algorithm: str) -> str:
    digest = hashlib.new(algorithm)
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def _content_hash(path: Path, file: RemoteFile) -> str | None:
    """The hash of what a .gz holds; `None` where it cannot be unpacked, which is a wrong file like any other."""
    try:
        with gzip.open(path) as stream:
            return _stream_hash(stream, _algorithm(file.content_hash or file.known_hash))
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return None


def _megabytes(size: int | None) -> str:
    return f" ({size / 1e6:.1f} MB)" if size else ""
