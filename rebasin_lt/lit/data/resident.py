"""Small datasets: all images as one tensor on the training device, batches cut out of it in one operation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from rebasin_lt.lit.data.epoch_batches import AUGMENTATION, EpochBatches, seeded
from rebasin_lt.lit.data.loader import Batch, ImageLoader, Normalisation


class ResidentImages:
    """Images and labels in memory; each device that a loader asks for gets its copy once.

    Args:
        pixels: shape (n, C, H, W), uint8
        labels: shape (n,), int64
        normalise: applied to every batch
        padding: black pixels around every image, in which augmentation shifts it: RandomCrop((H, W), padding)
        flip: whether augmentation mirrors every second image
    """

    def __init__(
        self, pixels: Tensor, labels: Tensor, normalise: Normalisation, padding: int = 0, flip: bool = False
    ) -> None:
        self.height, self.width = pixels.shape[2:]
        self.pixels = pad(pixels, [padding] * 4) if padding else pixels  # shape: (n, C, H + 2·padding, W + 2·padding)
        self.labels, self.normalise = labels, normalise
        self.padding, self.flip = padding, flip
        self._copies: dict[torch.device, ResidentImages] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def loader(self, sampler: EpochBatches, augment: bool, device: torch.device) -> ResidentLoader:
        return ResidentLoader(self.on(device), sampler, augment)

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def on(self, device: torch.device) -> ResidentImages:
        """The same images on `device`."""
        if device == self.device:
            return self
        if device not in self._copies:
            copy = object.__new__(ResidentImages)
            copy.__dict__.update(self.__dict__, _copies={})
            copy.pixels, copy.labels = self.pixels.to(device), self.labels.to(device)
            copy.normalise = self.normalise.to(device)
            self._copies[device] = copy
        return self._copies[device]

    def random_views(self, generator: torch.Generator) -> Tensor:  # shape: (n, 3), on the images' device
        """For every image, at random: its first row, its first column, and ±1, the direction of its columns.

        Uniform over the (2 · padding + 1)² shifts, and the mirrored ones if images are flipped: the distribution of
        torchvision's RandomCrop with padding and RandomHorizontalFlip.
        """
        top, left = torch.randint(2 * self.padding + 1, (2, len(self)), generator=generator)
        mirrored = torch.randint(1 + int(self.flip), (len(self),), generator=generator)
        views = torch.stack([top, left + mirrored * (self.width - 1), 1 - 2 * mirrored], dim=1)
        return views.to(self.device)

    def plain(self, indices: Tensor) -> Batch:
        """The images as they are; indices of shape (batch,)."""
        rows, columns = (slice(self.padding, self.padding + size) for size in (self.height, self.width))
        return self.normalise(self.pixels[:, :, rows, columns][indices]), self.labels[indices]

    def augmented(self, indices: Tensor, views: Tensor, grid: tuple[Tensor, Tensor, Tensor]) -> Batch:
        """The images as `random_views` has them, in one gather; `grid` is `self.grid()`."""
        channels, rows, columns = grid
        top, left, step = views[indices].unbind(1)
        pixels = self.pixels[
            indices[:, None, None, None],
            channels[None, :, None, None],
            (top[:, None] + rows)[:, None, :, None],
            (left[:, None] + step[:, None] * columns)[:, None, None, :],
        ]
        return self.normalise(pixels), self.labels[indices]

    def grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of channels, rows and columns, each a vector on the images' device."""
        channels, rows, columns = (
            torch.arange(size, device=self.device) for size in (self.pixels.shape[1], self.height, self.width)
        )
        return channels, rows, columns


class ResidentLoader(ImageLoader):
    """Batches out of `ResidentImages`. All that is random in an epoch moves to the device once, at its start."""

    def __init__(self, images: ResidentImages, sampler: EpochBatches, augment: bool) -> None:
        super().__init__(sampler)
        self.images = images
        self.augment = augment and (images.padding > 0 or images.flip)

    def _epoch(self) -> Iterator[Batch]:
        images, sampler = self.images, self.sampler
        batches = sampler.begin(images.device)
        if not self.augment:
            yield from map(images.plain, batches)
            return
        grid = images.grid()
        views = images.random_views(seeded(AUGMENTATION, sampler.seed, sampler.epoch))
        for indices in batches:
            yield images.augmented(indices, views, grid)
