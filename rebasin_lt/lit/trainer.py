"""A Trainer as this project uses it: quiet, our samplers, everything under one folder."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from rebasin_lt.errors import InputError
from rebasin_lt.lit._compat import NoProfiler, skip_idle_hooks
from rebasin_lt.lit.checkpoint_io import SafeCheckpointIO

_NOT_OUR_BUSINESS = (
    ".*does not have many workers.*",  # data that lies in memory needs none
    ".*You passed in a `val_dataloader` but have no `validation_step`.*",  # a module of the user's own
    ".*number of training batches .* is smaller than the logging interval.*",  # nothing is logged per step
    ".*Total length of `list` across ranks is zero.*",  # val_size 0: no validation, as it was asked for
    ".*GPU available but not used.*",
    ".*You requested to overfit but enabled .* dataloader shuffling.*",  # our data modules do not shuffle then
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*Checkpoint directory .* exists and is not empty.*",  # a resume
    ".*The dirpath has changed from .*",  # a run's folder may move; its last.ckpt is given by name
    ".*callbacks used to create the checkpoint need to be provided.*",  # evaluation needs none; fit compares configs
    ".*The `srun` command is available on your system but is not used.*",  # a login node, or a short try
    ".*`self.log\\('(train|val|test|imp|dst)/.*sync_dist=True.*",  # ours are sums of all processes, or equal on all
    ".*is set, but there is no last checkpoint available.*",  # a beginning
)


_SHARDING = ("fsdp", "deepspeed", "modelparallel", "model_parallel")


def check_strategy(strategy: object, where: str) -> None:
    """Refuse a strategy, by its name or as `{class_path: …}`, that splits weights over processes. Raises InputError."""
    name = strategy.get("class_path") if isinstance(strategy, Mapping) else strategy
    if isinstance(name, str) and name.rpartition(".")[2].lower().startswith(_SHARDING):
        raise InputError(
            f"{where} is {name}, which splits every weight over the processes, where masks and checkpoints need it "
            "whole: use ddp"
        )


def quiet() -> None:
    """Keep Lightning's banners and the warnings that do not concern our users from the terminal."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for pattern in _NOT_OUR_BUSINESS:
        warnings.filterwarnings("ignore", pattern)


def quiet_trainer(folder: Path | str, max_epochs: int, callbacks: Sequence[Callback] = (), **settings: Any) -> Trainer:
    """A Trainer on one device without logger, bar, summary, sanity check or automatic checkpoints."""
    quiet()
    defaults: dict[str, Any] = {
        "accelerator": "auto",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "plugins": [SafeCheckpointIO()],
        "profiler": NoProfiler(),
    }
    trainer = Trainer(
        default_root_dir=folder, max_epochs=max_epochs, callbacks=list(callbacks), **{**defaults, **settings}
    )
    skip_idle_hooks(trainer)
    return trainer
