"""`ImageNet`: 1,281,167 and 50,000 photographs in 1,000 class folders."""

from __future__ import annotations

from pathlib import Path

from rebasin_lt.errors import InputError, check_least
from rebasin_lt.lit.data.base import ImageData, Split
from rebasin_lt.lit.data.class_folders import class_names
from rebasin_lt.lit.data.folder import FolderImages, Transform
from rebasin_lt.lit.data.loader import Images


class ImageNet(ImageData):
    """ImageNet's 2012 classification set in `root/train/CLASS` and `root/val/CLASS`.

    `root/val` is the test set, as in the paper; images for choices are held out of `root/train`. Augmented by
    RandomResizedCrop(224) and a flip; otherwise Resize(256) and CenterCrop(224), or in the same ratio for another
    `image_size`. Normalised with the usual mean (.485, .456, .406) and standard deviation (.229, .224, .225).

        >>> rb.ImageNet(root="imagenet", batch_size=256).image_size
        224

    Args:
        root: folder of `train` and `val`
        batch_size: images per batch and process
        val_size: training images to hold out for validation; 10,000 if not given
        train_size: how many of the others to train on; all if not given
        augment: whether training images are augmented
        seed: of the order of training images, and of augmentation
        num_workers: processes that decode, for each process that trains
        image_size: height and width of the network's input
    """

    name = "imagenet"
    num_classes = 1000
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    default_val_size = 10_000
    published_size = 1_281_167

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        val_size: int | None = None,
        train_size: int | None = None,
        augment: bool = True,
        seed: int = 0,
        num_workers: int = 8,
        image_size: int = 224,
    ) -> None:
        super().__init__(root, batch_size, val_size, train_size, augment, seed)
        check_least("num_workers", num_workers, 0)
        check_least("image_size", image_size, 1)
        self.num_workers, self.image_size = num_workers, image_size
        self.input_shape = (3, image_size, image_size)

    def transforms(self) -> tuple[Transform, Transform]:
        """The transforms that bring an image to the network's size: plainly, and at random."""
        from torchvision.transforms import v2

        size = self.image_size
        fit = v2.Compose([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)])
        return fit, v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip()])

    def open_part(self, part: Split) -> Images:
        folder = Path(self.root) / ("val" if part == "test" else part)
        found = len(class_names(folder))
        if found != self.num_classes:
            raise InputError(f"root has {found} class folders in {folder}, ImageNet has 1000: use image_folder")
        return FolderImages(folder, *self.transforms(), self.normalisation(), self.num_workers)
