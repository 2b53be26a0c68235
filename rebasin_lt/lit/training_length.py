"""The length of training, and how much of it is done."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from rebasin_lt.errors import InputError


def is_short_try(trainer: Trainer) -> bool:
    """True for `fast_dev_run`, which sees a few batches and leaves no file: no length that was asked for is reached."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def steps_per_epoch(trainer: Trainer) -> int | None:
    """The steps by which `global_step` grows in every epoch; None if only the run will show it."""
    scheduled = any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if scheduled or math.isinf(trainer.num_training_batches) or not trainer.lightning_module.automatic_optimization:
        return None
    return -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)


def check_max_steps(trainer: Trainer, num_epochs: int, what: str) -> None:
    """Raise InputError where `trainer.max_steps` would end training before `what`, which takes so many epochs."""
    if is_short_try(trainer):
        return
    per_epoch, limit = steps_per_epoch(trainer), trainer.max_steps
    needed = 0 if per_epoch is None else num_epochs * per_epoch
    if -1 < limit < needed:
        raise InputError(
            f"trainer.max_steps is {limit}, but {what} takes {needed} steps ({num_epochs} epochs of {per_epoch}): "
            "leave it out"
        )


def epochs_done(trainer: Trainer) -> int:
    """Epochs behind us. At the end of training the last one counts, even if it was cut short."""
    progress: Any = trainer.fit_loop.epoch_progress.current
    return int(progress.processed)


def last_epoch_is_whole(trainer: Trainer) -> bool:
    """True if the epoch that ends, or ended, saw all its batches: `max_steps` or a callback may cut it anywhere."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return bool(progress.is_last_batch or progress.current.ready >= trainer.num_training_batches)


def check_every_epoch_has_batches(trainer: Trainer) -> None:
    """Raise InputError for a loader that gives its batches once: Lightning would count empty epochs without a word."""
    loader = trainer.train_dataloader
    if isinstance(loader, Iterator) and trainer.max_epochs != 1:
        raise InputError(
            f"train_dataloader returns a {type(loader).__name__}, which is used up after one pass, and max_epochs is "
            f"{trainer.max_epochs}: return a loader, such as DataLoader(batches, batch_size=None) of a list of batches"
        )
