"""Train a net on the shipped digits, take it away as a file of NIR, read the file again, and compare spike by spike.

    python examples/deploy_nir.py [FOLDER]

Needs the package nir: pip install 'aplysia[nir]'. Takes a few seconds.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

import aplysia
from aplysia.exchange.conventions import DIALECTS
from aplysia.exchange.nir_write import to_nir, write
from aplysia.ops.scan import HardReset
from aplysia.recipes import find
from aplysia.train.folder import RunFolder
from aplysia.train.run import Run


def main(folder: Path) -> None:
    # NIR's neurons reset to a value, so the net is trained with such a reset.
    recipe = replace(
        find("digits-mlp"), neuron=aplysia.LIF(reset=HardReset()), rule=aplysia.rules.DirectFeedback(), epochs=6
    )
    Run(recipe, RunFolder.create(folder / "run", resume=False), torch.device("cpu")).execute()

    run = aplysia.load(folder / "run")
    test = recipe.data.load(folder, steps=recipe.steps).test
    x, labels = run.input(test.inputs), test.labels
    with torch.no_grad():
        here = run.net(x)

    # One file for each reader: they differ in what they take a threshold, a resistance and a pool to be.
    for library, reader in DIALECTS.items():
        file = folder / f"{library}.nir"
        write(file, to_nir(run.net, steps=recipe.steps, reader=reader))
        back = aplysia.from_nir(file)
        with torch.no_grad():
            there = back.net(x)
        for layer, a, b in zip(run.net.hidden, here.outs, there.outs, strict=False):
            assert torch.equal(a, b)
            print(f"{file.name}: {layer.name} {int(b.sum()):,} spikes, every one in its place")
        accuracy = float((there.outs[-1].mean(0).argmax(1) == labels).double().mean())
        print(f"{file.name}: dt {back.dt:g} s, T = {back.steps}, test accuracy {accuracy:.2%}")
    print((folder / "run" / "model_card.md").read_text().split("\n## ")[0])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
