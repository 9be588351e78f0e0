"""Processes that train one net together: each learns from its own part of every batch, and all make the same step.

    gradient = Σ_r (b_r/B)·gradient_r        for process r with b_r of the B samples of a batch

Whatever is a mean over a batch (gradients, feedback that is learnt from it, baselines) is averaged in this way, explicitly and
by whoever owns it, since most rules have no single backward pass that could be hooked. Weights, optimiser and feedback are then
the same everywhere, and nothing but means need ever be sent. A process that got no sample of a short last batch runs one of
weight 0, so that it meets the others in every exchange.

    with ranks.join(device) as team:      # as `torchrun` started it
        learner.learn(x, y); learner.average_gradients(); optimiser.step(); learner.after()

Random numbers of one process are not those of another; so a rule that lives on noise learns from as many different draws as one
process would, though not from the same ones.
"""

from __future__ import annotations

import datetime
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from aplysia.errors import RunError

_Any = TypeVar("_Any")


@dataclass
class Ranks:
    """One of the processes that train together; by itself unless `join` was called.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: where tensors must lie to be exchanged.
        whole: samples of the batch under way, in all processes.
        own: those of this one.
        run: samples it runs, which is 1 where it has none.
        store: where processes leave messages for each other; torchrun's outlives them.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None
    whole: int = 0
    own: int = 0
    run: int = 0
    store: Any = field(default=None, repr=False)

    @property
    def main(self) -> bool:
        """Whether it is the one that writes files and speaks."""
        return self.rank == 0

    @property
    def keys(self) -> tuple[str, ...]:
        """What makes its random numbers others than those of the other processes; nothing where there are no others."""
        return (f"rank {self.rank}",) if self.size > 1 else ()

    @property
    def share(self) -> float:
        """b_r/B; equal parts unless `begin` was told otherwise."""
        return self.own / self.whole if self.whole else 1.0 / self.size

    def bounds(self, count: int) -> tuple[int, int]:
        """Where its part of `count` samples begins and ends."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def begin(self, count: int) -> None:
        """A batch of `count` samples in all begins."""
        start, end = self.bounds(count)
        self.whole, self.own, self.run = count, end - start, max(1, end - start)

    def average(self, tensor: Tensor) -> Tensor:
        """The mean over all samples of what is the mean over its own samples here; the tensor itself where it is alone."""
        return tensor if self.size == 1 else self._summed(tensor * self.share)

    def average_gradients(self, tensors: Sequence[Tensor]) -> None:
        """The same for the gradients of these tensors, in place and in one exchange per type."""
        if self.size == 1:
            return
        gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
        for dtype in sorted({gradient.dtype for gradient in gradients}, key=str):
            group = [gradient for gradient in gradients if gradient.dtype == dtype]
            joined = self._summed(torch.cat([gradient.flatten() for gradient in group]) * self.share)
            for gradient, part in zip(group, joined.split([g.numel() for g in group]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all samples of a batch of what is a sum over its own samples here."""
        return self.joined(tensor if self.own or not self.whole else torch.zeros_like(tensor))

    def joined(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, whatever batch they are in."""
        return tensor if self.size == 1 else self._summed(tensor.clone())

    def count(self, number: int) -> int:
        """What `number`, proportional to the samples run here, is for the whole batch."""
        return number if self.size == 1 or not self.whole else number * self.whole // self.run

    def silent_everywhere(self, silent: Tensor) -> Tensor:
        """Where a mask holds in every process that has samples."""
        if self.size == 1:
            return silent
        return self.total((~silent).to(torch.int32)) == 0

    def agree(self, *wishes: bool) -> tuple[bool, ...]:
        """Which of these at least one process wishes; all get the same answer."""
        if self.size == 1:
            return wishes
        counted = self._summed(torch.tensor([int(wish) for wish in wishes], device=self.device))
        return tuple(number > 0 for number in counted.tolist())

    def tell(self, something: _Any) -> _Any:
        """What the first process has, in all of them: any object that can be pickled."""
        if self.size == 1:
            return something
        held: list[Any] = [something]
        torch.distributed.broadcast_object_list(held, src=0, device=self.device)
        return held[0]

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """What the first process does before all others: downloads, caches."""
        if not self.main:
            self.agree(False)
        yield
        if self.main:
            self.agree(False)

    def remember(self, what: str) -> None:
        """Leave a note for those that will be started in place of these processes."""
        if self.store is not None:
            self.store.set(f"aplysia/note/{what}", "")

    def remembers(self, what: str) -> bool:
        """Whether these processes, or those in whose place they were started, have left this note."""
        return self.store is not None and self.store.check([f"aplysia/note/{what}"])

    def _summed(self, tensor: Tensor) -> Tensor:
        try:
            torch.distributed.all_reduce(tensor)
        except RuntimeError as problem:
            raise RunError(
                f"process {self.rank} of {self.size}",
                expected="the other processes to go on",
                got=str(problem).splitlines()[0],
                fix="see what the one that ended first has said; torchrun --max-restarts goes on from the last checkpoint",
            ) from problem
        return tensor


_present = Ranks()


def present() -> Ranks:
    """The process as it is now."""
    return _present


@contextmanager
def alone() -> Iterator[None]:
    """Inside, this process knows of no others: for measurements that only one of them makes."""
    with _as(Ranks()):
        yield


def launched() -> bool:
    """Whether this process was started together with others, by `torchrun` or in its manner."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_device(device: torch.device) -> torch.device:
    """The device of this process where each has a GPU of its own."""
    if device.type == "cuda" and device.index is None and launched():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


@contextmanager
def join(device: torch.device | str = "cpu", *, timeout: float = 1800.0) -> Iterator[Ranks]:
    """Meet the processes that were started together (`torchrun`), and train with them inside.

    Args:
        device: of this process; NCCL between GPUs, Gloo between CPUs.
        timeout: seconds after which a process that does not come is given up.

    Raises:
        RunError: they cannot be met.
    """
    device = local_device(torch.device(device))
    if not launched():
        yield _present
        return
    from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]

    if device.type == "cuda":
        torch.cuda.set_device(device)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        store = _store(rank, datetime.timedelta(seconds=timeout))
        torch.distributed.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore(_meet(store, rank, size, timeout), store),
            rank=rank,
            world_size=size,
            timeout=datetime.timedelta(seconds=timeout),
        )
    except (RuntimeError, ValueError, KeyError) as problem:
        raise RunError(
            "WORLD_SIZE",
            expected="processes that find each other, as torchrun starts them",
            got=str(problem).splitlines()[0],
            fix="start by torchrun, or unset WORLD_SIZE to train in one process",
        ) from problem
    made = Ranks(rank, size, device, store=store)
    with _as(made):
        yield made
    # Not after an error: another process is gone then, and taking leave of it would take until the timeout.
    torch.distributed.destroy_process_group()


def _store(rank: int, timeout: datetime.timedelta) -> Any:
    """Where processes leave messages for each other; torchrun itself holds it, where that started them."""
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    held = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, is_master=rank == 0 and not held, timeout=timeout, multi_tenant=True)


def _meet(store: Any, rank: int, size: int, timeout: float) -> str:
    """A name that the processes of this start share, and those of an earlier one do not know.

    torchrun keeps its store over restarts, and what dead processes have left there would be taken for the addresses of living
    ones. Its count of restarts does not help, since each machine has its own. So every process says hello under a new name
    until the first one, which is new too, has welcomed it.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"aplysia/hello/{rank}", own)
        shared = store.get(f"aplysia/welcome/{own}").decode()
        store.set(f"aplysia/here/{shared}/{rank}", "")
        return shared
    waiting, deadline = set(range(1, size)), time.monotonic() + timeout
    while waiting:
        for other in sorted(waiting):
            if store.check([f"aplysia/here/{own}/{other}"]):
                waiting.remove(other)
            elif store.check([f"aplysia/hello/{other}"]):
                store.set(f"aplysia/welcome/{store.get(f'aplysia/hello/{other}').decode()}", own)
        if time.monotonic() > deadline:
            raise RuntimeError(f"no sign of process {min(waiting)} of {size}")
        time.sleep(0.01)
    return own


@contextmanager
def _as(ranks: Ranks) -> Iterator[None]:
    global _present
    before, _present = _present, ranks
    try:
        yield
    finally:
        _present = before
