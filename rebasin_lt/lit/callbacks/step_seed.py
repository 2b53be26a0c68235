"""Random numbers of a training step that depend on the step alone."""

from __future__ import annotations

import random
import struct
from hashlib import blake2b
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
        step = struct.pack("<4Q", self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch_seed, numpy_seed = struct.unpack("<QI", blake2b(step, digest_size=12).digest())
        _seed_torch(torch_seed, pl_module.device.type)
        np.random.seed(numpy_seed)  # noqa: NPY002 - what modules of others draw from
        random.seed(numpy_seed)


def _seed_torch(seed: int, device: str) -> None:
    """`torch.manual_seed` for the CPU and this kind of device alone.

    For each kind that was not used yet, torch's own writes a stack trace down, which takes as long as a small step.
    """
    if device not in {"cpu", "cuda"}:
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device == "cuda":
        torch.cuda.manual_seed_all(seed)
