"""Datasets as LightningDataModules, under the names that configurations use: `rebasin_lt.lit.data.CIFAR10`."""

from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.cifar import CIFAR10, CIFAR100
from rebasin_lt.lit.data.digits import Digits
from rebasin_lt.lit.data.fashion_mnist import FashionMNIST
from rebasin_lt.lit.data.image_folder import ImageFolder
from rebasin_lt.lit.data.imagenet import ImageNet
from rebasin_lt.lit.data.resident import ResidentImages
from rebasin_lt.lit.data.svhn import SVHN

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "SVHN",
    "Digits",
    "FashionMNIST",
    "ImageData",
    "ImageFolder",
    "ImageNet",
    "ResidentImages",
]
