"""Where data live: the option given, else `$APLYSIA_DATA`, else the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "APLYSIA_DATA"


def data_root(option: str | Path | None) -> Path:
    """The folder that holds every data set; it need not exist yet."""
    if option is not None and str(option):
        return Path(option).expanduser()
    if from_environment := os.environ.get(VARIABLE):
        return Path(from_environment).expanduser()
    import pooch  # lazily: it is needed only where nobody has said where data live

    return Path(pooch.os_cache("aplysia")).expanduser()
