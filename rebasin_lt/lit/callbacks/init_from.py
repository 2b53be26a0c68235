"""Start any LightningModule from the weights of a checkpoint."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer

from rebasin_lt.lit.checkpoint import load_weights_


class InitFrom(Callback):
    """Copies weights and buffers into the module when `fit` begins; a resumed run goes on from its own.

    What `--model.init_from` does for our classifiers, for a LightningModule of yours: B from its rewind point, under a
    mask by `MaskGuard`; or a trained A to be pruned by `IterativeMagnitudePruning`. Epochs and steps count from 0, and
    optimisers and schedules are the module's own. Its place among the callbacks does not matter. The module must have
    its weights when it is constructed: what it makes or draws in `configure_model` or `setup` comes later. The file is
    read when a run is resumed, too.

    Args:
        checkpoint: a checkpoint of the same module, or a state dict with its parameter names

    Raises InputError where names or shapes differ, BrokenFileError for a file that is damaged; before training.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.global_step == 0:  # a resumed run gets its own back after this
            load_weights_(pl_module, self.checkpoint)
