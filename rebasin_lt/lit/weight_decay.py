"""How much of its initial weights a training leaves, as far as its files say how it was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.checkpoint import MASK, METADATA, read_checkpoint
from rebasin_lt.lit.schedule import learning_rate_factor
from rebasin_lt.storage.run_folder import CONFIG, read_config

_OURS = ("Classifier", "MaskedClassifier")
_SETTINGS = ("learning_rate", "weight_decay", "momentum", "optimizer", "lr_schedule", "warmup_epochs", "milestones")


class NotRecorded(LookupError):
    """What would have to be guessed: the message says what no file tells."""


def share_left(checkpoint: Path | str) -> float:
    """The share of the initial weights that weight decay leaves over the whole training of `Classifier`, in [0, 1].

    exp(-sum over steps of rate · decay / (1 - momentum)): what gradients add is not in it. AdamW's decay passes through
    no momentum, so there it is exp(-sum of rate · decay). Rate, decay and schedule are those in the checkpoint, the
    number of epochs that its schedule spans that in `config.yaml` beside it. Raises NotRecorded where they do not say
    it: for modules of others, for trainings that began from another network, under a mask or with pruning, and for
    those that did not come to their end, or whose `config.yaml` is damaged; and as `read_checkpoint`.
    """
    content = read_checkpoint(checkpoint)
    about, settings = content.get(METADATA, {}), content.get("hyper_parameters", {})
    if about.get("module") not in _OURS or not settings.keys() >= {*_SETTINGS}:
        raise NotRecorded("A's checkpoint does not say how it was trained")
    if settings.get("init_from") is not None or MASK in content:
        raise NotRecorded("A's training began from another network, or under a mask")
    epochs = _planned_epochs(Path(checkpoint).parent / CONFIG)
    if not epochs or _whole_epochs(content) != epochs:
        raise NotRecorded(f"no {CONFIG} beside A's checkpoint says that it is the end of a training, and how long one")
    factor = learning_rate_factor(
        settings["lr_schedule"],
        epochs,
        warmup_epochs=settings["warmup_epochs"],
        milestones=settings["milestones"] or (),
    )
    steps_per_epoch = about["global_step"] / epochs
    rates = settings["learning_rate"] * steps_per_epoch * sum(factor(epoch) for epoch in range(epochs))
    momentum = settings["momentum"] if settings["optimizer"] == "sgd" else 0.0
    return math.exp(-rates * settings["weight_decay"] / (1 - momentum))


def _whole_epochs(content: Mapping[str, Any]) -> int | None:
    """Epochs behind a checkpoint: of one to resume from by its loops, whose epoch still runs, else as it says."""
    loops = content.get("loops", {}).get("fit_loop")
    if loops is None:
        return cast("int | None", content[METADATA].get("epoch"))
    whole = loops["epoch_loop.batch_progress"]["is_last_batch"]
    return int(loops["epoch_progress"]["current"]["processed"]) if whole else None


def _planned_epochs(config: Path) -> int | None:
    """The epochs that a stage or a `fit` was to train for; None where its folder does not say it.

    Raises NotRecorded for a file that is damaged.
    """
    if not config.is_file():
        return None
    try:
        settings = read_config(config)
    except BrokenFileError as error:
        raise NotRecorded(str(error)) from error
    trainer: Any = settings.get("trainer")
    planned = settings.get("epochs", trainer.get("max_epochs") if isinstance(trainer, dict) else None)
    return planned if isinstance(planned, int) and planned > 0 else None
