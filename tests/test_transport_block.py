"""The block `transport` of a run's summary, counted on paper: 64-16-10 on the digits, 23 steps an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aplysia.recipes import find
from aplysia.train.codec import override
from aplysia.train.folder import RunFolder
from aplysia.train.log import Progress
from aplysia.train.recipe import AXES
from aplysia.train.run import Run

# 1,442 training samples in batches of 64; layer 1 owns no feedback weights, the readout's are 10 · 16.
STEPS, WORDS = 23, 160


def transport(folder: Path, *settings: str) -> dict[str, Any]:
    fixed = ["net=F16-F10", "epochs=1", "validation=0", "steps=2", "compiled=false"]
    recipe = override(find("digits-mlp"), [*fixed, *settings], AXES)
    run = Run(
        recipe,
        RunFolder.create(folder, resume=False),
        torch.device("cpu"),
        progress=Progress(recipe.epochs, shown=False),
    )
    return run.execute()["transport"]


def test_backpropagation_moves_every_weight_at_every_step(tmp_path: Path) -> None:
    assert transport(tmp_path / "bp", "rule=symmetric") == {
        "events": STEPS,
        "words": STEPS * WORDS,
        "bits": STEPS * WORDS * 32,
        "address_bits": 0,
        "words_bp": STEPS * WORDS,
        "reduction": 1.0,
        "bits_bp": STEPS * WORDS * 32,
        "reduction_bits": 1.0,
        "extra_memory_words": None,
        "feedback_writes": STEPS * WORDS,
    }


def test_frozen_feedback_counts_words_bits_addresses_and_memory(tmp_path: Path) -> None:
    """Copies after steps 5, 10, 15 and 20, of 10 % of the weights: 8 bits each, a scale of 32 a copy, places of 8 bits."""
    found = transport(
        tmp_path / "frozen",
        "rule=frozen",
        "rule.interval=5",
        "rule.transport=largest_change",
        "rule.transport.fraction=0.1",
        "rule.link.bits=8",
    )
    sent = 4 * WORDS // 10
    assert (found["events"], found["words"], found["words_bp"]) == (4, sent, STEPS * WORDS)
    assert found["reduction"] == pytest.approx(STEPS * WORDS / sent)
    assert (found["bits"], found["bits_bp"]) == (sent * 8 + 4 * 32, STEPS * WORDS * 32)
    assert 0 < found["address_bits"] <= sent * 8
    assert found["reduction_bits"] == pytest.approx(STEPS * WORDS * 32 / (found["bits"] + found["address_bits"]))
    assert found["extra_memory_words"] == WORDS
    assert found["feedback_writes"] == sent


def test_what_moves_nothing_has_no_reduction(tmp_path: Path) -> None:
    found = transport(tmp_path / "dfa", "rule=direct_feedback")
    assert (found["words"], found["bits"], found["reduction"], found["reduction_bits"]) == (0, 0, None, None)
