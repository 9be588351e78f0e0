"""Locks that go with their process, however it ends: how a trial that somebody trains is told from one that was left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


class Lock:
    """A file that one process at a time can hold. Where a system has no such locks, everybody gets it."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def take(cls, path: Path, *, wait: bool = False) -> Lock | None:
        """The lock, or None where another holds it; with `wait` it is waited for."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "w")  # noqa: SIM115 - closing it is what gives the lock back
        try:
            import fcntl
        except ImportError:
            return cls(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            file.close()
            return None
        return cls(file)

    def release(self) -> None:
        """Give it back; twice does no harm."""
        self._file.close()


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """One process at a time."""
    lock = Lock.take(path, wait=True)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
