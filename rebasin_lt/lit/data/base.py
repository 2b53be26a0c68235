"""`ImageData`: splits, loaders and sweeps of a dataset of labelled images; one subclass per dataset."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, Literal

import torch
from lightning import LightningDataModule
from torch import Tensor

from rebasin_lt.errors import InputError, check_least
from rebasin_lt.lit.data.epoch_batches import SPLIT, EpochBatches, seeded
from rebasin_lt.lit.data.loader import ImageLoader, Images, Normalisation
from rebasin_lt.settings.signatures import arguments, given
from rebasin_lt.storage.paths import expanded

Split = Literal["train", "val", "test"]
_SPLIT_SEED = 0


def _recording(constructor: Callable[..., None]) -> Callable[..., None]:
    """The constructor of a dataset, which also keeps what it was given, if it is not one of a base class.

    (A `__new__` would hide the arguments from `help`, and those that `**kwargs` hands on from Lightning's CLI.)
    """

    @wraps(constructor)
    def recorded(self: ImageData, *args: Any, **kwargs: Any) -> None:
        if type(self).__init__ is recorded:
            self._given = given(type(self), args, kwargs)
        constructor(self, *args, **kwargs)

    recorded.records = True  # type: ignore[attr-defined]
    return recorded


class ImageData(LightningDataModule):
    """Images for training, for choices (`val`), and for the one final test.

    Validation images are held out of the training images at random (not stratified), by a seed that is fixed: every
    run of every seed trains on the same images. Batches and augmentation are a function of `seed` and epoch alone.
    Training leaves out the images that do not fill a last batch, as the paper's code.

    A dataset of your own is a subclass that has `num_classes`, `input_shape`, `mean` and `std`, and `open_part`. Where
    a configuration or a command asks for a dataset's name, its is `package.module:Class`. Checkpoints say how it was
    made if its constructor was given primitives only.

        >>> issubclass(rb.Digits, rb.ImageData)
        True

    Args:
        root: folder of the dataset
        batch_size: images per batch and process
        val_size: training images to hold out for validation; the dataset's `default_val_size` if not given
        train_size: how many of the others to train on; all if not given
        augment: whether training images are augmented
        seed: of the order of training images, and of augmentation

    Raises InputError for numbers that cannot be; and in `setup`, for files that are not there.
    """

    name: str  # in the registry; of a class that is not of this package `package.module:Class`
    num_classes: int
    input_shape: tuple[int, int, int]
    mean: ClassVar[tuple[float, ...]]  # of pixels in [0, 1], by channel
    std: ClassVar[tuple[float, ...]]
    padding: ClassVar[int] = 0  # of the random crop in augmentation
    flip: ClassVar[bool] = False
    default_val_size: ClassVar[int] = 5000
    published_size: ClassVar[int | None] = None
    """Training images, those to hold out included, where every copy has them."""
    _given: dict[str, Any] | None = None

    @_recording
    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        val_size: int | None = None,
        train_size: int | None = None,
        augment: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root, self.batch_size, self.augment, self.seed = expanded(root, "root"), batch_size, augment, seed
        self.val_size = self.default_val_size if val_size is None else val_size
        self.train_size = train_size
        if batch_size is None:
            raise InputError("batch_size is None, expected at least 1")
        for argument, least in (("batch_size", 1), ("val_size", 0), ("train_size", 1), ("seed", 0)):
            check_least(argument, getattr(self, argument), least)
        self._opened: dict[Split, Images] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__module__.partition(".")[0] != __name__.partition(".")[0]:
            cls.name = f"{cls.__module__}:{cls.__qualname__}"
            cls.published_size = vars(cls).get("published_size")  # of a base class's dataset it says nothing
        if not hasattr(cls.__init__, "records"):  # its own, or that of a class which is no dataset
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    @abstractmethod
    def open_part(self, part: Split) -> Images:
        """Read `train` (with the images to hold out) or `test`. Raises InputError where the files are not there.

        `ResidentImages(pixels, labels, self.normalisation(), padding, flip)` is what images in memory become.
        """
        raise InputError(f"data {self.name} has no method open_part(self, part), which reads its images: write it")

    def normalisation(self) -> Normalisation:
        """By `mean` and `std`, for pixels from 0 to 255."""
        return Normalisation(self.mean, self.std)

    def settings(self) -> dict[str, Any] | None:
        """The settings with which `build_data` makes this again, in primitives; not whether to download.

        None where it cannot be said: for a class of a function; where an argument was no primitive, is called `name`,
        or is none that the class says it takes; where it needs `download`; and where what makes the object is not the
        class's `__init__`, as in a dataclass.
        """
        taken, name = arguments(type(self)), type(self).name
        if self._given is None or "<locals>" in name or "name" in taken or not taken.keys() >= self._given.keys():
            return None
        values = {key: value for key, value in self._given.items() if key != "download"}
        needed = {key for key, argument in taken.items() if argument.default is argument.empty}
        return {"name": name, **copy.deepcopy(values)} if values.keys() >= needed else None

    def setup(self, stage: str | None = None) -> None:
        """Read what `stage` (fit, validate, test, predict, or None for all) needs; later calls cost nothing."""
        if stage == "validate":
            self._check_has_val()
        if stage in {None, "fit", "validate"}:
            self._images("train")
            if self._has_val():
                self._images("val")
        if stage in {None, "test", "predict"}:
            self._images("test")

    def train_dataloader(self) -> ImageLoader:
        device, ranks = self._place()
        images, indices = self._images("train")
        overfit = self._overfits()
        sampler = EpochBatches(indices, self.batch_size, shuffle=not overfit, drop_last=True, seed=self.seed, **ranks)
        if not len(sampler):
            raise InputError(
                f"batch_size is {self.batch_size}, but {self.name} has {len(indices)} training images for "
                f"{sampler.world_size} process(es): expected at most {len(indices) // sampler.world_size}"
            )
        return images.loader(sampler, self.augment and not overfit, device)

    def val_dataloader(self) -> ImageLoader | list[ImageLoader]:
        return self._evaluation("val") if self._has_val() else []

    def test_dataloader(self) -> ImageLoader:
        return self._evaluation("test")

    def predict_dataloader(self) -> ImageLoader:
        return self._evaluation("test")

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The batch itself: ours come on the device. Lightning's would look through it for tensors in every step."""
        return batch

    def sweep(
        self,
        split: Split = "train",
        *,
        num_images: int | None = None,
        batch_size: int | None = None,
        augment: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
    ) -> ImageLoader:
        """One pass over a split in an order drawn by `seed`, the same on every rank and every time it is iterated.

        The order is drawn, since files of class folders lie sorted by class: batches in their order would hold one or
        two classes, and whatever looks at batches (batch norm's statistics, the published matching, gradients of a
        few batches) would see other data than in training.

        Args:
            split: the training images (without those held out), `val` or `test`
            num_images: how many of them, the first in the order; all if not given
            batch_size: that of training if not given
            augment: as in training; also by `seed`
            seed: of the order and of augmentation
            device: where the batches lie; the CPU if not given

        Raises InputError for a split that is not there and for more images than it has.
        """
        if split not in {"train", "val", "test"}:
            raise InputError(f"split is {split!r}, expected train, val or test")
        if split == "val":
            self._check_has_val()
        batch_size = self.batch_size if batch_size is None else batch_size
        check_least("batch_size", batch_size, 1)
        self.prepare_data()
        images, indices = self._images(split)
        if num_images is not None and not 1 <= num_images <= len(indices):
            raise InputError(f"num_images is {num_images}, but {split} of {self.name} has {len(indices)} images")
        order = torch.randperm(len(indices), generator=seeded(SPLIT, seed))
        sampler = EpochBatches(indices[order[:num_images]], batch_size, seed=seed)
        return images.loader(sampler, augment, torch.device(device or "cpu"))

    def num_training_images(self) -> int:
        """Training images of an epoch, without those held out. Files in folders are counted, not decoded."""
        return len(self._hold_out(self._count("train"))[1])

    def _has_val(self) -> bool:
        return self.val_size > 0

    def _check_has_val(self) -> None:
        if not self._has_val():
            raise InputError(f"split is 'val', but {self.name} holds no images out: set val_size")

    def _evaluation(self, split: Split) -> ImageLoader:
        device, ranks = self._place()
        images, indices = self._images(split)
        return images.loader(EpochBatches(indices, self.batch_size, **ranks), False, device)

    def _images(self, split: Split) -> tuple[Images, Tensor]:
        """A set of images, and which of them belong to the split, shape (n,), int64."""
        if split == "test":
            images = self._part("test")
            return images, torch.arange(len(images))
        images = self._part("train")
        held_out, left = self._hold_out(len(images))
        return images, held_out if split == "val" else left

    def _count(self, part: Split) -> int:
        return len(self._part(part))

    def _part(self, part: Split) -> Images:
        if part not in self._opened:
            self._opened[part] = self.open_part(part)
        return self._opened[part]

    def _hold_out(self, count: int) -> tuple[Tensor, Tensor]:
        """Sorted indices of the validation and of the training images, out of `count`."""
        left = count - self.val_size
        if left < 1:
            raise InputError(
                f"val_size is {self.val_size}, but {self.name} has {count} images to train and validate on"
            )
        if self.train_size is not None and self.train_size > left:
            raise InputError(
                f"train_size is {self.train_size}, but {self.name} has {left} training images "
                f"({count} less {self.val_size} held out)"
            )
        order = torch.randperm(count, generator=seeded(SPLIT, _SPLIT_SEED))
        train = order[self.val_size :][: self.train_size]
        return order[: self.val_size].sort().values, train.sort().values

    def _overfits(self) -> bool:
        """True if the trainer is to see the same few batches in every epoch: as they lie there, without augmentation.

        Lightning exchanges the samplers of DataLoaders for that, which ours are not.
        """
        return float(getattr(self.trainer, "overfit_batches", 0)) > 0

    def _place(self) -> tuple[torch.device, dict[str, Any]]:
        """Device of the trainer, if there is one, and its rank and world size, as `EpochBatches` takes them."""
        if self.trainer is None:
            return torch.device("cpu"), {}
        ranks = {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return self.trainer.strategy.root_device, ranks
