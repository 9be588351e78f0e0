"""Models of snnTorch, SpikingJelly and Norse on Fashion-MNIST: by their own BPTT; adopted, by frozen backpropagation and OPZO.

    python benchmarks/adopted.py --data DIR [--seeds 0,1,2] [--json FILE]

A 784-128-128-10 net of each library, T = 6 steps of a constant current, Adam at one rate for all, the same number of steps, the
whole test set. The library's own training is a plain loop without anything of ours. Before that, one batch is compared: the
output bit for bit, the gradients of the symmetric rule against the library's own.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aplysia
from aplysia.credit.contract import AbstractSpatial
from aplysia.data.mnist import FashionMnist
from aplysia.nets.noise import Noise
from aplysia.train.log import table

STEPS, BATCH, HIDDEN, RATE = 6, 100, 128, 1e-3
# The whole training set is 60,000; equal for all.
SAMPLES, EPOCHS = 20_000, 4

RULES: dict[str, Callable[[], AbstractSpatial] | None] = {
    "BPTT of the library": None,
    "fBP, copied every 100 steps": lambda: aplysia.rules.FrozenBackprop(interval=100),
    "OPZO": lambda: aplysia.rules.PseudoZerothOrder(noise=Noise(alpha=0.1)),
}


def snntorch() -> nn.Module:
    """Single steps, states by hand."""
    import snntorch as snn

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.lif1 = nn.Linear(784, HIDDEN), snn.Leaky(beta=0.5)
            self.fc2, self.lif2 = nn.Linear(HIDDEN, HIDDEN), snn.Leaky(beta=0.5)
            self.fc3 = nn.Linear(HIDDEN, 10)

        def forward(self, x: Tensor) -> Tensor:
            one, two = self.lif1.init_leaky(), self.lif2.init_leaky()
            outs = []
            for _ in range(STEPS):
                spikes, one = self.lif1(self.fc1(x), one)
                spikes, two = self.lif2(self.fc2(spikes), two)
                outs.append(self.fc3(spikes))
            return torch.stack(outs)

    return Model()


def spikingjelly() -> nn.Module:
    """Multi-step modules."""
    from spikingjelly.activation_based import functional, layer, neuron

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                layer.Linear(784, HIDDEN),
                neuron.LIFNode(tau=2.0, decay_input=False, detach_reset=True),
                layer.Linear(HIDDEN, HIDDEN),
                neuron.LIFNode(tau=2.0, decay_input=False, detach_reset=True),
                layer.Linear(HIDDEN, 10),
            )
            functional.set_step_mode(self.net, "m")

        def forward(self, x: Tensor) -> Tensor:
            functional.reset_net(self.net)
            return self.net(x.expand(STEPS, *x.shape))

    return Model()


def norse() -> nn.Module:
    """Cells, in Norse's own sequence."""
    import norse.torch as norse

    p = norse.LIFParameters(
        tau_syn_inv=torch.tensor(1000.0),
        tau_mem_inv=torch.tensor(500.0),
        v_th=torch.tensor(0.5),
        alpha=torch.tensor(20.0),
    )

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = norse.SequentialState(
                nn.Linear(784, HIDDEN),
                norse.LIFCell(p),
                nn.Linear(HIDDEN, HIDDEN),
                norse.LIFCell(p),
                nn.Linear(HIDDEN, 10),
            )

        def forward(self, x: Tensor) -> Tensor:
            outs, state = [], None
            for _ in range(STEPS):
                out, state = self.net(x, state)
                outs.append(out)
            return torch.stack(outs)

    return Model()


MODELS: dict[str, Callable[[], nn.Module]] = {"snnTorch": snntorch, "SpikingJelly": spikingjelly, "Norse": norse}


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the mean over time."""
    return F.cross_entropy(output.mean(0), target)


def fresh(library: str, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model and its optimiser."""
    torch.manual_seed(seed)
    model = MODELS[library]()
    return model, torch.optim.Adam(model.parameters(), lr=RATE)


def adopted(
    model: nn.Module, rule: AbstractSpatial, optimiser: torch.optim.Optimizer, example: tuple[Tensor, Tensor]
) -> Any:
    """A model under a rule."""
    return aplysia.adopt(model, rule, optimiser=optimiser, loss=loss, example=example)


def parity(library: str, example: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """One batch: is the output the same, and how far are the gradients of the symmetric rule from the library's own?"""
    x, y = example
    theirs, _ = fresh(library, 0)
    out = theirs(x)
    loss(out, y).backward()
    ours, optimiser = fresh(library, 0)
    record = adopted(ours, aplysia.rules.Symmetric(), optimiser, example).learn(x, y)
    gaps = [
        float((p.grad - q.grad).norm() / q.grad.norm())
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)
        if p.grad is not None and q.grad is not None
    ]
    return {"output equal": torch.equal(record.output, out.detach()), "gradients, largest relative gap": max(gaps)}


def train(
    library: str,
    rule: Callable[[], AbstractSpatial] | None,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    seed: int,
) -> float:
    """Test accuracy after the same number of steps."""
    model, optimiser = fresh(library, seed)
    x, y = train
    learner = None if rule is None else adopted(model, rule(), optimiser, (x[:BATCH], y[:BATCH]))
    order = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(x), generator=order).split(BATCH):
            if learner is not None:
                learner.update(x[rows], y[rows])
                continue
            optimiser.zero_grad()
            loss(model(x[rows]), y[rows]).backward()
            optimiser.step()
    if learner is not None:
        model = learner.release()
    with torch.no_grad():
        right = sum(
            int((model(a).mean(0).argmax(1) == b).sum())
            for a, b in zip(test[0].split(1000), test[1].split(1000), strict=True)
        )
    return right / len(test[1])


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--data", type=Path, required=True)
    words.add_argument("--seeds", default="0,1,2")
    words.add_argument("--only", choices=list(MODELS))
    words.add_argument("--json", type=Path)
    given = words.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    bundle = FashionMnist().load(given.data, download=False)
    parts = [(split.inputs.flatten(1).float() * bundle.scale, split.labels) for split in (bundle.train, bundle.test)]
    picked = torch.randperm(len(parts[0][1]), generator=torch.Generator().manual_seed(0))[:SAMPLES]
    training, test = (parts[0][0][picked], parts[0][1][picked]), parts[1]
    seeds = [int(text) for text in given.seeds.split(",")]
    libraries = [given.only] if given.only else list(MODELS)
    stored: dict[str, Any] = {
        "net": f"784-{HIDDEN}-{HIDDEN}-10",
        "steps": STEPS,
        "batch": BATCH,
        "optimiser": f"Adam, {RATE:g}",
        "updates": EPOCHS * SAMPLES // BATCH,
        "samples": SAMPLES,
        "seeds": seeds,
        "torch": torch.__version__,
        "libraries": {},
    }
    for library in libraries:
        found: dict[str, Any] = {"parity": parity(library, (training[0][:BATCH], training[1][:BATCH])), "accuracy": {}}
        stored["libraries"][library] = found
        for name, rule in RULES.items():
            found["accuracy"][name] = []
            for seed in seeds:
                found["accuracy"][name].append(train(library, rule, training, test, seed))
                print(f"{library}, {name}, seed {seed}: {found['accuracy'][name][-1]:.2%}", flush=True)
    rows = []
    for library, found in stored["libraries"].items():
        own = statistics.mean(found["accuracy"]["BPTT of the library"])
        for name, values in found["accuracy"].items():
            spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
            mean = statistics.mean(values)
            rows.append([library, name, f"{100 * mean:.2f}{spread}", f"{100 * (mean - own):+.2f}"])
        print(f"{library}: {found['parity']}")
    table(
        rows,
        ["library", "learnt by", "test accuracy %", "to its BPTT, pp"],
        f"Fashion-MNIST, {stored['updates']} updates",
    )
    if given.json is not None:
        given.json.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
