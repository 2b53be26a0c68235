"""Small datasets: all images as one tensor in memory, the training device's at best, batches cut out in one gather."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from rebasin_lt.lit.data.epoch_batches import AUGMENTATION, EpochBatches, seeded
from rebasin_lt.lit.data.loader import Batch, ImageLoader, Normalisation


class ResidentImages:
    """Images and labels in memory; each device that a loader asks for gets its copy once.

        >>> from rebasin_lt.lit.data.loader import Normalisation
        >>> pixels = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
        >>> images = rb.ResidentImages(pixels, torch.arange(6), Normalisation((0.5,), (0.5,)), padding=1)
        >>> images.pixels.shape
        torch.Size([6, 1, 10, 10])

    Args:
        pixels: shape (n, C, H, W), uint8
        labels: shape (n,), int64
        normalise: applied to every batch
        padding: black pixels around every image, in which augmentation shifts it: RandomCrop((H, W), padding)
        flip: whether augmentation mirrors every second image
        on_device: else images stay where they are, and batches are copied to the loader's device
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        normalise: Normalisation,
        padding: int = 0,
        flip: bool = False,
        on_device: bool = True,
    ) -> None:
        self.height, self.width = pixels.shape[2:]
        padded = pad(pixels, [padding] * 4) if padding else pixels
        self.pixels = padded.contiguous()  # shape: (n, C, H + 2·padding, W + 2·padding)
        self.labels, self.normalise = labels, normalise
        self.padding, self.flip, self.on_device = padding, flip, on_device
        self._copies: dict[torch.device, ResidentImages] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def loader(self, sampler: EpochBatches, augment: bool, device: torch.device) -> ResidentLoader:
        return ResidentLoader(self.on(device) if self.on_device else self, sampler, augment, device)

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def on(self, device: torch.device) -> ResidentImages:
        """The same images on `device`."""
        device = torch.empty(0, device=device).device  # `cuda` is `cuda:0`, and gets no copy of its own
        if device == self.device:
            return self
        if device not in self._copies:
            copy = object.__new__(ResidentImages)
            copy.__dict__.update(self.__dict__, _copies={})
            copy.pixels, copy.labels = self.pixels.to(device), self.labels.to(device)
            self._copies[device] = copy
        return self._copies[device]

    def random_views(self, generator: torch.Generator) -> Tensor:  # shape: (n, 3), on the images' device
        """For every image, at random: its first row, its first column, and 1 if it is mirrored, else 0.

        Uniform over the (2 · padding + 1)² shifts, and the mirrored ones if images are flipped: the distribution of
        torchvision's RandomCrop with padding and RandomHorizontalFlip.
        """
        top, left = torch.randint(2 * self.padding + 1, (2, len(self)), generator=generator)
        mirrored = torch.randint(1 + int(self.flip), (len(self),), generator=generator)
        return torch.stack([top, left, mirrored], dim=1).to(self.device)

    def plain(self, indices: Tensor) -> Tensor:  # shape: (batch, C, H, W), uint8
        """The images as they are; indices of shape (batch,)."""
        rows, columns = (slice(self.padding, self.padding + size) for size in (self.height, self.width))
        return self.pixels.index_select(0, indices)[:, :, rows, columns]

    def augmented(self, indices: Tensor, views: Tensor, rows: Tensor) -> Tensor:  # shape: (batch, C, H, W), uint8
        """The images as `random_views` has them; `rows` is `self.rows()`.

        Rows are gathered whole, from wherever in memory a view has their first pixel: that is several times as fast as
        to index pixels by image, channel, row and column.
        """
        count, (channels, height, width) = len(indices), self.pixels.shape[1:]
        top, left, mirrored = views.index_select(0, indices).unbind(1)
        first = (indices * (channels * height) + top) * width + left
        everywhere = self.pixels.view(-1).unfold(0, self.width, 1)  # rows that begin at any pixel; a view
        gathered = everywhere.index_select(0, (first[:, None] + rows).view(-1))
        pixels = gathered.view(count, channels, self.height, self.width)
        if not self.flip:
            return pixels
        numbers = torch.arange(count, device=self.device)
        return torch.cat([pixels, pixels.flip(3)]).index_select(0, numbers + count * mirrored)

    def rows(self) -> Tensor:
        """The memory at which a view's rows begin, from its first pixel on: shape (C · H,), on the images' device."""
        channels, height, width = self.pixels.shape[1:]
        starts = [torch.arange(size, device=self.device) for size in (channels, self.height)]
        return ((starts[0][:, None] * height + starts[1]) * width).view(-1)


class ResidentLoader(ImageLoader):
    """Batches out of `ResidentImages`, on `device`. All that is random in an epoch moves to the images at its start."""

    def __init__(self, images: ResidentImages, sampler: EpochBatches, augment: bool, device: torch.device) -> None:
        super().__init__(sampler)
        self.images, self.device = images, device
        self.normalise = images.normalise.to(device)
        self.augment = augment and (images.padding > 0 or images.flip)

    def _epoch(self) -> Iterator[Batch]:
        images = self.images
        batches = self.sampler.begin(images.device)
        for indices, pixels in zip(batches, self._pixels(batches), strict=True):
            labels = images.labels.index_select(0, indices)
            yield self.normalise(pixels.to(self.device)), labels.to(self.device)

    def _pixels(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        images, sampler = self.images, self.sampler
        if not self.augment:
            yield from map(images.plain, batches)
            return
        rows = images.rows()
        views = images.random_views(seeded(AUGMENTATION, sampler.seed, sampler.epoch))
        for indices in batches:
            yield images.augmented(indices, views, rows)
