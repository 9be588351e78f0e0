"""Normal numbers for noise on a CPU: each a function of a key and its place alone, whatever the number of threads.

    words    w = Philox4x32-10(counter, key)                                   four of 32 bits
    number   z = √(−2·ln u)·cos 2πv,  √(−2·ln u)·sin 2πv     u = (⌊w/2⁸⌋ + ½)/2²⁴ of one word, v of the next (Box and Muller)

|z| is at most 5.89, beyond which a normal number is once in 250 million. torch's own generator goes number by number, which
made up a tenth of a step under noise. The kernel is C++ (`normal.cpp`) where kernels run compiled; elsewhere torch's operations
give the same numbers but for the rounding of logarithm, sine and cosine.

Source of the generator: Salmon, Moraes, Dror and Shaw 2011.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aplysia.ops.native import call, library
from aplysia.rng import seeded

_SIDE = 16
_LOW = 0xFFFFFFFF
# Numbers at a time without a kernel, so that words stay in the cache; whole groups of 4 × 16.
_PART = 1 << 15
# Numbers from which on a call of the kernel pays.
_LEAST = 1 << 14


def fill_normal(out: Tensor, source: torch.Generator) -> None:
    """Fill `out` with independent N(0, 1); one number of 63 bits is taken from the source, as the key.

    Args:
        out: any shape. Off the CPU, and in other types than float32, torch's own generator serves.
        source: on its device.
    """
    if out.device.type != "cpu" or out.dtype != torch.float32 or not out.is_contiguous():
        out.normal_(generator=source)
    else:
        torch.ops.aplysia.normal_(out, generator=source)


def fill_normals(out: Tensor, seeds: list[int]) -> None:
    """Fill each `out[i]` as `fill_normal` does from a fresh generator of seed i, in one call.

    Args:
        out: `[D, …]`.
        seeds: D of them, of 63 bits.
    """
    if out.device.type != "cpu" or out.dtype != torch.float32 or not out.is_contiguous():
        for part, seed in zip(out, seeds, strict=True):
            fill_normal(part, seeded(out.device, seed))
    elif library() is None:
        torch.ops.aplysia.normals_(out, seeds)
    else:
        _fill_all(out, seeds)


def _fill_all(out: Tensor, seeds: list[int]) -> Tensor:
    kernels = library()
    if kernels is None:
        for part, seed in zip(out, seeds, strict=True):
            _fill(part, generator=seeded("cpu", seed))
    elif seeds:
        call(kernels.fill_normals, [torch.tensor(seeds, device="cpu")], [len(seeds), out[0].numel()], out)
    return out


def _fill(out: Tensor, *, generator: torch.Generator) -> Tensor:
    key = int(torch.empty((), dtype=torch.int64, device="cpu").random_(generator=generator))
    kernels = library()
    if kernels is not None:
        call(kernels.fill_normal, [], [key, out.numel()], out)
        return out
    for place, part in enumerate(out.view(-1).split(_PART)):
        part.copy_(_normal(key, place * _PART // 4, len(part)))
    return out


# An operation of torch's, so that whoever watches its operations (`aplysia.ledger.probe`) sees what is drawn; our kernels are
# seen by nobody.
_OPERATIONS = torch.library.Library("aplysia", "FRAGMENT")
_OPERATIONS.define("normal_(Tensor(a!) out, *, Generator generator) -> Tensor(a!)")
_OPERATIONS.impl("normal_", _fill, "CPU")
_OPERATIONS.define("normals_(Tensor(a!) out, int[] seeds) -> Tensor(a!)")
_OPERATIONS.impl("normals_", _fill_all, "CPU")


def _words(key: int, counters: Tensor) -> list[Tensor]:
    """Four words of 32 bits each, as int64."""
    x0, x1 = counters & _LOW, counters >> 32
    x2 = x3 = torch.zeros_like(counters)
    key0, key1 = key & _LOW, key >> 32
    for _ in range(10):
        a, b = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0, x1 = b.bitwise_right_shift(32).bitwise_and_(_LOW).bitwise_xor_(x1).bitwise_xor_(key0), b.bitwise_and_(_LOW)
        x2, x3 = a.bitwise_right_shift(32).bitwise_and_(_LOW).bitwise_xor_(x3).bitwise_xor_(key1), a.bitwise_and_(_LOW)
        key0, key1 = (key0 + 0x9E3779B9) & _LOW, (key1 + 0xBB67AE85) & _LOW
    return [x0, x1, x2, x3]


def _normal(key: int, first: int, count: int) -> Tensor:
    words = _words(key, first + torch.arange(-(-count // (4 * _SIDE)) * _SIDE, device="cpu"))
    made = []
    for one, other in (words[:2], words[2:]):
        radius = (one >> 8).float().add_(0.5).mul_(2.0**-24).log_().mul_(-2.0).sqrt_()
        # Signed, as the kernel has it: −½ … ½ of a turn.
        angle = ((other ^ 0x80000000) - 0x80000000 >> 8).float().mul_(2.0**-24 * 2.0 * math.pi)
        made += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack([part.view(-1, _SIDE) for part in made], 1).flatten()[:count]
