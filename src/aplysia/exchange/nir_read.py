"""From a graph of NIR to a net of ours: `aplysia.from_nir`.

    Input → [pools] → [Flatten] → Conv2d | Affine | Linear → [LIF | IF | LI | I] → … → Output

A chain of these nodes is read, whoever wrote it; `aplysia.exchange.conventions` has the equations. A scale of the input other
than 1, k = (dt/τ)·R or dt·R, is taken off the membrane: θ/k and ρ/k, the weights staying as they are. SumPool2d is an average
and weights times k², or a maximum where a neuron without memory and with a threshold below one spike stands behind it.
Everything that cannot be read is named in one sentence.

NIR says nothing of the first membrane (0 here), of T, of dt, or of the writer's habits, so these can be told.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aplysia.errors import RunError
from aplysia.exchange.conventions import AbstractDialect, dialect
from aplysia.exchange.nir_neuron import NeuronReader
from aplysia.exchange.nir_nodes import Reading, Refused
from aplysia.exchange.nir_write import FORMAT
from aplysia.exchange.package import nir_package
from aplysia.nets.net import Net
from aplysia.ops.scan import AbstractReset


@dataclass(frozen=True)
class Imported:
    """What a file of NIR says.

    Attributes:
        net: ready to run, in evaluation mode.
        dt: seconds per step.
        steps: T; None where the file does not say.
        about: what our own writer kept beside it, such as how images were scaled; empty for other writers.
    """

    net: Net
    dt: float
    steps: int | None = None
    about: dict[str, Any] = field(default_factory=dict)


def from_nir(
    source: Path | str | Any,
    *,
    dt: float | None = None,
    steps: int | None = None,
    writer: str | None = None,
    reset: AbstractReset | None = None,
) -> Imported:
    """Read a file of NIR, or a graph.

    Args:
        source: a file, or a `nir.NIRGraph`.
        dt: seconds per step; what the file says, else the writer's usual one.
        steps: T; what the file says, if anything.
        writer: `nir` (the equations as they stand), `snntorch`, `spikingjelly` or `norse`, whose habits differ; what the file
            says, else `nir`.
        reset: in place of the hard reset that NIR's equations have, for writers that drop a soft one:
            `SoftReset(amount=θ/λ)` is snnTorch's default.

    Returns:
        the net with dt and T.

    Raises:
        RunError: no such file, damage, a node or parameter that has no counterpart here, a dt that nobody says.
    """
    graph, where = _graph(source)
    about = _notes(graph, where)
    if about.get("kind") == "first-spike":
        raise RunError(
            where,
            expected="a stepped net",
            got="the stepwise equivalent of a first-spike net",
            fix="run the graph by aplysia.exchange.stepper, or load the run it came from by aplysia.load",
        )
    speaks: AbstractDialect = dialect(writer or about.get("for", "nir"))
    step = dt or about.get("dt") or (None if speaks.name == "nir" else speaks.dt)
    if step is None:
        raise RunError(
            where,
            expected="dt, the seconds of a step, since NIR's time constants are in seconds",
            got="a file that does not say",
            fix="pass dt=..., or writer='snntorch', 'spikingjelly' or 'norse' for their usual one",
        )
    own = about.get("layers", {}) if dt in (None, about.get("dt")) else {}
    try:
        net = Reading(graph, NeuronReader(speaks, step, reset, ours=bool(about)), own).net()
    except Refused as problem:
        raise RunError(
            where,
            expected="a chain of LIF or IF layers, one leak and threshold in each",
            got="; ".join(problem.reasons),
            fix="mend the graph, or say who wrote it by writer=...",
        ) from None
    kept = {key: value for key, value in about.items() if key not in ("layers", "format")}
    return Imported(net, step, steps or about.get("steps"), kept)


def _graph(source: Any) -> tuple[Any, str]:
    nir = nir_package()
    if isinstance(source, nir.NIRGraph):
        return source, "NIR graph"
    path = Path(source)
    try:
        # Shapes are worked out here: some writers leave the batch's axis in Input, which the package's own check refuses.
        unchecked = {"type_check": False} if "type_check" in inspect.signature(nir.read).parameters else {}
        graph = nir.read(str(path), **unchecked)
    # A damaged file comes up as any of these, from HDF5 and from the checks of types alike.
    except (OSError, KeyError, ValueError, TypeError, AssertionError, AttributeError, RuntimeError) as problem:
        there = path.exists()
        said = (str(problem).splitlines() or [type(problem).__name__])[0]
        raise RunError(
            str(path),
            expected="a file of NIR",
            got=f"none that can be read ({said})" if there else "no such file",
            fix="write it again" if there else "check the path",
        ) from problem
    if not isinstance(graph, nir.NIRGraph):
        raise RunError(str(path), expected="a graph", got=f"a single {type(graph).__name__}", fix="write a graph")
    return graph, str(path)


def _notes(graph: Any, where: str) -> dict[str, Any]:
    text = graph.metadata.get("aplysia")
    if text is None:
        return {}
    try:
        notes = json.loads(text)
        number = int(notes["format"])
    except (ValueError, KeyError, TypeError) as problem:
        raise RunError(where, expected="notes in JSON", got="damage", fix="export the run again") from problem
    if number > FORMAT:
        raise RunError(
            where, expected=f"format {FORMAT} or older", got=f"format {number} of a newer Aplysia", fix="update Aplysia"
        )
    return notes
