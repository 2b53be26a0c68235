"""How much of its initial weights a training leaves, as far as its files say how it was trained."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.callbacks.decay_taken import gathered
from rebasin_lt.lit.checkpoint import DECAY, MASK, METADATA, read_checkpoint
from rebasin_lt.lit.schedule import learning_rate_factor
from rebasin_lt.storage.run_folder import CONFIG, read_config

_ELSEWHERE = ("InitFrom", "IterativeMagnitudePruning", "MaskGuard", "DynamicSparseTraining")
_AVERAGING = ("EMAWeightAveraging", "StochasticWeightAveraging", "WeightAveraging")
_OURS = ("Classifier", "MaskedClassifier")
_AVERAGED = "averaging_state"  # in a file of Lightning's callbacks that average
_SETTINGS = ("learning_rate", "weight_decay", "momentum", "optimizer", "lr_schedule", "warmup_epochs", "milestones")


class NotRecorded(LookupError):
    """What would have to be guessed: the message says what no file tells."""


def share_left(checkpoint: Path | str) -> float:
    """The share of the initial weights that weight decay leaves over the whole training of `Classifier`, in [0, 1].

    exp(-sum over steps of rate · decay / (1 - momentum)): what gradients add is not in it. AdamW's decay passes through
    no momentum, so there it is exp(-sum of rate · decay). Rate, decay and schedule are those in the checkpoint, the
    number of epochs that its schedule spans that in `config.yaml` beside it. Raises NotRecorded where they do not say
    it: for trainings that began from another network, under a mask or with pruning, for those that did not come to
    their end, or whose `config.yaml` is damaged, and for weights that are averages; and as `read_checkpoint`.

    Of a module of the user's own it is what `DecayTaken` summed over the steps that were taken, whatever their
    schedule; in a file without that sum, that of its optimiser, where it decays nothing, or at a rate that no schedule
    changes.
    """
    content, config = read_checkpoint(checkpoint), _config(Path(checkpoint).parent / CONFIG)
    about, settings = content.get(METADATA, {}), content.get("hyper_parameters", {})
    if settings.get("init_from") is not None or MASK in content or _has_callback(config, _ELSEWHERE):
        raise NotRecorded("A's training began from another network, or under a mask")
    if _AVERAGED in content or _has_callback(config, _AVERAGING):
        raise NotRecorded("A's weights are averages over its training")
    epochs = _planned_epochs(config)
    if not epochs or _whole_epochs(content) != epochs:
        raise NotRecorded(f"no {CONFIG} beside A's checkpoint says that it is the end of a training, and how long one")
    if about.get("module") not in _OURS or not settings.keys() >= {*_SETTINGS}:
        if DECAY in about:
            return _left_by_steps(about[DECAY])
        try:
            return _left_by_optimiser(content)
        except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise NotRecorded(f"A's module is none of ours, and its optimiser cannot be read: {error}") from error
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


def _left_by_steps(taken: float | None) -> float:
    if taken is None:
        raise NotRecorded(
            "A's module is none of ours, and its optimiser decays as Adam, or in more ways than one, "
            "or not all of its steps were summed"
        )
    return math.exp(-taken)


def _whole_epochs(content: Mapping[str, Any]) -> int | None:
    """Epochs behind a checkpoint: of one to resume from by its loops, whose epoch still runs, else as it says."""
    loops = content.get("loops", {}).get("fit_loop")
    if loops is None:
        return cast("int | None", content.get(METADATA, {}).get("epoch"))
    whole = loops["epoch_loop.batch_progress"]["is_last_batch"]
    return int(loops["epoch_progress"]["current"]["processed"]) if whole else None


def _left_by_optimiser(content: Mapping[str, Any]) -> float:
    """By what the optimiser of a checkpoint to resume from says of itself. Raises NotRecorded where that is too little.

    So it is in files of earlier releases, and of trainings without `DecayTaken`.
    """
    groups = [group for state in content.get("optimizer_states", ()) for group in state["param_groups"]]
    if not groups:
        raise NotRecorded("A's checkpoint has no optimiser, and its module is none of ours: give a last.ckpt of fit")
    decays = [group.get("weight_decay") for group in groups]
    if all(decay == 0 for decay in decays):
        return 1.0
    if content.get("lr_schedulers"):
        raise NotRecorded("A's module is none of ours, and no file has the rates of its schedule")
    rates = {(float(group["lr"]), float(group["weight_decay"]), gathered(group)) for group in groups}
    rate, decay, factor = rates.pop()
    if rates or factor is None:
        raise NotRecorded("A's module is none of ours, and its optimiser decays as Adam, or in more ways than one")
    return math.exp(-content["global_step"] * rate * decay * factor)


def _config(path: Path) -> dict[str, Any]:
    """The settings of a run's folder; none where it has no such file. Raises NotRecorded for one that is damaged."""
    if not path.is_file():
        return {}
    try:
        return read_config(path)
    except BrokenFileError as error:
        raise NotRecorded(str(error)) from error


def _has_callback(config: Mapping[str, Any], names: Collection[str]) -> bool:
    """True where a `fit` has a callback of such a name."""
    trainer = config.get("trainer")
    callbacks = trainer.get("callbacks") if isinstance(trainer, dict) else None
    named = [each.get("class_path") for each in callbacks or () if isinstance(each, dict)]
    return any(str(name).rpartition(".")[2] in names for name in named)


def _planned_epochs(settings: Mapping[str, Any]) -> int | None:
    """The epochs that a stage or a `fit` was to train for; None where its folder does not say it."""
    trainer: Any = settings.get("trainer")
    planned = settings.get("epochs", trainer.get("max_epochs") if isinstance(trainer, dict) else None)
    return planned if isinstance(planned, int) and planned > 0 else None
