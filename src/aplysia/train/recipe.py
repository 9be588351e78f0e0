"""The recipe: the only configuration there is. A frozen dataclass in, a run folder out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from aplysia.credit.contract import AbstractLoss, AbstractSpatial, AbstractTemporal
from aplysia.credit.loss import SpikeTimeLoss, StepwiseLoss, WinnerLoss
from aplysia.credit.spatial.symmetric import Symmetric
from aplysia.credit.temporal.trace import Trace
from aplysia.data.augment import AbstractAugmentation
from aplysia.data.base import AbstractDataset, Bundle
from aplysia.data.encode import AbstractEncoder, Direct
from aplysia.devices.base import AbstractDevice
from aplysia.errors import RecipeError
from aplysia.nets.initial import AbstractInitial, He
from aplysia.nets.net import Net
from aplysia.nets.zoo import build, parse
from aplysia.neurons.base import AbstractFirstSpike, AbstractNeuron, AbstractStepped, AbstractStream
from aplysia.neurons.integrator import Integrator
from aplysia.neurons.lif import LIF
from aplysia.ops.precision import AbstractPrecision, Float32
from aplysia.plugins import name_of
from aplysia.train.optimise import SGD, AbstractOptimiser, AbstractSchedule, Cosine

# Where the variants of an abstract part live, when that is not the file the abstract part stands in.
AXES: dict[type, str] = {
    AbstractSpatial: "aplysia.credit.spatial",
    AbstractTemporal: "aplysia.credit.temporal",
    AbstractLoss: "aplysia.credit.loss",
    AbstractNeuron: "aplysia.neurons",
    AbstractDataset: "aplysia.data",
    AbstractDevice: "aplysia.devices",
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a run depends on.

    Attributes:
        name: how the run is called.
        data: the data set.
        net: the net's text, see `aplysia.nets.zoo`; the readout must have as many units as the data has classes.
        rule: where errors come from.
        temporal: the scheme for time.
        neuron: of the hidden layers.
        readout: of the last layer.
        loss: on the readout.
        encoder: from pixels to what the first layer gets at each step.
        steps: T; for streams of bits their length N, which `--set stream_length=` means too.
        batch_size: samples per update.
        epochs: passes over the training set.
        optimiser: and its learning rate.
        schedule: factor on the learning rate by epoch.
        normalise: subtract the training set's mean and divide by its standard deviation, per channel; what standardised
            weights need, whose rows sum to zero. Not for encoders that take values as probabilities.
        augment: transformations of training images, in order.
        validation: share of the training set held out; 0: none.
        train_samples: size of the part of the training set that is used, what is held out included; the same part for every
            seed. None: all of it.
        weights: file of forward weights to start from, the `model.safetensors` of a run of the same net; None: fresh ones.
        bias, standardise, centre, gain, dropout: see `aplysia.nets.layer.Layer`; for first-spike neurons the bias is a
            trainable threshold.
        init: law of the initial weights.
        precision: the type of the hidden layers' products; for stepped neurons.
        clip: largest gradient norm; None: no clipping.
        probe: measure the feedback's alignment with true backpropagation every so many steps, on a fixed batch of training
            samples (`aplysia.train.alignment`), into `alignment.jsonl`; None: never.
        probe_samples: size of that batch.
        seed: of weights, order, augmentation, feedback and noise.
        compiled: compiled kernels; None: where the run is long enough to pay for compiling. No number depends on it.
    """

    aliases: ClassVar[Mapping[str, str]] = {"stream_length": "steps"}

    name: str
    data: AbstractDataset
    net: str
    rule: AbstractSpatial = field(default_factory=Symmetric)
    temporal: AbstractTemporal = field(default_factory=Trace)
    neuron: AbstractNeuron = field(default_factory=LIF)
    readout: AbstractNeuron = field(default_factory=Integrator)
    loss: AbstractLoss = field(default_factory=StepwiseLoss)
    encoder: AbstractEncoder = field(default_factory=Direct)
    steps: int = 6
    batch_size: int = 128
    epochs: int = 10
    optimiser: AbstractOptimiser = field(default_factory=SGD)
    schedule: AbstractSchedule = field(default_factory=Cosine)
    normalise: bool = False
    augment: tuple[AbstractAugmentation, ...] = ()
    validation: float = 0.1
    train_samples: int | None = None
    weights: Path | None = None
    bias: bool = True
    standardise: bool = False
    centre: bool = False
    gain: float = 1.0
    dropout: float = 0.0
    init: AbstractInitial = field(default_factory=He)
    precision: AbstractPrecision = field(default_factory=Float32)
    clip: float | None = None
    probe: int | None = None
    probe_samples: int = 256
    seed: int = 0
    compiled: bool | None = None

    def __post_init__(self) -> None:
        for key in ("steps", "batch_size", "epochs", "probe", "probe_samples", "train_samples"):
            if getattr(self, key) is not None and getattr(self, key) < 1:
                shown = "stream_length" if key == "steps" and self.neuron.kind == AbstractStream.kind else key
                raise RecipeError(
                    shown, expected="a whole number of at least 1", got=repr(getattr(self, key)), fix="use 1 or more"
                )
        for key, top in (("validation", 0.9), ("dropout", 0.95)):
            if not 0.0 <= getattr(self, key) <= top:
                raise RecipeError(key, expected=f"a share in [0, {top}]", got=repr(getattr(self, key)), fix="use 0.1")
        if not (self.gain > 0.0 and math.isfinite(self.gain)):
            raise RecipeError(
                "gain", expected="a number > 0", got=repr(self.gain), fix="use 1, or 2.74 with standardised weights"
            )
        if self.clip is not None and not self.clip > 0.0:
            raise RecipeError("clip", expected="a number > 0, or none", got=repr(self.clip), fix="use 1.0")
        if self.seed < 0:
            raise RecipeError("seed", expected="a whole number ≥ 0", got=repr(self.seed), fix="use 0")
        if not self.neuron.spiking:
            raise RecipeError("neuron", expected="a spiking neuron", got=type(self.neuron).__name__, fix="use lif")
        self._check_kinds()
        parse(self.net)

    def _check_kinds(self) -> None:
        """All parts must speak of the same kind of signal; everything that does not is named at once."""
        kind, wrong, cure = self.neuron.kind, [], []

        def amiss(key: str, part: object, why: str) -> None:
            wrong.append(f"{key} {type(part).__name__}{why}")
            cure.append(f"{key}={self.neuron.partners[key]}")

        if self.readout.kind != kind:
            amiss("readout", self.readout, f" ({self.readout.kind})")
        elif self.readout.gives in ("spikes", "bits"):
            amiss("readout", self.readout, ", which spikes")
        elif self.readout.gives != self.loss.reads:
            wrong.append(f"loss {type(self.loss).__name__} on the readout {type(self.readout).__name__}")
            fits = next(cls for cls in (StepwiseLoss, SpikeTimeLoss, WinnerLoss) if cls.reads == self.readout.gives)
            cure.append(f"loss={name_of(fits, AXES[AbstractLoss], AbstractLoss)}")
        if self.temporal.accepts != kind:
            amiss("temporal", self.temporal, f" (for {self.temporal.accepts} neurons)")
        if self.encoder.serves != kind:
            amiss("encoder", self.encoder, "")
        fixed: dict[str, object] = {}
        if kind != AbstractStepped.kind:
            fixed = {"gain": 1.0, "dropout": 0.0, "normalise": False}
        if kind == AbstractFirstSpike.kind:
            fixed["steps"] = 1
        for key, only in fixed.items():
            if getattr(self, key) != only:
                wrong.append(f"{key}={getattr(self, key)}")
                cure.append(f"{key}={str(only).lower()}")
        if kind != AbstractStepped.kind and not isinstance(self.precision, Float32):
            wrong.append(f"precision {type(self.precision).__name__}")
            cure.append("precision=float32")
        if wrong:
            raise RecipeError(
                f"neuron {type(self.neuron).__name__}",
                expected=f"parts for {kind} neurons throughout",
                got="; ".join(wrong),
                fix="set " + " ".join(cure),
            )

    def build_net(self, bundle: Bundle) -> Net:
        """The untrained net for these data.

        Raises:
            RecipeError: the text does not fit the data.
        """
        units = parse(self.net)[-1].channels
        if units != bundle.classes:
            raise RecipeError(
                f"net '{self.net}'",
                expected=f"a readout of {bundle.classes} units, one per class",
                got=f"{units}",
                fix=f"end the text with F{bundle.classes}",
            )
        return build(
            self.net,
            bundle.shape,
            neuron=self.neuron,
            readout=self.readout,
            bias=self.bias,
            standardise=self.standardise,
            centre=self.centre,
            gain=self.gain,
            dropout=self.dropout,
            init=self.init,
            precision=self.precision,
            seed=self.seed,
        )

    def build_rule(self) -> AbstractSpatial:
        """A fresh rule with this recipe's settings, not yet attached."""
        return replace(self.rule)
