"""`ImageFolder`: small images in class folders, such as CIFAR-10 as JPEG files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rebasin_lt.errors import InputError, check_least
from rebasin_lt.lit.data.base import ImageData, Split
from rebasin_lt.lit.data.class_folders import class_names
from rebasin_lt.lit.data.folder import FolderImages, Transform
from rebasin_lt.lit.data.loader import Images
from rebasin_lt.lit.data.resident import ResidentImages

SMALL = 2**28
"""Bytes of pixels up to which images are kept: CIFAR's take 240 million. Decoding them all is what the start takes."""


class ImageFolder(ImageData):
    """Images in `root/train/CLASS`, and to test in `root/test/CLASS` or, without that folder, `root/val/CLASS`.

    Where there are both `val` and `test`, and `val_size` is 0, `val` is for validation. Images are brought to
    `image_size`, the shorter side resized and the centre cropped; augmented by a random crop after padding an eighth
    of that and a flip; and normalised with ImageNet's mean (.485, .456, .406) and standard deviation (.229, .224,
    .225), as the paper's code does with CIFAR-10.

        >>> rb.ImageFolder(root="photographs", image_size=64).image_size
        64

    Args:
        root: folder of `train` and of `test` or `val`
        batch_size: images per batch and process
        val_size: training images to hold out for validation; none if not given
        train_size: how many of the others to train on; all if not given
        augment: whether training images are augmented
        seed: of the order of training images, and of augmentation
        num_workers: processes that decode; of no use where images are resident
        image_size: height and width of the network's input
        resident: decode all images once, at the start, and keep them on the training device; if not given, where
            their pixels take at most 256 MiB
    """

    name = "image_folder"
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    flip = True
    default_val_size = 0

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        val_size: int | None = None,
        train_size: int | None = None,
        augment: bool = True,
        seed: int = 0,
        num_workers: int = 4,
        image_size: int = 32,
        resident: bool | None = None,
    ) -> None:
        super().__init__(root, batch_size, val_size, train_size, augment, seed)
        check_least("num_workers", num_workers, 0)
        check_least("image_size", image_size, 1)
        self.num_workers, self.image_size, self.resident = num_workers, image_size, resident
        self.input_shape = (3, image_size, image_size)

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """Class folders in `root/train`. Raises InputError where there is none."""
        return len(class_names(Path(self.root) / "train"))

    def setup(self, stage: str | None = None) -> None:
        if self._val_folder() and self.val_size:
            raise InputError(
                f"val_size is {self.val_size}, but {self.root} has folders val and test: leave it at 0 to use val"
            )
        super().setup(stage)

    def transforms(self) -> tuple[Transform, Transform]:
        """The transforms that bring an image to the network's size: plainly, and at random."""
        from torchvision.transforms import v2

        size = [self.image_size, self.image_size]
        fit = [v2.Resize(self.image_size), v2.CenterCrop(size)]
        return v2.Compose(fit), v2.Compose([*fit, v2.RandomCrop(size, self.image_size // 8), v2.RandomHorizontalFlip()])

    def _has_val(self) -> bool:
        return self._val_folder() or super()._has_val()

    def _val_folder(self) -> bool:
        return all((Path(self.root) / part).is_dir() for part in ("val", "test"))

    def _images(self, split: Split) -> tuple[Images, Tensor]:
        if split != "val" or not self._val_folder():
            return super()._images(split)
        images = self._part("val")
        return images, torch.arange(len(images))

    def open_part(self, part: Split) -> Images:
        images = self._files(part)
        padding = self.image_size // 8
        small = len(images) * 3 * (self.image_size + 2 * padding) ** 2 <= SMALL
        if not (small if self.resident is None else self.resident):
            return images

        def decoded() -> ResidentImages:
            return ResidentImages(*images.all(), self.normalisation(), padding, self.flip)

        # the transforms and the normalisation of a subclass may be any
        return _decoded_once(images, self.image_size, decoded) if type(self) is ImageFolder else decoded()

    def _count(self, part: Split) -> int:
        return len(self._files(part))  # without decoding them

    def _files(self, part: Split) -> FolderImages:
        root = Path(self.root)
        folder = root / part
        if part == "test" and not folder.is_dir() and (root / "val").is_dir():
            folder = root / "val"
        images = FolderImages(folder, *self.transforms(), self.normalisation(), self.num_workers)
        if part != "train" and images.classes != class_names(root / "train"):
            raise InputError(
                f"root is {self.root!r}, but the class folders of {folder} are not those of {root / 'train'}"
            )
        return images


_KEPT = 3
"""Parts of a dataset: train, val and test."""

_decoded: dict[str, ResidentImages] = {}


def _decoded_once(images: FolderImages, size: int, decoded: Callable[[], ResidentImages]) -> ResidentImages:
    """What `decoded` makes of images of a size, made once in a process: the stages of a study open the same files.

    The same files are those with the same names, sizes and times. What is kept is what a run holds anyway.
    """
    looks = ((path, label, (look := os.stat(path)).st_size, look.st_mtime_ns) for path, label in images.files)
    key = hashlib.sha256(repr([size, *looks]).encode()).hexdigest()
    if key not in _decoded:
        while len(_decoded) >= _KEPT:
            del _decoded[next(iter(_decoded))]
        _decoded[key] = decoded()
    return _decoded[key]
