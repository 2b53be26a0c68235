"""End a run that diverged, before its last good checkpoint is replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from rebasin_lt.errors import DivergedError
from rebasin_lt.lit.callbacks.resume_point import some_rank
from rebasin_lt.lit.checkpoint_file import first_not_finite


class Divergence(Checkpoint):
    """Raises DivergedError at the end of an epoch that left weights, or its last step a loss, that are not finite.

    No step waits for the device: the last loss is kept as the tensor that it is, and read when the epoch is over. A
    loss that is not finite in mid-epoch, but is again at its end, is the business of whoever skipped that step; so is
    a metric. It is a `Checkpoint` because those come last; it stands after what writes metrics, and before what
    writes checkpoints.
    """

    state_key = "rebasin_lt.divergence"

    def __init__(self) -> None:
        self._outputs: Any = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._outputs = outputs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loss, self._outputs = _loss(self._outputs), None
        when = f"at the end of epoch {trainer.current_epoch} (step {trainer.global_step})"
        advice = "lower the learning rate; checkpoints from before are kept"
        name = first_not_finite(pl_module.state_dict())
        if some_rank(trainer, name is not None):  # statistics of batches differ between ranks
            raise DivergedError(
                f"the run diverged: {name or 'a tensor of another rank'} holds NaN or infinity {when}; {advice}"
            )
        if some_rank(trainer, loss is not None and not bool(loss.isfinite().all())):
            value = "not finite on another rank" if loss is None else loss.detach().float().mean().item()
            raise DivergedError(
                f"the run diverged: the training loss is {value} {when}, its weights are finite; {advice}"
            )


def _loss(outputs: Any) -> Tensor | None:
    """The loss that `training_step` gave, if it gave one."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return loss if isinstance(loss, Tensor) else None
