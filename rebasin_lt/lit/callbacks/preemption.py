"""Stop where a signal asks for it, without losing anything."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from rebasin_lt.errors import Preempted
from rebasin_lt.lit._compat import leave_children_alone, leave_signals_alone, step_is_complete
from rebasin_lt.lit.callbacks.resume_point import ResumePoint, ranks_can_agree, some_rank
from rebasin_lt.process.stop_request import stop_request


class Preemption(Checkpoint):
    """After SIGUSR1 or SIGTERM on any rank, all of them write one checkpoint after the same step and raise Preempted.

    The command line exits with 75 then, and the same command goes on from there. A signal during validation or on
    the last step of an epoch is granted when the next epoch begins, from the checkpoint at the end of this one; one
    that comes before training, when it begins, without a checkpoint. A run that has ended meanwhile is done.

        >>> point = rb.ResumePoint(every_minutes=15)
        >>> callbacks = [point, rb.Preemption(point)]

    Args:
        resume_point: what writes the checkpoint; without it the run stops at once and nothing is kept
    """

    state_key = "rebasin_lt.preemption"

    def __init__(self, resume_point: ResumePoint | None) -> None:
        self.resume_point = resume_point
        self._listening = ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self._listening.enter_context(stop_request)
            leave_signals_alone(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._listening.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._listening.close()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if some_rank(trainer, stop_request.signal is not None):
            self._stop(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not (ranks_can_agree(trainer, batch_idx) and some_rank(trainer, stop_request.signal is not None)):
            return
        if step_is_complete(trainer):
            if self.resume_point is not None:
                self.resume_point.write(trainer)
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        leave_children_alone(trainer)
        name = stop_request.signal or "a signal to another rank"
        raise Preempted(f"stopped by {name} after step {trainer.global_step}; the same command goes on from here")
