"""Which data sets there are: found by looking into every module of this folder, so that a new one is one new file."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import aplysia.data as folder
from aplysia.data.base import AbstractDataset


def datasets() -> dict[str, type[AbstractDataset]]:
    """Name → class of every data set, in the order of names.

    A module that cannot be imported raises its own error here: it is never skipped.
    """
    found: dict[str, type[AbstractDataset]] = {}
    for module_info in pkgutil.iter_modules(folder.__path__):
        module = importlib.import_module(f"{folder.__name__}.{module_info.name}")
        for value in vars(module).values():
            defined_here = inspect.isclass(value) and value.__module__ == module.__name__
            if (
                defined_here
                and issubclass(value, AbstractDataset)
                and not inspect.isabstract(value)
                and _concrete(value)
            ):
                if value.name in found:
                    raise RuntimeError(f"two data sets are named '{value.name}': {found[value.name]} and {value}")
                found[value.name] = value
    return dict(sorted(found.items()))


def _concrete(dataset: type[AbstractDataset]) -> bool:
    """Shared layouts have every method and no name."""
    return "name" in vars(dataset)
