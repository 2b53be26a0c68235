"""Large datasets: image files in class folders, decoded and augmented by worker processes on the CPU."""

from __future__ import annotations

import signal
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.lit.data.class_folders import class_names, image_files
from rebasin_lt.lit.data.epoch_batches import AUGMENTATION, EpochBatches, seeded
from rebasin_lt.lit.data.loader import Batch, ImageLoader, Normalisation
from rebasin_lt.lit.data.rgb import rgb

_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
Transform = Callable[[Tensor], Tensor]
"""Of one image, shape (3, H, W), uint8; randomness from torch's global generator, as torchvision's transforms."""


class FolderImages:
    """The image files below the class folders of `folder`.

    Classes are numbered by the sorted order of the folders' names, so they are the same for train and test.

    Args:
        folder: holds one folder per class
        fit: brings an image to the size of the network's input
        augment: the same at random, for training
        normalise: applied to every batch, on its device
        num_workers: processes that decode; 0 decodes in this one
    """

    def __init__(
        self, folder: Path, fit: Transform, augment: Transform, normalise: Normalisation, num_workers: int
    ) -> None:
        self.classes = class_names(folder)
        self.files = image_files(folder, self.classes)
        self.fit, self.augment, self.normalise = fit, augment, normalise
        self.num_workers = num_workers

    def __len__(self) -> int:
        return len(self.files)

    def loader(self, sampler: EpochBatches, augment: bool, device: torch.device) -> FolderLoader:
        return FolderLoader(self, sampler, augment, device)

    def decode(self, index: int) -> Tensor:  # shape: (3, H, W), uint8
        """One image file in RGB. Raises BrokenFileError for one that cannot be read or has more than 89 million pixels.

        Only formats of photographs are tried, whatever the file is called: some others run programs. Raises InputError
        as `rgb`.
        """
        from PIL import Image

        path = self.files[index][0]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path, formats=_FORMATS) as image:
                    return rgb(image)
        except InputError:
            raise
        except (
            *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error),
            *(Image.DecompressionBombError, Image.DecompressionBombWarning),
        ) as error:
            raise BrokenFileError(f"{path} is not a readable image: {error}") from error

    def all(self) -> tuple[Tensor, Tensor]:
        """Every image, as `fit` has it, shape (n, 3, H, W), uint8, and its label, shape (n,), int64."""
        pixels = torch.stack([self.fit(self.decode(index)) for index in range(len(self))])
        return pixels, torch.tensor([label for _, label in self.files])


class FolderLoader(ImageLoader):
    """Batches of image files; normalisation happens on the device, so that bytes travel there, not floats."""

    def __init__(self, images: FolderImages, sampler: EpochBatches, augment: bool, device: torch.device) -> None:
        super().__init__(sampler)
        self.device, self.normalise = device, images.normalise.to(device)
        reader = _Reader(images, sampler.seed, augment)
        self.workers = DataLoader(
            reader,
            batch_sampler=sampler,
            collate_fn=reader.batch,
            num_workers=images.num_workers,
            persistent_workers=images.num_workers > 0,  # the epoch comes with every index, so nothing in them ages
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else every epoch takes a number from the global one
            worker_init_fn=_outlast_signals,
        )

    @property
    def _iterator(self) -> Any:
        """The workers' iterator, under the name by which Lightning stops a DataLoader's workers as a loop ends.

        Left to the garbage collector, their pipes can be closed before they hear of it: each is then waited for in
        vain, 5 seconds long.
        """
        return self.workers._iterator

    @_iterator.setter
    def _iterator(self, value: Any) -> None:
        self.workers._iterator = value

    def _epoch(self) -> Iterator[Batch]:
        for pixels, labels in self._decoded():
            yield (
                self.normalise(pixels.to(self.device, non_blocking=True)),
                labels.to(self.device, non_blocking=True),
            )

    def _decoded(self) -> Iterator[Batch]:  # images as uint8, on the CPU
        try:
            yield from self.workers
        except (BrokenFileError, InputError) as error:
            # a worker's comes with its traceback as text; the last line is the message
            kind = type(error)
            raise kind(str(error).splitlines()[-1].removeprefix(f"{kind.__module__}.{kind.__name__}: ")) from error


def _outlast_signals(worker: int) -> None:
    """A job's signals reach every process of it; a run that saves before it stops still needs its workers.

    A second SIGTERM ends a worker: the last resort of a DataLoader whose workers do not end when told.
    """
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


class _Reader(Dataset[tuple[Tensor, int]]):
    """A worker process's reader: it turns an (epoch, index) pair into an image."""

    def __init__(self, images: FolderImages, seed: int, augment: bool) -> None:
        self.images, self.seed, self.augment = images, seed, augment

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        image, label = self.images.decode(index), self.images.files[index][1]
        if not self.augment:
            return self.images.fit(image), label
        generator = torch.default_generator  # all that torchvision draws from; in this process, CUDA's stay untouched
        before = generator.get_state()
        generator.set_state(seeded(AUGMENTATION, self.seed, epoch, index).get_state())
        try:
            return self.images.augment(image), label
        finally:
            generator.set_state(before)

    def batch(self, examples: list[tuple[Tensor, int]]) -> Batch:  # images as uint8
        """Images and labels in one tensor each; of none where there are more ranks than images."""
        if examples:
            return default_collate(examples)  # type: ignore[no-any-return]
        shape = self.images.fit(torch.zeros(3, 2, 2, dtype=torch.uint8)).shape
        return torch.empty(0, *shape, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)
