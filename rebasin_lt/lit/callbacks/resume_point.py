"""`last.ckpt`: where a run goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from rebasin_lt.errors import BrokenFileError, InputError, RebasinError
from rebasin_lt.lit._compat import step_is_complete
from rebasin_lt.lit.checkpoint import METADATA, describe
from rebasin_lt.lit.checkpoint_file import read_checkpoint
from rebasin_lt.lit.checkpoint_io import SafeCheckpointIO
from rebasin_lt.lit.training_length import check_every_epoch_has_batches
from rebasin_lt.lit.training_state import SIZE, check_counts, check_options, check_training_state, size_of
from rebasin_lt.process.stop_request import stop_request
from rebasin_lt.storage.plain_content import plain_content

LAST = "last.ckpt"
_ASK_EVERY = 10  # steps: to agree with other ranks means to wait for them


class ResumePoint(Checkpoint):
    """Writes `last.ckpt` into the trainer's root folder at the end of every epoch, and as often as asked in between.

    In between it is written after whole optimiser steps only, and not where validation or the end of an epoch comes
    next: what happens there would be missing after a resume; and once more as training ends, if a callback changed the
    weights there. A checkpoint to go on from must hold all that makes a resume exact, or is refused with a
    BrokenFileError that names the part.

        >>> callbacks = [rb.ResumePoint(every_steps=1000)]

    Args:
        every_steps: also so many optimiser steps after the last time
        every_minutes: also so many minutes after the last time
        every_epoch: at the end of every epoch; else only where one of the others is due, or the run was told to stop
    """

    state_key = "rebasin_lt.resume_point"

    def __init__(
        self, every_steps: int | None = None, every_minutes: float | None = None, every_epoch: bool = True
    ) -> None:
        for name, value in (("every_steps", every_steps), ("every_minutes", every_minutes)):
            if value is not None and not value > 0:
                raise InputError(f"resume {name} is {value}, expected a positive number")
        self.every_steps, self.every_minutes, self.every_epoch = every_steps, every_minutes, every_epoch
        self._step, self._time = 0, 0.0  # of the last one
        self._resumed: dict[str, list[Any]] = {}  # the optimisers and schedules of the checkpoint to go on from

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._resumed = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            check_training_state(checkpoint, trainer.ckpt_path or LAST)
            self._resumed = {part: checkpoint[part] for part in ("optimizer_states", "lr_schedulers")}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _check_hyperparameters(trainer, pl_module)
        path = trainer.ckpt_path
        if path and not self._resumed:  # Lightning asks no callback if the file holds none
            raise BrokenFileError(f"checkpoint {path} cannot be gone on from: it has no callbacks")
        if path:
            counts = (len(trainer.optimizers), len(trainer.lr_scheduler_configs))
            check_counts(self._resumed, dict(zip(self._resumed, counts, strict=True)), path)
            check_options(trainer.optimizers, self._resumed["optimizer_states"], path)
        self._resumed = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_every_epoch_has_batches(trainer)
        self._step, self._time = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (self._step_due(trainer) or self._time_due(trainer, batch_idx)) and step_is_complete(trainer):
            self.write(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (
            self.every_epoch
            or self._step_due(trainer)
            or some_rank(trainer, self._is_late() or stop_request.signal is not None)
        ):
            self.write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Callbacks may change weights here, as StochasticWeightAveraging does: the file has those that are left."""
        state = pl_module.state_dict()  # on every rank: hooks may have them meet
        if some_rank(trainer, trainer.is_global_zero and self._holds_other_weights(trainer, state)):
            self.write(trainer)

    def _holds_other_weights(self, trainer: Trainer, state: Mapping[str, Any]) -> bool:
        """True if the file was written after the last step, with other values of the same tensors than are left.

        A module of other tensors, such as one that was fused or cast to be exported, is none to go on with; nor is one
        whose average lies in the file in its stead. A file that cannot be read stays as it is.
        """
        path = Path(trainer.default_root_dir) / LAST
        if self._step != trainer.global_step or not path.exists():
            return False
        try:
            content = read_checkpoint(path)
        except (RebasinError, OSError):
            return False
        written = content.get("state_dict", {})
        if "current_model_state" in content or {name: _form(value) for name, value in written.items()} != {
            name: _form(value) for name, value in state.items()
        }:
            return False
        pairs = [(tensor, state[name]) for name, tensor in written.items() if isinstance(tensor, Tensor)]
        return any(not torch.equal(ours.detach().cpu(), theirs.cpu()) for theirs, ours in pairs)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        about = {**describe(trainer, pl_module), SIZE: size_of(checkpoint)}
        checkpoint.setdefault(METADATA, {}).update(about)

    def write(self, trainer: Trainer) -> None:
        """Write the checkpoint, whole or not at all; on every rank."""
        trainer.save_checkpoint(Path(trainer.default_root_dir) / LAST)
        self._step, self._time = trainer.global_step, time.monotonic()

    def _step_due(self, trainer: Trainer) -> bool:
        return self.every_steps is not None and trainer.global_step - self._step >= self.every_steps

    def _time_due(self, trainer: Trainer, batch_idx: int) -> bool:
        if self.every_minutes is None or not ranks_can_agree(trainer, batch_idx):
            return False
        return some_rank(trainer, self._is_late())

    def _is_late(self) -> bool:
        return self.every_minutes is not None and time.monotonic() - self._time >= 60 * self.every_minutes


def _form(value: Any) -> Any:
    return (value.shape, value.dtype) if isinstance(value, Tensor) else None


def _check_hyperparameters(trainer: Trainer, module: LightningModule) -> None:
    """Raise InputError, before the first step, for hyperparameters that no checkpoint could be read back with."""
    if isinstance(trainer.strategy.checkpoint_io, SafeCheckpointIO):
        for holder in filter(None, (module, getattr(trainer, "datamodule", None))):
            plain_content(dict(holder.hparams), holder.CHECKPOINT_HYPER_PARAMS_KEY)


def ranks_can_agree(trainer: Trainer, batch_idx: int) -> bool:
    """True if the ranks ask each other after this batch: one process after each, several after every tenth step."""
    return trainer.world_size == 1 or (batch_idx + 1) % (_ASK_EVERY * trainer.accumulate_grad_batches) == 0


def some_rank(trainer: Trainer, value: bool) -> bool:
    """True if `value` is true on any rank. With one process it costs nothing; else every rank must ask, and waits."""
    return bool(trainer.strategy.reduce_boolean_decision(value, all=False))
