"""Online pseudo-zeroth-order training and its relatives (Xiao et al. 2024): nets for a CPU, and the sizes of the OTTT line.

The paper's nets, rates, noise and momenta could not be had. It says fully connected nets for N-MNIST and five layers with
convolutions elsewhere; average pools, standardised weights with gain 2.74, T, batch, loss and optimiser follow the code of its
predecessor (OTTT, Xiao et al. 2022), as its evaluation on DVS sets does. Rates and noise were searched for with the same number
of trials for every rule, `benchmarks/tune_rules.py`.
"""

from __future__ import annotations

from dataclasses import replace

from aplysia.credit.learned_feedback import MomentumFeedback, Pooled
from aplysia.credit.loss import StepwiseLoss
from aplysia.credit.spatial.pseudo_zeroth_order import PseudoZerothOrder
from aplysia.data.augment import Cutout, RandomCrop, RandomFlip
from aplysia.data.base import AbstractDataset
from aplysia.data.cifar import Cifar10, Cifar100
from aplysia.data.dvs_gesture import DvsGesture
from aplysia.data.events_tonic import DvsCifar10
from aplysia.data.image_folder import ImageFolder
from aplysia.data.mnist import FashionMnist
from aplysia.data.nmnist import NMnist
from aplysia.nets.initial import He
from aplysia.nets.noise import Noise
from aplysia.nets.zoo import nf_resnet_text
from aplysia.train.optimise import SGD, Adam
from aplysia.train.recipe import Recipe

FIVE_LAYERS = "128C3-A2-256C3-A2-512C3-A2-512C3"


def _conv(name: str, data: AbstractDataset, net: str) -> Recipe:
    return Recipe(
        name=name,
        data=data,
        net=net,
        rule=PseudoZerothOrder(),
        steps=6,
        batch_size=128,
        normalise=True,
        standardise=True,
        gain=2.74,
        # Feedback from noise makes now and then a step that no rate survives.
        clip=1.0,
        optimiser=SGD(lr=0.1),
    )


def _augmented(recipe: Recipe) -> Recipe:
    return replace(recipe, augment=(RandomCrop(padding=4), RandomFlip(), Cutout(size=8)))


def opzo_fmnist() -> Recipe:
    """OPZO on Fashion-MNIST; two convolutions and a readout, for a CPU."""
    return replace(_conv("opzo-fmnist", FashionMnist(), "16C3s2-32C3s2-F10"), epochs=4)


def opzo_cifar10() -> Recipe:
    """OPZO on CIFAR-10; four convolutions and a readout, for a CPU."""
    net = "16C3s2-32C3s2-32C3-A2-32C3-F10"
    return _augmented(replace(_conv("opzo-cifar10", Cifar10(), net), epochs=10, batch_size=64))


def opzo_cifar100() -> Recipe:
    """OPZO on CIFAR-100; four convolutions and a readout, for a CPU."""
    return _augmented(replace(_conv("opzo-cifar100", Cifar100(), "32C3s2-64C3-A2-64C3-A2-64C3-F100"), epochs=10))


def opzo_nmnist() -> Recipe:
    """OPZO on N-MNIST; two hidden layers, fully connected."""
    return Recipe(
        name="opzo-nmnist",
        data=NMnist(),
        net="F800-F800-F10",
        rule=PseudoZerothOrder(),
        steps=10,
        batch_size=64,
        epochs=20,
        loss=StepwiseLoss(mse_share=0.001),
        optimiser=SGD(lr=0.05),
    )


def opzo_cifar10_large() -> Recipe:
    """OPZO on CIFAR-10 with five layers of the OTTT line's widths, 300 epochs; for a GPU."""
    return _augmented(replace(_conv("opzo-cifar10-large", Cifar10(), f"{FIVE_LAYERS}-F10"), epochs=300))


def opzo_cifar100_large() -> Recipe:
    """OPZO on CIFAR-100 with five layers of the OTTT line's widths, 300 epochs; for a GPU."""
    return _augmented(replace(_conv("opzo-cifar100-large", Cifar100(), f"{FIVE_LAYERS}-F100"), epochs=300))


def opzo_imagenet() -> Recipe:
    """Noisy fine-tuning of NF-ResNet-34 on ImageNet by OPZO, T = 6, 2 epochs; for a GPU. Give it `weights=` trained by BP.

    Images are read from `imagenet/{train,val}/CLASS/*` under the data root, or from the folder that `data.path=` names. Noise
    stands for that of a device: evaluated with it and without (`noisy_test_accuracy`, `test_accuracy`).
    """
    return replace(
        _conv(
            "opzo-imagenet",
            ImageFolder(path="imagenet", size=(224, 224), resize=256, stream=True),
            nf_resnet_text(34),
        ),
        rule=PseudoZerothOrder(feedback=MomentumFeedback(form=Pooled()), noise=Noise(alpha=0.1, traced=False)),
        init=He(zero_readout=True),
        augment=(RandomCrop(padding=16), RandomFlip()),
        epochs=2,
        batch_size=256,
        optimiser=SGD(lr=0.01),
        validation=0.0,
    )


def opzo_dvscifar10() -> Recipe:
    """OPZO on DVS-CIFAR10, T = 10, 300 epochs; for a GPU."""
    return replace(
        _conv("opzo-dvscifar10", DvsCifar10(), f"{FIVE_LAYERS}-F10"),
        steps=10,
        epochs=300,
        dropout=0.1,
        loss=StepwiseLoss(mse_share=0.001),
    )


def opzo_dvsgesture() -> Recipe:
    """OPZO on DVS-Gesture, T = 20, 300 epochs; for a GPU."""
    return replace(
        _conv("opzo-dvsgesture", DvsGesture(), f"{FIVE_LAYERS}-F11"),
        steps=20,
        batch_size=16,
        epochs=300,
        optimiser=Adam(lr=1e-3),
        loss=StepwiseLoss(mse_share=0.001),
    )
