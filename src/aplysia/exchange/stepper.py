"""Running a graph of NIR step by step, as its equations say and as no library reads them: what exports are measured against.

Euler's method with steps of dt; x is what comes into a node at a step, summed over its edges:

    Affine, Linear   W·x + b            I     v ← v + dt·R·x
    Conv2d           W∗x + b            LI    v ← v + (dt/τ)·((v_leak − v) + R·x)
    Scale            s∘x                IF    v ← v + dt·R·x,                        z = 1[v > v_threshold], v ← v_reset where z
    AvgPool2d        mean of a window   LIF   v ← v + (dt/τ)·((v_leak − v) + R·x),   z likewise
    SumPool2d        sum of a window    Threshold   1[x > threshold]
    Flatten          axes of a sample

Every v starts at 0, and a node sees what the nodes before it give in the same step. Graphs with cycles are not for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aplysia.errors import RunError
from aplysia.exchange.nir_neuron import as_array

_STATES = ("LIF", "LI", "IF", "I")


class Stepper:
    """A graph, ready to run.

    Args:
        graph: a `nir.NIRGraph` with one Input and one Output.
        dt: seconds per step.
        dtype: of all numbers.

    Raises:
        RunError: a cycle, or a node it does not know.
    """

    def __init__(self, graph: Any, dt: float, *, dtype: torch.dtype = torch.float64) -> None:
        self.dt, self.dtype = dt, dtype
        self.kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
        self.before: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.before[target].append(source)
        unknown = sorted({kind for kind in self.kinds.values() if not hasattr(self, f"_{kind.lower()}")})
        try:
            self.order = list(TopologicalSorter(self.before).static_order())
        except CycleError:
            unknown.append("a cycle")
        if unknown:
            raise RunError(
                "NIR graph",
                expected="nodes that can be run in order",
                got=", ".join(unknown),
                fix="run it with the library it is for",
            )
        self.nodes = {name: self._tensors(node) for name, node in graph.nodes.items()}

    def run(self, x: Tensor, watch: Iterable[str] = ()) -> dict[str, Tensor]:
        """Outputs `[T, B, …]` of the watched nodes, and of the Output under `output`.

        Args:
            x: `[T, B, …]`, what the Input gives.
            watch: names of nodes.
        """
        seen: dict[str, list[Tensor]] = {name: [] for name in watch}
        out = [self._note(values, seen) for values in self._steps(x)]
        return {name: torch.stack(steps) for name, steps in seen.items()} | {"output": torch.stack(out)}

    def _note(self, values: dict[str, Tensor], seen: dict[str, list[Tensor]]) -> Tensor:
        for name, steps in seen.items():
            steps.append(values[name])
        return next(values[name] for name, kind in self.kinds.items() if kind == "Output")

    @torch.no_grad()
    def _steps(self, x: Tensor) -> Iterator[dict[str, Tensor]]:
        states: dict[str, Tensor] = {}
        for current in x.to(self.dtype).unbind(0):
            values: dict[str, Tensor] = {}
            for name in self.order:
                kind, node = self.kinds[name], self.nodes[name]
                came = [values[source] for source in self.before[name]]
                given = current if kind == "Input" else came[0] if len(came) == 1 else torch.stack(came).sum(0)
                apply = getattr(self, f"_{kind.lower()}")
                if kind in _STATES:
                    before = states.get(name)
                    values[name], states[name] = apply(
                        node, given, torch.zeros_like(given) if before is None else before
                    )
                else:
                    values[name] = apply(node, given)
            yield values

    def _tensors(self, node: Any) -> dict[str, Any]:
        """The parameters: numbers as tensors, sizes as whole numbers."""
        found: dict[str, Any] = {}
        for key in ("weight", "bias", "scale", "threshold", "tau", "r", "v_leak", "v_threshold", "v_reset"):
            if getattr(node, key, None) is not None:
                found[key] = torch.as_tensor(as_array(getattr(node, key)), dtype=self.dtype)
        for key in ("kernel_size", "stride", "padding", "dilation"):
            if hasattr(node, key):
                found[key] = tuple(int(n) for n in as_array(getattr(node, key)).reshape(-1))
        for key in ("groups", "start_dim", "end_dim"):
            if hasattr(node, key):
                found[key] = int(as_array(getattr(node, key)))
        return found

    def _input(self, node: dict[str, Any], x: Tensor) -> Tensor:
        return x

    def _output(self, node: dict[str, Any], x: Tensor) -> Tensor:
        return x

    def _affine(self, node: dict[str, Any], x: Tensor) -> Tensor:
        return F.linear(x, node["weight"], node.get("bias"))

    _linear = _affine

    def _conv2d(self, n: dict[str, Any], x: Tensor) -> Tensor:
        return F.conv2d(x, n["weight"], n["bias"], n["stride"], n["padding"], n["dilation"], n["groups"])

    def _scale(self, node: dict[str, Any], x: Tensor) -> Tensor:
        return x * node["scale"]

    def _avgpool2d(self, node: dict[str, Any], x: Tensor) -> Tensor:
        return F.avg_pool2d(x, node["kernel_size"], node["stride"], node["padding"])

    def _sumpool2d(self, node: dict[str, Any], x: Tensor) -> Tensor:
        return F.avg_pool2d(x, node["kernel_size"], node["stride"], node["padding"], divisor_override=1)

    def _flatten(self, node: dict[str, Any], x: Tensor) -> Tensor:
        start, end = (n + 1 if n >= 0 else n for n in (node["start_dim"], node["end_dim"]))
        return x.flatten(start, end)

    def _threshold(self, node: dict[str, Any], x: Tensor) -> Tensor:
        return (x > node["threshold"]).to(x.dtype)

    def _i(self, node: dict[str, Any], x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = v + self.dt * node["r"] * x
        return v, v

    def _li(self, node: dict[str, Any], x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        v = v + (self.dt / node["tau"]) * ((node["v_leak"] - v) + node["r"] * x)
        return v, v

    def _if(self, node: dict[str, Any], x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self._fire(node, self._i(node, x, v)[0])

    def _lif(self, node: dict[str, Any], x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self._fire(node, self._li(node, x, v)[0])

    def _fire(self, node: dict[str, Any], v: Tensor) -> tuple[Tensor, Tensor]:
        fired = v > node["v_threshold"]
        return fired.to(v.dtype), torch.where(fired, node["v_reset"].expand_as(v), v)
