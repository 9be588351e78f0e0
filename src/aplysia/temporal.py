"""Every temporal scheme that ships, by class name: `aplysia.temporal.Trace`.

Filled by walking `aplysia.credit.temporal`, so a new scheme needs no line here.
"""

from __future__ import annotations

from aplysia.credit.contract import AbstractTemporal
from aplysia.plugins import walk

_found = {cls.__name__: cls for cls in walk("aplysia.credit.temporal", AbstractTemporal).values()}
globals().update(_found)
__all__ = sorted(_found)


def __getattr__(name: str) -> type[AbstractTemporal]:
    raise AttributeError(f"no temporal scheme '{name}'; there are {', '.join(__all__)}")
