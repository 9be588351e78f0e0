"""Reading one neuron node of NIR: its parameters, one value each, as a neuron of ours."""

from __future__ import annotations

from typing import Any

import numpy as np

from aplysia.exchange.conventions import AbstractDialect, leak_of
from aplysia.exchange.nir_write import agrees
from aplysia.neurons.base import AbstractNeuron
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.scan import AbstractReset, HardReset

NEURONS = ("LIF", "IF", "LI", "I")


class NeuronReader:
    """What a neuron node means.

    Args:
        writer: whose conventions it is in.
        dt: seconds per step.
        reset: in place of the hard one; None: what the node says.
        ours: whether we wrote it for that library, and so without the mistakes of its own writer.
    """

    def __init__(self, writer: AbstractDialect, dt: float, reset: AbstractReset | None, *, ours: bool) -> None:
        self.writer, self.dt, self.reset, self.ours = writer, dt, reset, ours

    def tau(self, said: float) -> float:
        """τ in seconds."""
        return said if self.ours else self.writer.true_tau(said, self.dt)

    def read(self, node: Any, said: dict[str, Any], dtype: Any) -> AbstractNeuron | list[str]:
        """The neuron, or why there is none.

        Args:
            node: a LIF, IF, LI or I.
            said: what our own writer noted of the layer; empty otherwise.
            dtype: numpy's type of the weights, in which thresholds are compared.
        """
        values, reasons = {}, []
        for key in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
            if hasattr(node, key):
                values[key], uneven = _single(getattr(node, key))
                if uneven:
                    reasons.append(f"{key} from {uneven[0]:g} to {uneven[1]:g}, where a layer has one")
        if reasons:
            return reasons
        leak, scale, reasons = self._leak_and_scale(values, said)
        rest = values.get("v_leak", 0.0)
        shift = rest if not self.writer.strict and rest == values.get("v_reset") else 0.0
        if rest != shift:
            reasons.append(f"v_leak={rest:g}, a current of its own (take it into the bias)")
        if reasons:
            return reasons
        if "v_threshold" not in values:
            return Integrator(leak=leak) if scale == 1.0 else [f"an integrator that scales its input by {scale:g}"]
        # What SpikingJelly starts from, leaks to and resets to is one number, from which everything is measured.
        theta = self.writer.theta(values["v_threshold"], dtype) - shift
        rho = values["v_reset"] - shift
        if scale != 1.0:
            theta, rho = theta / scale, rho / scale
        noted = said.get("threshold")
        if noted is not None and abs(noted - theta) <= 4 * abs(float(np.spacing(dtype(noted)))):
            theta = noted
        if not theta > 0.0:
            return [f"a threshold of {theta:g}, at which a unit without input would fire"]
        reset = self.reset or HardReset(
            value=said.get("reset", rho) if abs(said.get("reset", rho) - rho) < 1e-6 else rho
        )
        return LIF(leak=leak, threshold=theta, reset=reset)

    def _leak_and_scale(self, values: dict[str, float], said: dict[str, Any]) -> tuple[float, float, list[str]]:
        """λ, k of the input, and what is wrong with them."""
        if "tau" not in values:
            return 1.0, _near_one(self.dt * values["r"]), []
        tau = self.tau(values["tau"])
        leak = leak_of(tau, self.dt) if tau > 0.0 else -1.0
        if not 0.0 <= leak <= 1.0:
            return leak, 1.0, [f"τ={tau:g} s, shorter than a step of {self.dt:g} s"]
        scale = _near_one((1.0 - leak) * values["r"] if leak < 1.0 else self.dt / tau * values["r"])
        if scale <= 0.0:
            return leak, scale, [f"R={values['r']:g}, which is not positive"]
        if "leak" in said and agrees(said["leak"], tau, self.dt):
            leak = said["leak"]
        return leak, scale, []


def _near_one(scale: float) -> float:
    """A quotient of doubles that is 1 but for its last places is meant as 1."""
    return 1.0 if abs(scale - 1.0) < 1e-9 else scale


def _single(values: Any) -> tuple[float, tuple[float, float] | None]:
    array = as_array(values).astype(np.float64)
    low, high = float(array.min()), float(array.max())
    return low, None if low == high else (low, high)


def as_array(x: Any) -> np.ndarray:
    """A numpy array, of what writers put into nodes: arrays, tensors, numbers."""
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)
