"""Aplysia: train spiking neural networks with learning rules a neuromorphic chip could run itself."""

from aplysia.version import __version__

# The public names and where they live. They are imported on first use: `aplysia --help` must not wait for torch.
_NAMES = {
    "AplysiaError": "aplysia.errors",
    "Claim": "aplysia.types",
    "Cost": "aplysia.types",
    "Held": "aplysia.types",
    "Paper": "aplysia.types",
    "LIF": "aplysia.neurons.lif",
    "Integrator": "aplysia.neurons.integrator",
    "Windowed": "aplysia.neurons.windowed",
    "ConstantSlope": "aplysia.neurons.constant_slope",
    "Ramp": "aplysia.neurons.ramp",
    "Potential": "aplysia.neurons.potential",
    "Bitstream": "aplysia.neurons.bitstream",
    "WinnerTakeAll": "aplysia.neurons.winner_take_all",
    "from_times": "aplysia.ops.first_spike",
    "to_times": "aplysia.ops.first_spike",
    "Layer": "aplysia.nets.layer",
    "Net": "aplysia.nets.net",
    "build": "aplysia.nets.zoo",
    "conv": "aplysia.nets.zoo",
    "mlp": "aplysia.nets.zoo",
    "AbstractChained": "aplysia.credit.contract",
    "AbstractSeeded": "aplysia.credit.contract",
    "AbstractSpatial": "aplysia.credit.contract",
    "AbstractTemporal": "aplysia.credit.contract",
    "Record": "aplysia.credit.contract",
    "MeanOutputLoss": "aplysia.credit.loss",
    "StepwiseLoss": "aplysia.credit.loss",
    "SpikeTimeLoss": "aplysia.credit.loss",
    "WinnerLoss": "aplysia.credit.loss",
    "Learner": "aplysia.train.learner",
    "Recipe": "aplysia.train.recipe",
    "adopt": "aplysia.adoption.adopt",
    "AbstractCall": "aplysia.adoption.call",
    "from_nir": "aplysia.exchange.nir_read",
    "load": "aplysia.train.load",
    "kernels": "aplysia.ops.backend",
    "kept_memory": "aplysia.ops.memory",
}
_MODULES = {
    "data": "aplysia.data",
    "recipes": "aplysia.recipes",
    "rules": "aplysia.rules",
    "temporal": "aplysia.temporal",
}

__all__ = ["__version__", *_NAMES, *_MODULES]


def __getattr__(name: str) -> object:
    import importlib

    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'aplysia' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
