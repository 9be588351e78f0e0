"""The optional package `nir`, asked for when it is needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from aplysia.errors import RunError


def nir_package() -> ModuleType:
    """The module `nir`.

    Raises:
        RunError: it is not installed.
    """
    try:
        return importlib.import_module("nir")
    except ImportError as problem:
        raise RunError(
            "NIR", expected="the package nir", got="none installed", fix="run pip install 'aplysia[nir]'"
        ) from problem
