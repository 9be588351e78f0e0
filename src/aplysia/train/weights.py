"""Forward weights from another run."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from aplysia.errors import RunError
from aplysia.nets.net import Net
from aplysia.train.folder import MODEL


def load_weights(net: Net, path: Path) -> None:
    """Put the weights of a finished run into a net of the same shape.

    Args:
        path: a run folder, or its `model.safetensors`.

    Raises:
        RunError: no such file, no weights in it, or weights of another net.
    """
    file = path / MODEL if path.is_dir() else path
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as problem:
        raise RunError(
            f"weights {file}",
            expected="the model.safetensors of a finished run",
            got="no such file" if not file.exists() else str(problem).splitlines()[0],
            fix="set weights to the folder of a run that is finished, or to none",
        ) from problem
    fill(net, tensors, file)


def fill(net: Net, tensors: dict[str, Tensor], file: Path) -> None:
    """Put tensors into a net.

    Raises:
        RunError: they are not those of such a net.
    """
    own = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if own != given:
        odd = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        first = odd[0]
        raise RunError(
            f"weights {file}",
            expected=f"{first} {own.get(first, 'not at all')}",
            got=f"{given.get(first, 'none')}" + (f", and {len(odd) - 1} more that differ" if len(odd) > 1 else ""),
            fix="use the net, bias, standardise and centre of the run the weights come from",
        )
    net.load_state_dict(tensors)
