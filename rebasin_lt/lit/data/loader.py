"""The interface of every loader here, and of every set of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from rebasin_lt.lit.data.epoch_batches import EpochBatches

Batch = tuple[Tensor, Tensor]
"""Images, shape (batch, C, H, W), float32, normalised; labels, shape (batch,), int64; on the loader's device."""


class ImageLoader(ABC):
    """Batches on the device, again and again; `sampler` says which, and Lightning tells it the epoch.

    An epoch is fixed when its first batch is asked for, not when the iterator is made: Lightning makes the first
    iterator before it sets the epoch (Lightning-AI/pytorch-lightning#21938), and a resumed run would else repeat the
    order of epoch 0. Lightning stores `state_dict` in its checkpoints, so a run goes on after its last batch.
    """

    batch_sampler = None  # Lightning asks every evaluation loader that has a `sampler`

    def __init__(self, sampler: EpochBatches) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._epoch():
            self.sampler.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return self.sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.sampler.load_state_dict(state_dict)

    @abstractmethod
    def _epoch(self) -> Iterator[Batch]:
        """The batches that are left of the sampler's epoch."""


class Images(Protocol):
    """A set of labelled images, numbered from 0."""

    def __len__(self) -> int: ...

    def loader(self, sampler: EpochBatches, augment: bool, device: torch.device) -> ImageLoader:
        """A loader of the sampler's batches; augmentation depends on its seed, the epoch and the image alone."""


class Normalisation:
    """(pixel − mean) / std per channel, for pixels that are whole numbers from 0 to `white`.

    `mean` and `std` are those of pixels scaled to [0, 1].
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], white: int = 255) -> None:
        self.mean = torch.tensor(mean).mul_(white).view(-1, 1, 1)
        self.std = torch.tensor(std).mul_(white).view(-1, 1, 1)

    def to(self, device: torch.device) -> Normalisation:
        moved = object.__new__(Normalisation)
        moved.mean, moved.std = self.mean.to(device), self.std.to(device)
        return moved

    def __call__(self, pixels: Tensor) -> Tensor:  # shape: (batch, C, H, W), uint8 -> the same, float32
        return torch.sub(pixels, self.mean).div_(self.std)
