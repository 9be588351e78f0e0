"""The same small net in four libraries, as their users write it, and plain backpropagation through it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aplysia
from aplysia.credit.contract import AbstractSpatial

STEPS, BATCH, INPUTS, CLASSES = 5, 12, 20, 4


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Libraries that print, log and warn while they are imported and used."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def cross_entropy(out: Tensor, target: Tensor) -> Tensor:
    """Of the mean over time, `[T, B, C]`."""
    return F.cross_entropy(out.mean(0), target)


class Torch(nn.Module):
    """A plain net with a spike of its own, two hidden layers, time by hand."""

    sites = ("spike1", "spike2")

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.spike1 = nn.Linear(INPUTS, 24), Fire()
        self.fc2, self.spike2 = nn.Linear(24, 16), Fire()
        self.fc3 = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        v1 = v2 = torch.zeros(())
        outs = []
        for step in x:
            v1 = 0.5 * v1 + self.fc1(step)
            s1 = self.spike1(v1)
            v1 = v1 - s1.detach() * 0.3
            v2 = 0.5 * v2 + self.fc2(s1)
            s2 = self.spike2(v2)
            v2 = v2 - s2.detach() * 0.3
            outs.append(self.fc3(s2))
        return torch.stack(outs)


class Fire(nn.Module):
    """A step with the derivative of a sigmoid."""

    def forward(self, v: Tensor) -> Tensor:
        soft = torch.sigmoid(4.0 * (v - 0.3))
        return (v > 0.3).to(v.dtype).detach() + soft - soft.detach()


def snntorch() -> nn.Module:
    """As its tutorials write it: states passed by hand."""
    with quiet():
        import snntorch as snn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(INPUTS, 24), snn.Leaky(beta=0.6, threshold=0.3)
            self.fc2, self.lif2 = nn.Linear(24, 16), snn.Leaky(beta=0.6, threshold=0.3, learn_beta=True)
            self.fc3, self.lif3 = nn.Linear(16, CLASSES), snn.Leaky(beta=0.9, reset_mechanism="none")

        def forward(self, x: Tensor) -> Tensor:
            m1, m2, m3 = self.lif1.init_leaky(), self.lif2.init_leaky(), self.lif3.init_leaky()
            outs = []
            for step in x:
                s1, m1 = self.lif1(self.fc1(step), m1)
                s2, m2 = self.lif2(self.fc2(s1), m2)
                _, m3 = self.lif3(self.fc3(s2), m3)
                outs.append(m3)
            return torch.stack(outs)

    return Model()


def _spikingjelly(mode: str) -> nn.Module:
    with quiet():
        from spikingjelly.activation_based import functional, layer, neuron

        net = nn.Sequential(
            layer.Linear(INPUTS, 24),
            neuron.LIFNode(tau=2.0, v_threshold=0.1),
            layer.Linear(24, 16),
            neuron.ParametricLIFNode(v_threshold=0.1),
            layer.Linear(16, CLASSES),
        )
        functional.set_step_mode(net, mode)
    return net


def spikingjelly_steps() -> nn.Module:
    """Single-step modules."""
    return _spikingjelly("s")


def spikingjelly_sequence() -> nn.Module:
    """Multi-step modules."""
    return _spikingjelly("m")


def _norse(cells: bool) -> nn.Module:
    with quiet():
        import norse.torch as norse

        p = norse.LIFParameters(v_th=torch.tensor(0.05), tau_mem_inv=torch.tensor(300.0))
        lif = (lambda: norse.LIFCell(p)) if cells else (lambda: norse.LIF(p))
        return norse.SequentialState(
            nn.Linear(INPUTS, 24),
            lif(),
            nn.Linear(24, 16),
            lif(),
            nn.Linear(16, CLASSES),
            norse.LICell() if cells else norse.LI(),
        )


def norse_steps() -> nn.Module:
    """Cells."""
    return _norse(cells=True)


def norse_sequence() -> nn.Module:
    """Modules that take whole sequences."""
    return _norse(cells=False)


def run(model: nn.Module, x: Tensor) -> Tensor:
    """Each library's loop over time: `[T, B, M]` to `[T, B, C]`, from fresh states."""
    kind = type(model).__module__ + type(model).__name__
    if isinstance(model, nn.Sequential) and "norse" not in kind:
        with quiet():
            from spikingjelly.activation_based import functional
        functional.reset_net(model)
        return functional.multi_step_forward(x, model) if model[0].step_mode == "s" else model(x)
    if "norse" in kind:
        if "Cell" in type(model[1]).__name__:
            outs, state = [], None
            for step in x:
                out, state = model(step, state)
                outs.append(out)
            return torch.stack(outs)
        return model(x)[0]
    return model(x)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "torch": Torch,
    "snntorch": snntorch,
    "spikingjelly, steps": spikingjelly_steps,
    "spikingjelly, sequence": spikingjelly_sequence,
    "norse, steps": norse_steps,
    "norse, sequence": norse_sequence,
}


def model_of(name: str, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    with quiet():
        return MODELS[name]()


def sites_of(model: nn.Module) -> tuple[str, ...]:
    """What has to be named; nothing where the library is known."""
    return getattr(model, "sites", ())


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    x = (torch.rand(STEPS, BATCH, INPUTS, generator=source) < 0.5).float()
    return x, torch.randint(0, CLASSES, (BATCH,), generator=source)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def plain(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output and gradients of plain backpropagation through time."""
    model.zero_grad(set_to_none=True)
    out = run(model, x)
    cross_entropy(out, y).backward()
    found = gradients(model)
    model.zero_grad(set_to_none=True)
    return out.detach(), found


def spiking_rates(model: nn.Module, x: Tensor, names: tuple[str, ...]) -> list[float]:
    """Mean output of the named modules, read by hooks of our own here."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    handles = []
    for name, module in model.named_modules():
        if name in names:

            def hook(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
                seen[name].append((output[0] if isinstance(output, tuple) else output).detach())

            handles.append(module.register_forward_hook(hook))
    with torch.no_grad():
        run(model, x)
    for handle in handles:
        handle.remove()
    return [float(torch.stack([o.mean() for o in outs]).mean()) for outs in seen.values()]


def hidden_names(model: nn.Module) -> tuple[str, ...]:
    """The two hidden spiking modules."""
    if isinstance(model, Torch):
        return model.sites
    return ("1", "3") if isinstance(model, nn.Sequential) else ("lif1", "lif2")


each_model = pytest.mark.parametrize("name", MODELS)


def adopted(model: nn.Module, rule: AbstractSpatial, lr: float = 0.1, **options: Any) -> Any:
    """A model under a rule, with plain gradient descent."""
    optimiser = torch.optim.SGD(model.parameters(), lr=lr)
    options.setdefault("at", sites_of(model))
    return aplysia.adopt(model, rule, optimiser=optimiser, loss=cross_entropy, example=batch(), forward=run, **options)
