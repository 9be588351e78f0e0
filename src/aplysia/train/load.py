"""`aplysia.load`: the net of a finished run, ready to run.

The header of `model.safetensors` holds, as JSON under `aplysia`, a format, a digest of everything, and the notes

    recipe      as in recipe.json
    shape       of one sample
    scale       stored value → float;     mean, std    of the training set, taken off where the recipe normalises, else null
    version     of Aplysia

so that the file alone is enough. One that an older version wrote needs its run folder beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aplysia.errors import AplysiaError, RunError
from aplysia.nets.net import Input, Net
from aplysia.rng import generator
from aplysia.train.codec import decode
from aplysia.train.cost import empty_bundle
from aplysia.train.folder import MODEL, RunFolder, load_model
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.weights import fill


@dataclass(frozen=True)
class Loaded:
    """A net and how it was made.

    Attributes:
        net: with the weights at the end of the run, on the CPU, in evaluation mode.
        recipe: of the run.
        scale: stored value × scale is the float the net was trained on.
        mean, std: of the training set per channel, where the recipe normalises; else None.
        known: whether the three before this one come from the run; older versions did not keep them.
    """

    net: Net
    recipe: Recipe
    scale: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    known: bool = True

    def input(self, samples: Tensor, *, seed: int = 0) -> Input:
        """What the net gets, from samples as they are stored: scaled, normalised and encoded as in training.

        Args:
            samples: `[B, C, H, W]`, or `[B, T, C, H, W]` frames; bytes, or floats already scaled.
            seed: of the encoder's noise, where it has any.

        Raises:
            RunError: an older version wrote the run, and left out how its samples were scaled.
        """
        if not self.known and (self.recipe.normalise or not samples.is_floating_point()):
            raise RunError(
                f"run of {self.recipe.name}",
                expected="scale, mean and deviation of its samples",
                got="none, since an older version wrote it",
                fix="train it again, or encode samples that you have scaled by recipe.encoder",
            )
        x = samples.to(self.net.readout.weight.dtype)
        if not samples.is_floating_point():
            x = x * self.scale
        if self.mean is not None and self.std is not None:
            mean, std = (torch.tensor(part, dtype=x.dtype)[:, None, None] for part in (self.mean, self.std))
            x = (x - mean) / std
        return self.recipe.encoder(x, self.recipe.steps, generator(x.device, seed, "load"))


def load(path: Path | str) -> Loaded:
    """The net of a finished run.

    Args:
        path: a run folder, or its `model.safetensors`.

    Raises:
        RunError: no finished run there, a damaged one, or one of a newer version.
    """
    path = Path(path).expanduser()
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        raise RunError(
            str(path),
            expected="a finished run, or its model.safetensors",
            got="a run that is not finished" if path.is_dir() and RunFolder(path).has_run else "none",
            fix="let it finish (aplysia run --resume)" if path.is_dir() else "check the path",
        )
    tensors, notes = load_model(file)
    whole = notes if notes and "recipe" in notes else None
    written = whole["recipe"] if whole else _beside(file)
    try:
        recipe = decode(Recipe, written, AXES)
        net = recipe.build_net(empty_bundle(recipe, _shape(whole)))
    except AplysiaError as problem:
        raise RunError(
            str(path),
            expected="a run whose recipe this version reads",
            got=f"{problem.got} at {problem.where}",
            fix="put files that it names back, or use the version that wrote it"
            + (f" ({whole['version']})" if whole else ""),
        ) from problem
    fill(net, tensors, file)
    net.eval()
    if whole is None:
        return Loaded(net, recipe, known=False)
    mean, std = (None if whole[key] is None else tuple(whole[key]) for key in ("mean", "std"))
    return Loaded(net, recipe, whole["scale"], mean, std)


def _beside(file: Path) -> Any:
    recipe = file.parent / "recipe.json"
    if not recipe.is_file():
        raise RunError(
            str(file),
            expected="a recipe in its header, or recipe.json beside it",
            got="neither",
            fix="leave the file in its run folder",
        )
    return RunFolder(file.parent).read_json("recipe.json")


def _shape(notes: dict[str, Any] | None) -> tuple[int, int, int] | None:
    if notes is None:
        return None
    channels, height, width = notes["shape"]
    return channels, height, width
