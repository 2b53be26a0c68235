"""The images of every batch: a pure function of seed, epoch and rank, so that any epoch can be replayed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor

from rebasin_lt.errors import InputError

SPLIT, ORDER, AUGMENTATION = range(3)
"""What random numbers are for; the first argument of `seeded`."""


def seeded(purpose: int, seed: int, epoch: int = 0, index: int = 0) -> torch.Generator:
    """A generator of its own, on the CPU, for random numbers that depend on nothing but the arguments (all ≥ 0)."""
    words = np.random.SeedSequence((purpose, seed, epoch, index)).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))


@dataclass(eq=False)
class EpochBatches:
    """This rank's batches of image indices, epoch by epoch.

    For training (`shuffle`, `drop_last`) every rank has as many full batches as every other. For evaluation every
    image is on exactly one rank, none twice, in as many batches on every rank, because DDP synchronises buffers in
    every forward: a rank with fewer images has smaller batches, at worst empty ones.

    It can go on in mid-epoch (Lightning's protocol of `state_dict` and `load_state_dict`). Its length stays that of
    the whole epoch. After n batches the ranks together have seen the first n · batch_size · world_size images of the
    epoch's order: another number of ranks goes on after exactly those, as long as a step has as many images.

    Args:
        indices: the images to go through, shape (n,), int64
        batch_size: images per batch and rank
        shuffle: a new order in every epoch
        drop_last: leave out what does not fill a batch
        seed: of the order, and of augmentation
        rank: of this process
        world_size: how many processes share the images
    """

    indices: Tensor
    batch_size: int
    _: KW_ONLY
    shuffle: bool = False
    drop_last: bool = False
    seed: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        self.epoch = 0
        self.done = 0  # batches handed out in this epoch; counted by the loader, since its workers read ahead
        self._resume_at = 0

    def __len__(self) -> int:
        if self.drop_last:
            return len(self.indices) // self.world_size // self.batch_size
        return math.ceil(math.ceil(len(self.indices) / self.world_size) / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning at the start of every epoch. A position in another epoch is forgotten."""
        if epoch != self.epoch:
            self.epoch, self._resume_at = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """The position, equal on all ranks, and what a step of it is."""
        step = {"batch_size": self.batch_size, "world_size": self.world_size}
        return {"epoch": self.epoch, "done": self.done, **step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there. Raises InputError where a step had another number of images than here."""
        batch_size, world_size = (state.get(name, getattr(self, name)) for name in ("batch_size", "world_size"))
        if batch_size * world_size != self.batch_size * self.world_size:
            raise InputError(
                f"the run to resume took {batch_size} images on each of {world_size} process(es) in a step, this one "
                f"takes {self.batch_size} on {self.world_size}: go on with as many images in a step, or images would "
                "be seen twice or never"
            )
        self.epoch, self._resume_at = state["epoch"], state["done"]

    def begin(self, device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
        """The epoch's batches of indices on `device`; after a resume, once, those that were not done."""
        self.done, self._resume_at = self._resume_at, 0
        return self._cut(self._share().to(device))[self.done :]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """The same as (epoch, index) pairs: a DataLoader's workers need to know the epoch."""
        epoch = self.epoch
        for batch in self.begin():
            yield [(epoch, index) for index in batch.tolist()]

    def _share(self) -> Tensor:
        order = self.indices
        if self.shuffle:
            order = order[torch.randperm(len(order), generator=seeded(ORDER, self.seed, self.epoch))]
        return order[self.rank :: self.world_size]

    def _cut(self, share: Tensor) -> tuple[Tensor, ...]:
        batches: tuple[Tensor, ...] = share.split(self.batch_size)  # type: ignore[no-untyped-call]
        if self.drop_last:
            return batches[: len(self)]
        return batches if len(batches) == len(self) else share.tensor_split(len(self))
