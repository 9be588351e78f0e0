"""What `aplysia audit` prints."""

from __future__ import annotations

from pathlib import Path

import torch

from aplysia.errors import RunError
from aplysia.train.audit import audit
from aplysia.train.codec import decode
from aplysia.train.folder import RunFolder
from aplysia.train.log import table
from aplysia.train.recipe import AXES, Recipe
from aplysia.train.run import Run


def show_audit(path: Path, data: Path | None) -> bool:
    """Audit a run folder; whether the two counters agree.

    Raises:
        RunError: no run folder, or one without a checkpoint.
    """
    folder = RunFolder(path)
    if not (path / "recipe.json").is_file() or not folder.has_checkpoint:
        raise RunError(
            str(path),
            expected="a run folder with its checkpoint",
            got="none" if not (path / "recipe.json").is_file() else "one without a checkpoint",
            fix="check the path, or train the run again",
        )
    recipe = decode(Recipe, folder.read_json("recipe.json"), AXES)
    run = Run(recipe, folder, torch.device("cpu"), data)
    trainer = run.restored()
    x, target = run.ledger_batch(trainer)
    checked = audit(trainer.learner, x, target, input_real=recipe.encoder.real)
    rows = [
        [one.what, _number(one.closed), _number(one.seen), "equal" if one.closed == one.seen else _verdict(one.agrees)]
        for one in checked
    ]
    table(rows, ["count", "closed form", "seen", ""], f"one batch of {len(target)} of {recipe.name}, counted twice")
    wrong = [one for one in checked if not one.agrees]
    unknown = sum(one.closed is None for one in checked)
    told = f", {unknown} not known before looking" if unknown else ""
    print(f"{len(checked) - len(wrong)} of {len(checked)} counts agree{told}")
    for one in wrong:
        print(f"differs: {one.what}: {_number(one.closed)} in closed form, {_number(one.seen)} seen")
    return not wrong


def _number(value: int | None) -> str:
    return "n/a" if value is None else f"{value:,}"


def _verdict(agrees: bool) -> str:
    return "not claimed" if agrees else "differs"
