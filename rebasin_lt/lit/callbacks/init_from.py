"""Start any LightningModule from the weights of a checkpoint."""

from __future__ import annotations

from lightning import Callback, LightningModule, Trainer

from rebasin_lt.lit.checkpoint import load_weights_


class InitFrom(Callback):
    """Copies weights and buffers into the module when `fit` begins; a resumed run goes on from its own.

    What `--model.init_from` does for our classifiers, for a LightningModule of yours: B from its rewind point, under a
    mask by `MaskGuard`; or a trained A to be pruned by `IterativeMagnitudePruning`. Epochs and steps count from 0, and
    optimisers and schedules are the module's own. Its place among the callbacks does not matter, nor whether the module
    makes its layers when it is constructed, in `setup` or in `configure_model`. What the module leaves out of its
    checkpoints may be missing in the file.

        >>> from lightning import Trainer
        >>> trainer = Trainer(callbacks=[rb.InitFrom("runs/a/rewind/1ep.ckpt")], logger=False, accelerator="cpu")

    Args:
        checkpoint: a checkpoint of the same module, or a state dict with its parameter names

    Raises InputError where names or shapes differ, BrokenFileError for a file that is damaged; before training.
    """

    def __init__(self, checkpoint: str) -> None:
        self.checkpoint = checkpoint

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0 and not trainer.ckpt_path:  # a resumed run has its own
            load_weights_(pl_module, self.checkpoint)
