"""The training loop: epochs, batches, evaluation. It knows no files; what it needs to go on is one `Progressed`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from aplysia.credit.contract import AbstractTemporal
from aplysia.data.encode import AbstractEncoder
from aplysia.data.loader import Loader
from aplysia.nets.net import Net
from aplysia.nets.noise import NoiseSource
from aplysia.ranks import present
from aplysia.rng import generator
from aplysia.train.health import check_finite
from aplysia.train.learner import Learner
from aplysia.train.optimise import AbstractSchedule

# Weights are checked for NaN this often; the loss at every step where looking costs nothing (CPU).
CHECK_EVERY = 50


@dataclass
class Tally:
    """Running sums of one epoch, on the device, so that a step waits for nothing."""

    loss: Tensor
    correct: Tensor
    spikes: Tensor
    slots: Tensor
    saturated: Tensor
    samples: int = 0

    @classmethod
    def empty(cls, net: Net) -> Tally:
        like, layers = net.readout.weight, len(net.all)
        zeros = {"dtype": torch.float64, "device": like.device}
        return cls(
            torch.zeros((), **zeros),
            torch.zeros((), **zeros),
            torch.zeros(layers, **zeros),
            torch.zeros(layers, **zeros),
            torch.zeros(layers, **zeros),
        )

    def add(self, logits: Tensor, target: Tensor, loss: Tensor, spikes: Tensor, slots: list[int]) -> Tensor:
        """Add a batch; the number of its correct answers, 0-dim."""
        correct = (logits.argmax(1) == target).sum()
        self.samples += len(target)
        self.loss += loss.double() * len(target)
        self.correct += correct
        self.spikes += spikes.double()
        self.slots += torch.tensor(slots, dtype=torch.float64, device=self.slots.device)
        return correct

    def everywhere(self) -> Tally:
        """The sums of all processes that train together; must be called by all of them."""
        ranks = present()
        if ranks.size == 1:
            return self
        parts = [tensor.reshape(-1) for tensor in (*self.tensors().values(), self.loss.new_tensor(self.samples))]
        *sums, samples = ranks.joined(torch.cat(parts)).split([len(part) for part in parts])
        shaped = {name: part.view_as(like) for part, (name, like) in zip(sums, self.tensors().items(), strict=True)}
        return Tally(**shaped, samples=int(samples))

    def summary(self, net: Net) -> dict[str, Any]:
        """Loss, accuracy and the firing rate of each spiking layer; for first-spike ones the saturated share too.

        A first-spike layer's rate is the share of its units that fired, over all samples: 1 − rate is the silent share.
        """
        rates = (self.spikes / self.slots.clamp(min=1)).tolist()
        saturated = (self.saturated / self.slots.clamp(min=1)).tolist()
        limits = {layer.name: getattr(layer.neuron, "saturation", None) for layer in net.all}
        extra = {
            name: share for (name, limit), share in zip(limits.items(), saturated, strict=True) if limit is not None
        }
        return ({"saturated": extra} if extra else {}) | {
            "loss": float(self.loss) / max(1, self.samples),
            "accuracy": float(self.correct) / max(1, self.samples),
            "rates": {layer.name: rate for layer, rate in zip(net.all, rates, strict=True) if layer.neuron.spiking},
        }

    def tensors(self) -> dict[str, Tensor]:
        names = ("loss", "correct", "spikes", "slots", "saturated")
        return {name: getattr(self, name) for name in names}


@dataclass
class Position:
    """Where a run stands: the next batch to do."""

    epoch: int = 0
    batch: int = 0
    samples: int = 0
    seconds: float = 0.0


@dataclass
class Hooks:
    """What the loop tells the outside of a batch: samples, and loss and accuracy of those learnt here.

    `after_batch` returns True to stop.
    """

    start_epoch: Callable[[int, int], None] = lambda epoch, batch: None
    after_batch: Callable[[int, Tensor, Tensor], bool] = lambda samples, loss, accuracy: False
    after_epoch: Callable[[int, dict[str, Any]], None] = lambda epoch, metrics: None


@dataclass
class Trainer:
    """Trains a learner on a loader.

    Attributes:
        learner: net, rule, scheme, loss and optimiser.
        train: training batches.
        validation: evaluated after each epoch, or None.
        encoder, steps: from images to the net's input.
        schedule, epochs: learning rate by epoch.
        seed: of the encoder's noise.
        position: the next batch to do.
        tally: sums of the epoch under way.
    """

    learner: Learner
    train: Loader
    validation: Loader | None
    encoder: AbstractEncoder
    steps: int
    schedule: AbstractSchedule
    epochs: int
    seed: int
    position: Position = field(default_factory=Position)
    tally: Tally | None = None

    def run(self, hooks: Hooks) -> bool:
        """Train to the end; True when done, False when a hook stopped it. Can be called again to go on."""
        net, optimiser = self.learner.net, self.learner.optimiser
        base_rates = [group.setdefault("initial_lr", group["lr"]) for group in optimiser.param_groups]
        while self.position.epoch < self.epochs:
            epoch = self.position.epoch
            factor = self.schedule.factor(epoch, self.epochs)
            for group, rate in zip(optimiser.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor
            self.tally = self.tally or Tally.empty(net)
            hooks.start_epoch(epoch, self.position.batch)
            if self._epoch(epoch, hooks):
                return False
            metrics = self._metrics(epoch, self.tally.everywhere(), optimiser.param_groups[0]["lr"])
            self.tally, self.position.epoch, self.position.batch = None, epoch + 1, 0
            hooks.after_epoch(epoch, metrics)
        return True

    def _epoch(self, epoch: int, hooks: Hooks) -> bool:
        assert self.tally is not None
        net, ranks = self.learner.net, present()
        look = net.readout.weight.device.type == "cpu"
        for images, labels in self.train.batches(epoch, self.position.batch):
            began = time.perf_counter()
            samples = self.train.count(self.position.batch)
            ranks.begin(samples)
            noise = generator(images.device, self.seed, "encode", epoch, self.position.batch, *ranks.keys)
            record = self.learner.update(self.encoder(images, self.steps, noise), labels)
            self.position.batch += 1
            if self.position.batch % CHECK_EVERY == 0 or (look and not bool(record.loss.isfinite())):
                check_finite(net, record.loss, f"epoch {epoch + 1}, batch {self.position.batch}")
            correct = torch.zeros_like(self.tally.correct)
            if ranks.own:
                correct = self.tally.add(record.logits, labels, record.loss, record.spikes, record.slots)
                if record.saturated is not None:
                    self.tally.saturated += record.saturated
            self.position.samples += samples
            self.position.seconds += time.perf_counter() - began
            if hooks.after_batch(samples, record.loss, correct / len(labels)):
                return True
        check_finite(net, self.tally.loss, f"end of epoch {epoch + 1}")
        return False

    def _metrics(self, epoch: int, tally: Tally, lr: float) -> dict[str, Any]:
        done = tally.summary(self.learner.net)
        metrics = {"epoch": epoch + 1, "lr": lr, "train_loss": done["loss"], "train_accuracy": done["accuracy"]}
        metrics |= {key: done[key] for key in ("rates", "saturated") if key in done}
        if self.validation is not None:
            held_out = evaluate(self.learner, self.validation, self.encoder, self.steps, self.seed)
            check_finite(self.learner.net, torch.tensor(held_out["loss"]), f"validation after epoch {epoch + 1}")
            metrics |= {"val_loss": held_out["loss"], "val_accuracy": held_out["accuracy"]}
        return metrics


@torch.no_grad()
def evaluate(
    learner: Learner,
    loader: Loader,
    encoder: AbstractEncoder,
    steps: int,
    seed: int,
    *,
    noisy: bool = False,
    scheme: AbstractTemporal | None = None,
) -> dict[str, Any]:
    """Loss of the mean output, accuracy and firing rates on a loader; encoder noise depends on the seed alone.

    Args:
        noisy: whether the layers are disturbed as in training, at its last α, but each step by itself: antithetic pairs would
            cancel in the mean output.
        scheme: that predicts; the learner's unless said.
    """
    net, scheme, ranks = learner.net, scheme or learner.temporal, present()
    noise = replace(learner.rule.noise, antithetic=False)
    tally = Tally.empty(net)
    for index, (images, labels) in enumerate(loader.batches(0)):
        start, end = ranks.bounds(loader.count(index))
        if start == end:
            continue
        number = index * ranks.size + ranks.rank
        x = encoder(images, steps, generator(images.device, seed, "evaluate", number))
        source = NoiseSource(noise, seed, learner.steps, f"evaluate/{number}") if noisy else None
        logits, spikes = scheme.predict(net, x, noise=source, seed=seed, batch=number)
        loss = learner.loss.of_logits(logits, labels)
        slots = [steps * len(labels) * layer.units for layer in net.all]
        tally.add(logits, labels, loss, spikes, slots)
    return tally.everywhere().summary(net)
