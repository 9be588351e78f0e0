"""Shared small types and the legend of shape letters.

Shape letters, one set for the whole library, appended to tensor names where it helps (`spikes_TBN`):

    T  time steps of a sequence      K  time steps of one chunk (K ≤ T)      B  samples of a batch
    N  neurons of a layer            M  presynaptic inputs of a layer        C  channels, or classes where said
    H  height                        W  width

Time comes first everywhere: `[T, B, …]`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

# Settings worth a search, by their key below `rule.`: (low, high, whether on a log scale).
Tunable = Mapping[str, tuple[float, float, bool]]


class Held(NamedTuple):
    """An input that is the same at every step: a constant current (direct coding).

    It goes through the first synapse once, not T times.

    Attributes:
        value: `[B, …]`.
        steps: T, for how many steps it is held.
    """

    value: Tensor
    steps: int


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where an equation comes from."""

    authors: str
    title: str
    year: int
    venue: str
    url: str = ""

    def __str__(self) -> str:
        return f"{self.authors} ({self.year}). {self.title}. {self.venue}." + (f" {self.url}" if self.url else "")


class Claim(enum.Enum):
    """A fact a rule states about its own class. The contract tests measure every one of them, on every rule."""

    EXACT = "the gradients equal those of backpropagation by plain autograd"
    NO_TRANSPORT = "after attachment no forward weight, nor its sign, enters the error of another layer"
    FIXED_FEEDBACK = "the feedback tensors never change after attachment"
    UNLOCKED = "a hidden layer's error needs the output error only, not the layers in between"
    HIDDEN_FROZEN = "hidden weights get no gradient"
    RESPONSE = (
        "while data pass, hidden errors depend on the weights above through the output they cause, and in no other way"
    )
    SECOND_PHASE = "the rule needs a phase of its own, beside the passes over data"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one call of a rule moved, in exact counts; `None` means not known, never zero.

    Attributes:
        events: transport events: steps after which weights or signs are sent from the forward to the feedback side, be it of
            one layer or of several.
        words: weights sent across, whether or not they arrive.
        bits: bits sent across, at the width the link has for a weight, else the weight's own (signs: 1).
        address_bits: bits spent on saying which weights were sent; none where both sides know.
        writes: feedback weights written.
        random_numbers: random numbers drawn, on one side.
    """

    events: int | None = 0
    words: int | None = 0
    bits: int | None = 0
    address_bits: int | None = 0
    writes: int | None = 0
    random_numbers: int | None = 0

    def __add__(self, other: Cost) -> Cost:
        def add(a: int | None, b: int | None) -> int | None:
            return None if a is None or b is None else a + b

        return Cost(
            events=add(self.events, other.events),
            words=add(self.words, other.words),
            bits=add(self.bits, other.bits),
            address_bits=add(self.address_bits, other.address_bits),
            writes=add(self.writes, other.writes),
            random_numbers=add(self.random_numbers, other.random_numbers),
        )
