"""The link between the forward and the feedback side: what becomes of the words that are sent.

Nothing of this is known of the paper. A perfect link is the default; the rest is for robustness curves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aplysia.credit.change import Selection
from aplysia.credit.transport import Draw, Sender, State
from aplysia.errors import RecipeError
from aplysia.types import Cost

# Bits of the exponent of a layer's common scale, sent along with every message of quantised words.
SCALE_BITS = 8


@dataclass(frozen=True, kw_only=True)
class Link:
    """A lossy, late or coarse link.

    Feedback weights of few bits are whole multiples q·s, |q| ≤ 2^(bits−1) − 1, of a scale s common to a layer: the smallest
    power of two that reaches the largest forward weight. With one bit they are ±s, s the power of two nearest to the mean
    |w|. The scale is sent along with every message and is never lost; what the other side holds is rounded to the new levels.

    Attributes:
        drop: probability in [0, 1) that a word is lost, each on its own; it is counted as sent and not as written, and the
            forward side does not know.
        latency: steps between the copy and the write, ≥ 0. 0: the error of the very next step uses the copy. What is under
            way is kept as one image of the layer for each copy.
        bits: width of a feedback weight, 1 to 24; None: full precision. The feedback starts that coarse, too.

    Raises:
        RecipeError: a value out of its range.
    """

    drop: float = 0.0
    latency: int = 0
    bits: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.drop < 1.0:
            raise RecipeError("rule.link.drop", expected="a probability in [0, 1)", got=repr(self.drop), fix="use 0.1")
        if self.latency < 0:
            raise RecipeError(
                "rule.link.latency", expected="a number of steps ≥ 0", got=repr(self.latency), fix="use 0"
            )
        if self.bits is not None and not 1 <= self.bits <= 24:
            raise RecipeError(
                "rule.link.bits",
                expected="1 to 24 bits, or none for full precision",
                got=repr(self.bits),
                fix="use 8",
            )

    @property
    def transparent(self) -> bool:
        """Whether the other side holds exactly what was sent, as soon as it was sent."""
        return self.drop == 0.0 and self.latency == 0 and self.bits is None

    def state(self, name: str, feedback: Tensor, flights: int) -> State:
        """What the other side starts with, and room for `flights` messages under way."""
        flat = feedback.flatten()
        made = {name: self.coarse(flat, self.scale(flat)).view_as(feedback)}
        if self.latency and flights:
            made[f"flight/{name}"] = flat.new_zeros(flights, len(flat))
            made[f"taken/{name}"] = torch.zeros(flights, len(flat), dtype=torch.bool, device=flat.device)
            made[f"flight_scale/{name}"] = flat.new_zeros(flights)
            made[f"arrival/{name}"] = torch.zeros(flights, dtype=torch.int64)
            made[f"arriving/{name}"] = torch.zeros(flights, dtype=torch.int64)
        return made

    def send(self, sender: Sender, selection: Selection, done: int, state: State, draw: Draw) -> Cost:
        """Send what was selected of a layer once `done` steps are done.

        Args:
            draw: the generator that decides which words are lost.
        """
        if selection.words == 0:
            return Cost(address_bits=selection.address_bits, random_numbers=selection.drawn)
        name, weight, index = sender.name, sender.weight, selection.index
        values = weight if index is None else weight[index]
        if f"sent/{name}" in state:
            _put(state[f"sent/{name}"].view(-1), index, values)
        scale = self.scale(weight)
        values = self.coarse(values, scale)
        if self.drop:
            # Drawn on the CPU: the same words are lost on every device, and nobody has to wait for their number.
            kept = (
                (torch.rand(selection.words, generator=draw(name)) >= self.drop).nonzero().flatten().to(weight.device)
            )
            index, values = kept if index is None else index[kept], values[kept]
        if self.latency:
            slot = int((state[f"arrival/{name}"] <= done).nonzero()[0])
            state[f"taken/{name}"][slot].zero_()[slice(None) if index is None else index] = True
            _put(state[f"flight/{name}"][slot], index, values)
            state[f"arrival/{name}"][slot] = done + self.latency
            state[f"arriving/{name}"][slot] = len(values)
            if scale is not None:
                state[f"flight_scale/{name}"][slot] = scale
        else:
            held = state[name].view(-1)
            if scale is not None:
                held.copy_(self.coarse(held, scale))
            _put(held, index, values)
        return Cost(
            words=selection.words,
            bits=selection.words * self.word_bits(weight) + (SCALE_BITS if self.bits else 0),
            address_bits=selection.address_bits,
            writes=0 if self.latency else len(values),
            random_numbers=selection.drawn,
        )

    def arrive(self, name: str, done: int, state: State) -> Cost:
        """Write what was sent `latency` steps ago."""
        if f"arrival/{name}" not in state:
            return Cost()
        cost = Cost()
        for slot in (state[f"arrival/{name}"] == done).nonzero().flatten().tolist():
            held = state[name].view(-1)
            if self.bits is not None:
                held.copy_(self.coarse(held, state[f"flight_scale/{name}"][slot]))
            held.copy_(torch.where(state[f"taken/{name}"][slot], state[f"flight/{name}"][slot], held))
            cost += Cost(writes=int(state[f"arriving/{name}"][slot]))
        return cost

    def word_bits(self, weight: Tensor) -> int:
        """Bits of one word."""
        return self.bits or torch.finfo(weight.dtype).bits

    def scale(self, weight: Tensor) -> Tensor | None:
        """s of a layer with these weights, 0-dim; None: full precision."""
        if self.bits is None:
            return None
        size = weight.abs()
        reach = size.mean() * 2.0**0.5 if self.bits == 1 else size.amax() / self._top
        mantissa, exponent = torch.frexp(reach.clamp(min=1e-30))
        # Of reach = m·2^e, ½ ≤ m < 1: up to the next power of two for the largest, to the nearest for the mean.
        exponent = exponent - 1 if self.bits == 1 else exponent - (mantissa == 0.5).to(exponent.dtype)
        return torch.ldexp(torch.ones_like(reach), exponent)

    def coarse(self, values: Tensor, scale: Tensor | None) -> Tensor:
        """Values on the levels of a scale; the same values for None."""
        if scale is None:
            return values
        if self.bits == 1:
            return torch.where(values < 0, -scale, scale)
        return (values / scale).round().clamp(-self._top, self._top) * scale

    @property
    def _top(self) -> int:
        assert self.bits is not None
        return 2 ** (self.bits - 1) - 1


def _put(target: Tensor, index: Tensor | None, values: Tensor) -> None:
    if index is None:
        target.copy_(values)
    else:
        target[index] = values
