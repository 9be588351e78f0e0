"""Data: real samples as tensors, from disk or network, and what happens to them on the way to the net."""

from aplysia.data.augment import AbstractAugmentation, Cutout, RandomCrop, RandomFlip
from aplysia.data.base import AbstractDataset, Bundle, FileReport, FileState, RemoteFile, Split
from aplysia.data.binning import AbstractBinning, ByCount, ByTime, Events
from aplysia.data.cifar import Cifar10, Cifar100
from aplysia.data.digits import Digits
from aplysia.data.dvs_gesture import DvsGesture
from aplysia.data.emnist import Emnist
from aplysia.data.encode import AbstractEncoder, Direct, Poisson
from aplysia.data.events_tonic import DvsCifar10, Shd
from aplysia.data.image_folder import ImageFolder
from aplysia.data.image_shards import ImageShards
from aplysia.data.loader import Loader
from aplysia.data.mnist import FashionMnist, Kmnist, Mnist
from aplysia.data.nmnist import NMnist
from aplysia.data.root import data_root
from aplysia.data.splits import train_validation

__all__ = [
    "AbstractAugmentation",
    "AbstractBinning",
    "AbstractDataset",
    "AbstractEncoder",
    "Bundle",
    "ByCount",
    "ByTime",
    "Cifar10",
    "Cifar100",
    "Cutout",
    "Digits",
    "Direct",
    "DvsCifar10",
    "DvsGesture",
    "Emnist",
    "Events",
    "FashionMnist",
    "FileReport",
    "FileState",
    "ImageFolder",
    "ImageShards",
    "Kmnist",
    "Loader",
    "Mnist",
    "NMnist",
    "Poisson",
    "RandomCrop",
    "RandomFlip",
    "RemoteFile",
    "Shd",
    "Split",
    "data_root",
    "train_validation",
]
