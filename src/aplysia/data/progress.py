"""What a slow data step says on standard error: one line when it begins, a percentage while it lasts.

Nothing but the first line is written where standard error is not a terminal, so logs stay clean.
"""

from __future__ import annotations

import sys


def announce(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """A percentage rewritten in place; it has the four members that pooch asks of a progress bar.

    Args:
        label: what is being done, in a few words.
        total: how many units make 100 %; 0 where nobody knows.
    """

    def __init__(self, label: str, total: int = 0) -> None:
        self.label, self.total = label, total
        self._done = 0
        self._shown = -1
        self._terminal = sys.stderr.isatty()

    def update(self, units: int) -> None:
        """`units` more are done."""
        self._done += units
        percent = 100 * self._done // self.total if self.total else -1
        if self._terminal and percent != self._shown:
            self._shown = percent
            print(f"\r{self.label}: {min(percent, 100)} %", end="", file=sys.stderr, flush=True)

    def reset(self) -> None:
        """Back to nothing done."""
        self._done = 0

    def close(self) -> None:
        """End the line."""
        if self._terminal and self._shown >= 0:
            print(file=sys.stderr, flush=True)
            self._shown = -1
