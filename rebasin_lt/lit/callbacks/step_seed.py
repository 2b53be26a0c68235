"""Random numbers of a training step that depend on the step alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer


class StepSeed(Callback):
    """Seeds the global generators of torch, NumPy and Python before every training step from seed, step and rank.

    Dropout and the like then need no state in a checkpoint: a resumed run draws what the uninterrupted one drew.

    Args:
        seed: of the run, at least 0
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        words = np.random.SeedSequence((self.seed, trainer.current_epoch, batch_idx, trainer.global_rank))
        low, high, numpy_seed = (int(word) for word in words.generate_state(3))
        torch.manual_seed(high << 32 | low)
        np.random.seed(numpy_seed)  # noqa: NPY002 - what modules of others draw from
        random.seed(numpy_seed)
