"""Frozen backpropagation on first-spike nets (Goupy et al. 2025): the sizes of its companion code, and sizes for a CPU.

What the paper's own experiments used is not known to us in detail. The VGG recipes follow the first author's public companion
code where it says something: nets, window 1, weights N(0, 2/fan_in), no bias, Adam with decoupled decay 0.1 at learning rate
1e-4 and batch 256, rate × 0.999 per epoch, 10 % of the training set for validation, crops, flips and Cutout on CIFAR. Ours are:
pixels kept in [0, 1] instead of normalised out of the window, no AutoAugment, a new order in every epoch, a fixed number of
epochs in place of early stopping, and the bound on the common gain.
"""

from __future__ import annotations

from dataclasses import replace

from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.frozen import FrozenBackprop
from aplysia.credit.temporal.spike_time import SpikeTime
from aplysia.data.augment import Cutout, RandomCrop, RandomFlip
from aplysia.data.base import AbstractDataset
from aplysia.data.cifar import Cifar10, Cifar100
from aplysia.data.encode import FirstSpike
from aplysia.data.mnist import FashionMnist
from aplysia.nets.initial import He
from aplysia.neurons.potential import End, Potential, Start
from aplysia.neurons.windowed import Windowed
from aplysia.train.optimise import Adam, AdamW, Exponential
from aplysia.train.recipe import Recipe

VGG7 = "64C3-128C3-P2-256C3-256C3-P2-512C3-512C3-P2"
VGG11 = "128C3-128C3-128C3-P2-256C3-256C3-256C3-P2-512C3-512C3-512C3-512C3-P2"


def _small(name: str, data: AbstractDataset, net: str) -> Recipe:
    """A size for a CPU; Adam without decay, since short training needs a larger rate than the companion code's."""
    return Recipe(
        name=name,
        data=data,
        net=net,
        rule=FrozenBackprop(interval=1000),
        temporal=SpikeTime(),
        neuron=Windowed(),
        readout=Potential(reading=Start()),
        loss=StepwiseLoss(mse_share=0.0),
        encoder=FirstSpike(),
        steps=1,
        bias=False,
        epochs=6,
        batch_size=64,
        optimiser=Adam(lr=2e-3),
    )


def _vgg(name: str, data: AbstractDataset, net: str) -> Recipe:
    return replace(
        _small(name, data, net),
        batch_size=256,
        epochs=300,
        readout=Potential(reading=End()),
        init=He(readout=2.0),
        optimiser=AdamW(lr=1e-4, weight_decay=0.1),
        schedule=Exponential(gamma=0.999),
    )


def _cifar(recipe: Recipe) -> Recipe:
    """Colour images: nearly every pixel fires, and only centred weights learn from them in few epochs (docs/neurons.md)."""
    return replace(recipe, centre=True, optimiser=Adam(lr=4e-3))


def _augmented(recipe: Recipe, cutout: int) -> Recipe:
    return replace(recipe, augment=(RandomCrop(padding=4), RandomFlip(), Cutout(size=cutout)))


def fbp_fmnist() -> Recipe:
    """Frozen backpropagation, Φ = 1000, on Fashion-MNIST; a net for a CPU."""
    return _small("fbp-fmnist", FashionMnist(), "16C3-P2-32C3-P2-F10")


def fbp_cifar10() -> Recipe:
    """Frozen backpropagation, Φ = 1000, on CIFAR-10; a net for a CPU."""
    return _augmented(_cifar(replace(_small("fbp-cifar10", Cifar10(), "32C3-64C3-P2-128C3-P2-F10"), epochs=30)), 8)


def fbp_cifar100() -> Recipe:
    """Frozen backpropagation, Φ = 1000, on CIFAR-100; a net for a CPU."""
    return _augmented(_cifar(replace(_small("fbp-cifar100", Cifar100(), "32C3-64C3-P2-128C3-P2-F100"), epochs=30)), 8)


def fbp_fmnist_vgg7() -> Recipe:
    """The companion code's VGG-7 on Fashion-MNIST; for a GPU."""
    return _vgg("fbp-fmnist-vgg7", FashionMnist(), f"{VGG7}-F10")


def fbp_cifar10_vgg7() -> Recipe:
    """The companion code's VGG-7 on CIFAR-10; for a GPU."""
    return _augmented(_vgg("fbp-cifar10-vgg7", Cifar10(), f"{VGG7}-F10"), 16)


def fbp_cifar10_vgg11() -> Recipe:
    """The companion code's VGG-11 on CIFAR-10; for a GPU."""
    return _augmented(_vgg("fbp-cifar10-vgg11", Cifar10(), f"{VGG11}-F10"), 16)


def fbp_cifar100_vgg7() -> Recipe:
    """The companion code's VGG-7 on CIFAR-100; for a GPU."""
    return _augmented(_vgg("fbp-cifar100-vgg7", Cifar100(), f"{VGG7}-F100"), 16)


def fbp_cifar100_vgg11() -> Recipe:
    """The companion code's VGG-11 on CIFAR-100; for a GPU."""
    return _augmented(_vgg("fbp-cifar100-vgg11", Cifar100(), f"{VGG11}-F100"), 16)
