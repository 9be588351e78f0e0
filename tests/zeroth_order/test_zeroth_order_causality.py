"""Online means: what a step contributes is settled at that step, and memory does not grow with the number of steps."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import DENSE, assert_alive, gradients
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from zeroth_order_parts import opzo

from aplysia.credit.contract import AbstractSpatial
from aplysia.credit.local import Readouts, Similarity
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.direct_feedback import DirectFeedback
from aplysia.credit.spatial.direct_kolen_pollack import DirectKolenPollack
from aplysia.credit.spatial.forward_gradient import ForwardGradient
from aplysia.credit.spatial.local_loss import LocalLoss
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.spatial.zeroth_order import NoBaseline, OthersBaseline, RunningBaseline, ZerothOrder
from aplysia.credit.temporal.online import EveryStep
from aplysia.credit.temporal.trace import Trace
from aplysia.credit.temporal.traceless import Traceless
from aplysia.nets.noise import Comparator, Membrane, Noise
from aplysia.types import Held

LOSS = StepwiseLoss(mse_share=0.3)
STEPS = 7
NOISY = Noise(alpha=0.2)
RULES: dict[str, Callable[[], AbstractSpatial]] = {
    "backpropagation": lambda: Symmetric(noise=NOISY),
    "direct feedback": lambda: DirectFeedback(noise=NOISY),
    "opzo": lambda: opzo(0.9, alpha=0.2),
    "opzo by sequence": PseudoZerothOrder,
    "opzo, noise in the membrane": lambda: opzo(0.9, alpha=0.2, site=Membrane()),
    "opzo, noise at the comparator": lambda: opzo(0.9, alpha=0.2, site=Comparator()),
    "opzo, clean traces": lambda: opzo(0.9, alpha=0.2, traced=False),
    "opzo and an intermediate classifier": lambda: PseudoZerothOrder(intermediate=("dense1",)),
    "opzo and local readouts": lambda: PseudoZerothOrder(local=Readouts()),
    "zeroth order": lambda: ZerothOrder(baseline=OthersBaseline()),
    "zeroth order, running baseline": lambda: ZerothOrder(baseline=RunningBaseline()),
    "zeroth order, no baseline": lambda: ZerothOrder(baseline=NoBaseline()),
    "forward gradient": ForwardGradient,
    "direct kolen-pollack": DirectKolenPollack,
    "local loss": LocalLoss,
    "similarity": lambda: LocalLoss(local=Similarity()),
}
each_of_them = pytest.mark.parametrize("make", list(RULES.values()), ids=list(RULES))


def by_step(make: Callable[[], AbstractSpatial], scheme: Any, x: Tensor, target: Tensor) -> list[dict[str, Tensor]]:
    """What each step contributes to the gradients, and the rule's tensors and theirs after it; weights stay as they are."""
    net = DENSE.net()
    assert_alive(net, x)
    rule = make()
    rule.attach(net, seed=1)
    rule.begin(1)
    made: list[dict[str, Tensor]] = []

    def look() -> None:
        found = gradients(net) | {f"rule {name}": tensor.detach().clone() for name, tensor in rule.tensors.items()}
        for name, tensor in rule.tensors.items():
            if tensor.grad is not None:
                found[f"gradient of rule {name}"] = tensor.grad.clone()
                tensor.grad = None
        made.append(found)
        net.zero_grad(set_to_none=True)

    scheme.learn(net, x, target, LOSS, rule, apply=look)
    look()
    return made


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name].nan_to_num(), other[name].nan_to_num()) for name in one)


@each_of_them
@pytest.mark.parametrize("kind", [Trace, Traceless])
def test_a_later_input_changes_no_earlier_contribution(
    make: Callable[[], AbstractSpatial], kind: type[Trace] | type[Traceless]
) -> None:
    """Another input from step t + 1 on: contributions and feedback of steps 0 … t stay, bit for bit; t + 1's do not."""
    x, target = DENSE.input(STEPS)
    assert isinstance(x, Tensor)
    scheme = kind(update=EveryStep())
    before = by_step(make, scheme, x, target)
    assert len(before) == STEPS
    for t in (0, 2, STEPS - 2):
        changed = x.clone()
        changed[t + 1 :] = DENSE.input(STEPS, seed=9)[0][t + 1 :]  # type: ignore[index]
        after = by_step(make, scheme, changed, target)
        for earlier in range(t + 1):
            assert same(before[earlier], after[earlier]), f"step {earlier} knew of step {t + 1}"
        assert not same(before[t + 1], after[t + 1])


class _Live(TorchDispatchMode):
    """The most bytes of tensors made under it that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if not isinstance(tensor, Tensor):
                continue
            storage = tensor.untyped_storage()
            key, size = storage.data_ptr(), storage.nbytes()
            if key and key not in self._known:
                self._known.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, key, size)
        return out


@each_of_them
def test_memory_is_flat_in_the_number_of_steps(make: Callable[[], AbstractSpatial]) -> None:
    """Three times the steps, and not one byte more at once: noise is drawn again, never kept."""
    peaks = []
    for steps in (12, 36):
        net = DENSE.net()
        rule = make()
        rule.attach(net, seed=1)
        x, target = DENSE.input(1, 32)
        assert isinstance(x, Tensor)
        for step in (0, 1):
            rule.begin(step)
            net.zero_grad(set_to_none=True)
            with _Live() as live:
                Trace(chunk=4).learn(net, Held(x[0], steps), target, LOSS, rule)
        peaks.append(live.peak)
    assert peaks[0] > 4 * 32 * (14 + 12) * 8
    assert peaks[1] == peaks[0]
