"""The common part of the datasets that torchvision knows where to download."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from rebasin_lt.errors import InputError, RebasinError
from rebasin_lt.lit.data.base import ImageData, Split
from rebasin_lt.lit.data.resident import ResidentImages

_AT_ONCE = 1000  # images made smaller in one operation, as float32


class TorchvisionData(ImageData):
    """A dataset below `root`, where torchvision puts it; held in memory.

    Args:
        root: folder of the dataset
        batch_size: images per batch and process
        val_size: training images to hold out for validation; the dataset's `default_val_size` if not given
        train_size: how many of the others to train on; all if not given
        augment: whether training images are augmented
        seed: of the order of training images, and of augmentation
        image_size: side of the images for the network, each pixel a mean of those it covers; as they are if not given
        resident: keep the images in the training device's memory; else in the host's, from where batches are copied
        download: fetch what is missing
    """

    torchvision_name: ClassVar[str]  # of torchvision's class, which downloads
    torchvision_parts: ClassVar[tuple[dict[str, Any], ...]] = ({"train": True}, {"train": False})  # how it names them

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 128,
        val_size: int | None = None,
        train_size: int | None = None,
        augment: bool = True,
        seed: int = 0,
        image_size: int | None = None,
        resident: bool = True,
        download: bool = False,
    ) -> None:
        super().__init__(root, batch_size, val_size, train_size, augment, seed)
        self.image_size, self.resident, self.download = image_size, resident, download
        channels, self._side, _ = type(self).input_shape
        if image_size is not None and not 0 < image_size <= self._side:
            raise InputError(
                f"image_size is {image_size}, expected 1 to {self._side}, the side of {self.name}'s images"
            )
        self.input_shape = (channels, image_size or self._side, image_size or self._side)

    def _torchvision(self) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.torchvision_name)

    @abstractmethod
    def _read(self, part: Split) -> tuple[Tensor, Tensor]:
        """Pixels, shape (n, C, H, W), uint8, and labels, shape (n,), int64. Raises InputError, BrokenFileError."""

    def prepare_data(self) -> None:
        """Download if that was asked for; Lightning calls this in one process per node."""
        if not self.download:
            return
        try:
            for part in self.torchvision_parts:
                self._torchvision()(self.root, **part, download=True)
        except (RuntimeError, OSError) as error:
            raise RebasinError(
                f"download of {self.name} to {self.root} failed: {str(error).splitlines()[0]}"
            ) from error

    def open_part(self, part: Split) -> ResidentImages:
        pixels, labels = self._read(part)
        if self.image_size not in {None, self._side}:
            pixels = _smaller(pixels, self.input_shape[1])
        padding = round(self.padding * self.input_shape[1] / self._side)
        return ResidentImages(pixels, labels, self.normalisation(), padding, self.flip, self.resident)

    def _missing(self, what: str, *places: Path) -> InputError:
        folders = " or ".join(str(place) for place in places)
        return InputError(
            f"root is {self.root!r}, but {what} of {self.name} is not in {folders}: set root to where the data lies, "
            "or download: true"
        )


def _smaller(pixels: Tensor, side: int) -> Tensor:
    """uint8 images, shape (n, C, H, H), as (n, C, side, side), by area."""
    parts = [interpolate(part.float(), size=(side, side), mode="area") for part in torch.split(pixels, _AT_ONCE)]
    return torch.cat([part.round().to(torch.uint8) for part in parts])
