"""From what an update asks for to whole numbers of pulses: unbiased, however small it is."""

from __future__ import annotations

import torch
from torch import Tensor


def rounded(amount: Tensor, generator: torch.Generator) -> Tensor:
    """Amounts ≥ 0 rounded to whole numbers: up with the probability of what is left over, so right in the mean."""
    lot = torch.rand(amount.shape, generator=generator, device=amount.device, dtype=amount.dtype)
    whole = amount.floor()
    return whole + (lot < amount - whole)


def thinned(count: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """Pulses for coincidences of which each asks for p ≥ 0 pulses: ⌊p⌋ for sure, and one more with probability p − ⌊p⌋.

        Binomial(count, p) where p ≤ 1

    Args:
        count: coincidences ≥ 0; where they are not whole (rates instead of bits) they are rounded at random first.
        p: pulses a coincidence asks for.
        generator: of the choice.
    """
    count = rounded(count.contiguous(), generator)
    sure = float(int(p))
    made = count * sure
    if (rest := p - sure) > 0.0:
        # Most cells have no coincidence at all.
        index = count.flatten().nonzero().squeeze(1)
        some = count.flatten()[index]
        drawn = torch.binomial(some, torch.full_like(some, rest), generator=generator)
        made.view(-1)[index] += drawn.clamp(min=torch.zeros_like(some), max=some)
    return made


def split(signed: Tensor) -> tuple[Tensor, Tensor]:
    """The parts of a signed step that go up and down, both ≥ 0."""
    return signed.clamp_min(0.0), (-signed).clamp_min(0.0)
