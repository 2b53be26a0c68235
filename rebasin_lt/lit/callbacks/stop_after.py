"""Training that ends before its length, as the whole would be there."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer

from rebasin_lt.lit.training_length import epochs_done


class StopAfter(Callback):
    """Ends training after so many epochs of the trainer's `max_epochs`, with the schedule of all of them.

    Up to there every bit is that of the whole training: modules and schedules are told its full length. A run that
    goes on from a checkpoint at that point, or with 0 epochs, takes no step.

    Args:
        num_epochs: epochs to train, at least 0
    """

    def __init__(self, num_epochs: int) -> None:
        self.num_epochs = num_epochs

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_if_due(trainer)

    def _stop_if_due(self, trainer: Trainer) -> None:
        if epochs_done(trainer) >= self.num_epochs:
            trainer.should_stop = True
