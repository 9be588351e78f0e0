"""Randomness without history: every draw comes from a generator made of (seed, what for, when).

A run can then stop and go on at any step with nothing but its seed and its step count, and adding a draw in one place
changes no number in another.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(device: torch.device | str, *keys: int | str) -> torch.Generator:
    """A fresh generator on `device`, a function of the keys alone (64 bits of BLAKE2b over their text)."""
    digest = hashlib.blake2b("/".join(map(str, keys)).encode(), digest_size=8).digest()
    made = torch.Generator(device=device)
    made.manual_seed(int.from_bytes(digest, "little") >> 1)
    return made


def uniform(shape: torch.Size | tuple[int, ...], source: torch.Generator) -> Tensor:
    """Numbers uniform in [0, 1), `[K, …]`: the same however K steps are cut into chunks."""
    if source.device.type == "cpu":
        # Drawn one after the other in the order of memory, so a chunk goes on where the one before has stopped.
        return torch.rand(shape, generator=source)
    return torch.stack([torch.rand(shape[1:], generator=source, device=source.device) for _ in range(shape[0])])
