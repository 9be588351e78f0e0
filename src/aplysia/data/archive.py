"""Unpacking tar and zip archives that strangers made: into a temporary folder first, regular files only, then a rename.

No entry may leave the folder (absolute names, `..`), and links and devices are refused: an archive can then write
nothing but the files it was asked for.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from aplysia.errors import DataError


def unpack(archive: Path, wanted: tuple[str, ...], owner: str) -> None:
    """Put the top-level entries `wanted` of an archive beside it; what is there already is left alone.

    Raises:
        DataError: a damaged archive, an unsafe entry, or one that holds something else.
    """
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpack-") as name:
        folder = Path(name)
        try:
            for entry, source in _entries(archive):
                target = folder.joinpath(*_safe(entry, archive, owner).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
        except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise _bad(archive, owner, "a whole archive", f"a damaged one ({type(error).__name__})") from error
        if absent := [entry for entry in wanted if not (folder / entry).exists()]:
            raise _bad(archive, owner, "an archive with " + ", ".join(wanted), "none of " + ", ".join(absent))
        for entry in wanted:
            target = archive.parent / entry
            if not target.exists():  # another process may have been faster
                os.replace(folder / entry, target)


def _entries(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Every file of the archive with its bytes; folders are made as needed and not yielded."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as pack:
            for item in pack.infolist():
                if not item.is_dir():
                    yield item.filename, pack.open(item)
    else:
        with tarfile.open(archive) as pack:
            for member in pack:
                if member.isdir():
                    continue
                source = pack.extractfile(member) if member.isreg() else None
                if source is None:
                    raise tarfile.TarError(f"{member.name} is no regular file")
                yield member.name, source


def _safe(entry: str, archive: Path, owner: str) -> PurePosixPath:
    path = PurePosixPath(entry.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in entry:
        raise _bad(archive, owner, "names inside the archive's own folder", f"the entry '{entry}'")
    return path


def _bad(archive: Path, owner: str, expected: str, got: str) -> DataError:
    fix = f"delete it and run `aplysia data fetch {owner}`"
    return DataError(f"{owner}: {archive}", expected=expected, got=got, fix=fix)
