"""One error tree: every user mistake ends in one sentence that says where, what was expected, what came, and what to do.

Nothing below the command line catches these; the command line prints `str(error)` and exits non-zero, without a traceback.
A bug in Aplysia itself is never an `AplysiaError`: it keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AplysiaError(Exception):
    """A mistake a user can mend.

    Args:
        where: the place, in the user's words (a file, a recipe key, a layer name).
        expected: what would have been right.
        got: what was found instead.
        fix: what to do now.
    """

    def __init__(self, where: str, *, expected: str, got: str, fix: str) -> None:
        self.where, self.expected, self.got, self.fix = where, expected, got, fix
        super().__init__(f"{where}: expected {expected}, got {got}; {fix}.")


class RecipeError(AplysiaError):
    """A recipe, or a `--set` on it, that cannot be run: unknown name or key, wrong type, value out of range."""


class PairError(AplysiaError):
    """Parts that make no sense together (rule × net, rule × optimiser, scheme × loss), refused at construction."""


class DataError(AplysiaError):
    """Data that is missing, damaged, or does not fit the net."""


class RunError(AplysiaError):
    """A run folder or checkpoint that cannot be written, read or resumed."""


class TrainingError(AplysiaError):
    """Training that cannot go on: a loss or weight that is not finite."""


def near(name: str, known: Iterable[str]) -> str:
    """`did you mean 'x'` for the nearest known names, else the whole list: the end of many error sentences."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close)
    return "known: " + ", ".join(known)
