"""Randomness without history: every draw comes from a generator made of (seed, what for, when).

A run can then stop and go on at any step with nothing but its seed and its step count, and adding a draw in one place
changes no number in another.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor


def generator(device: torch.device | str, *keys: int | str) -> torch.Generator:
    """A fresh generator on `device`, a function of the keys alone."""
    return seeded(device, seed_of(*keys))


def seed_of(*keys: int | str) -> int:
    """The seed of that generator, 63 of the 64 bits of BLAKE2b over the keys' text."""
    digest = hashlib.blake2b("/".join(map(str, keys)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seeded(device: torch.device | str, seed: int) -> torch.Generator:
    """A fresh generator on `device`, of a seed that `seed_of` gave."""
    made = torch.Generator(device=device)
    made.manual_seed(seed)
    return made


def integers(shape: torch.Size | tuple[int, ...], bits: int, source: torch.Generator) -> Tensor:
    """Whole numbers of 8 or 16 bits, uniform around −½, `[K, …]`: the same however K steps are cut into chunks."""
    kind = {8: torch.int8, 16: torch.int16}[bits]
    # A word of 64 random bits serves several numbers; each step begins with a word of its own.
    each, count = 64 // bits, math.prod(shape[1:])
    words = torch.empty(shape[0], -(-count // each), dtype=torch.int64, device=source.device)
    parts = [words] if source.device.type == "cpu" else list(words)
    for part in parts:
        part.random_(-(1 << 63), None, generator=source)
    return words.view(kind)[:, :count].reshape(shape)


def uniform(shape: torch.Size | tuple[int, ...], source: torch.Generator) -> Tensor:
    """Numbers uniform in [0, 1), `[K, …]`: the same however K steps are cut into chunks."""
    if source.device.type == "cpu":
        # Drawn one after the other in the order of memory, so a chunk goes on where the one before has stopped.
        return torch.rand(shape, generator=source)
    return torch.stack([torch.rand(shape[1:], generator=source, device=source.device) for _ in range(shape[0])])
