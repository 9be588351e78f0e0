"""Randomness without history: every draw comes from a generator made of (seed, what for, when).

A run can then stop and go on at any step with nothing but its seed and its step count, and adding a draw in one place
changes no number in another.
"""

from __future__ import annotations

import hashlib

import torch


def generator(device: torch.device | str, *keys: int | str) -> torch.Generator:
    """A fresh generator on `device`, a function of the keys alone (64 bits of BLAKE2b over their text)."""
    digest = hashlib.blake2b("/".join(map(str, keys)).encode(), digest_size=8).digest()
    made = torch.Generator(device=device)
    made.manual_seed(int.from_bytes(digest, "little") >> 1)
    return made
