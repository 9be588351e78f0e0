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


@dataclass(frozen=True, kw_only=True)
class Link:
    """A lossy, late or coarse link.

    Feedback weights of few bits are q·s with whole q, |q| ≤ 2^(bits−1) − 1, and a scale s common to a layer, at which the
    largest forward weight is the last level. With one bit they are ±s, s = mean |w|. The other side stores q, and one s, which
    is sent along with every message, at full width, and never lost: after a partial copy the words that did not take part are
    read at the new scale, for nobody could round them anew without writing them all.

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
        made = {name: feedback}
        if self.bits is not None:
            scale = self._scale(flat)
            made[f"codes/{name}"] = self._codes(flat, scale)
            made[name] = (made[f"codes/{name}"] * scale).view_as(feedback)
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
        scale = None if self.bits is None else self._scale(weight)
        values = values if scale is None else self._codes(values, scale)
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
            held = _held(name, state)
            _put(held, index, values)
            if scale is not None:
                torch.mul(held, scale, out=state[name].view(-1))
        return Cost(
            words=selection.words,
            bits=selection.words * (self.bits or _width(weight)) + (_width(weight) if self.bits else 0),
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
            held = _held(name, state)
            held.copy_(torch.where(state[f"taken/{name}"][slot], state[f"flight/{name}"][slot], held))
            if self.bits is not None:
                torch.mul(held, state[f"flight_scale/{name}"][slot], out=state[name].view(-1))
            cost += Cost(writes=int(state[f"arriving/{name}"][slot]))
        return cost

    def _scale(self, weight: Tensor) -> Tensor:
        """s for a layer with these weights, 0-dim."""
        size = weight.abs()
        return (size.mean() if self.bits == 1 else size.amax() / self._top).clamp(min=torch.finfo(weight.dtype).tiny)

    def _codes(self, values: Tensor, scale: Tensor) -> Tensor:
        """q of each value: whole numbers, in the weights' own type."""
        if self.bits == 1:
            return torch.where(values < 0, -1.0, 1.0).to(values.dtype)
        return (values / scale).round_().clamp_(-self._top, self._top)

    @property
    def _top(self) -> int:
        assert self.bits is not None
        return 2 ** (self.bits - 1) - 1


def _held(name: str, state: State) -> Tensor:
    """What the other side stores of each weight, flat: the weight itself, or its q."""
    return state.get(f"codes/{name}", state[name]).view(-1)


def _width(weight: Tensor) -> int:
    return torch.finfo(weight.dtype).bits


def _put(target: Tensor, index: Tensor | None, values: Tensor) -> None:
    if index is None:
        target.copy_(values)
    else:
        target[index] = values
