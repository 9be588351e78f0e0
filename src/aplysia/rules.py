"""Every spatial rule that ships, by class name: `aplysia.rules.FeedbackAlignment`.

Filled by walking `aplysia.credit.spatial`, so a new rule needs no line here.
"""

from __future__ import annotations

from aplysia.credit.contract import AbstractSpatial
from aplysia.plugins import walk

_found = {cls.__name__: cls for cls in walk("aplysia.credit.spatial", AbstractSpatial).values()}
globals().update(_found)
__all__ = sorted(_found)


def __getattr__(name: str) -> type[AbstractSpatial]:
    raise AttributeError(f"no rule '{name}'; there are {', '.join(__all__)}")
