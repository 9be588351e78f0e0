"""Nets of the OTTT line (Xiao et al. 2022): nine layers, and normaliser-free residual nets; each for a GPU and for a CPU.

Confirmed of the authors' code: the nine layers, standardised weights with gain 2.74, T = 6, batch 128, SGD 0.1 with momentum
0.9 and a cosine over 300 epochs, loss with 5 % squared error, a readout that starts at N(0, 0.01²), or at 0 in residual nets.
There the first layer's input is not traced; here it is. Ours: the residual nets for CIFAR, whose stem is one convolution, all
CPU-sized nets, and the size of the cut-outs.
"""

from __future__ import annotations

from dataclasses import replace

from aplysia.data.augment import Cutout, RandomCrop, RandomFlip
from aplysia.data.base import AbstractDataset
from aplysia.data.cifar import Cifar10, Cifar100
from aplysia.nets.initial import He
from aplysia.train.optimise import SGD
from aplysia.train.recipe import Recipe

_NINE = "64C3-128C3-A2-256C3-256C3-A2-512C3-512C3-A2-512C3-512C3-AG"
_RESIDUAL = "64C3-64R3-64R3-128R3s2-128R3-256R3s2-256R3-512R3s2-512R3-AG"


def _cifar(name: str, data: AbstractDataset, net: str, init: He) -> Recipe:
    return Recipe(
        name=name,
        data=data,
        net=net,
        steps=6,
        batch_size=128,
        epochs=300,
        normalise=True,
        standardise=True,
        gain=2.74,
        init=init,
        augment=(RandomCrop(padding=4), RandomFlip(), Cutout(size=8)),
        optimiser=SGD(lr=0.1),
    )


def ottt_cifar10_vgg9() -> Recipe:
    """Nine layers on CIFAR-10, T = 6, 300 epochs; for a GPU."""
    return _cifar("ottt-cifar10-vgg9", Cifar10(), f"{_NINE}-F10", He(readout=512 * 0.01**2))


def ottt_cifar100_vgg9() -> Recipe:
    """Nine layers on CIFAR-100, T = 6, 300 epochs; for a GPU."""
    return _cifar("ottt-cifar100-vgg9", Cifar100(), f"{_NINE}-F100", He(readout=512 * 0.01**2))


def ottt_cifar10_vgg9_s() -> Recipe:
    """Nine narrow layers on CIFAR-10, T = 4, 20 epochs; the size a CPU can train.

    Its pools take the maximum: behind three averages so narrow a net starts silent.
    """
    net = "16C3s2-32C3-P2-64C3-64C3-P2-96C3-96C3-P2-96C3-96C3-AG-F10"
    return replace(_cifar("ottt-cifar10-vgg9-s", Cifar10(), net, He()), steps=4, epochs=20)


def cifar10_nf_resnet() -> Recipe:
    """A normaliser-free residual net of 18 layers on CIFAR-10, T = 6, 300 epochs; for a GPU."""
    return _cifar("cifar10-nf-resnet", Cifar10(), f"{_RESIDUAL}-F10", He(zero_readout=True))


def cifar100_nf_resnet() -> Recipe:
    """A normaliser-free residual net of 18 layers on CIFAR-100, T = 6, 300 epochs; for a GPU."""
    return _cifar("cifar100-nf-resnet", Cifar100(), f"{_RESIDUAL}-F100", He(zero_readout=True))


def cifar10_nf_resnet_s() -> Recipe:
    """A small normaliser-free residual net of 8 layers on CIFAR-10, T = 4, 20 epochs; the size a CPU can train."""
    net = "16C3s2-16R3-32R3s2-64R3s2-AG-F10"
    return replace(_cifar("cifar10-nf-resnet-s", Cifar10(), net, He(zero_readout=True)), steps=4, epochs=20)
