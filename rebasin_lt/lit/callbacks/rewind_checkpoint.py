"""Weights at chosen moments of training, to rewind to."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.lit.callbacks.mask_guard import hold_masks
from rebasin_lt.lit.checkpoint import METADATA, read_checkpoint, save_network
from rebasin_lt.lit.training_length import epochs_done, is_short_try, last_epoch_is_whole, steps_per_epoch
from rebasin_lt.moment import Moment
from rebasin_lt.storage.files import hash_tensors
from rebasin_lt.storage.paths import expanded


class RewindCheckpoint(Callback):
    """Writes weights and BN statistics exactly at each moment of `at`, before the step taken there.

    `0it` is the untouched initialisation. The last moment may be the end of training. A moment after it is refused
    where `max_epochs` and `max_steps` tell it beforehand; one that never came is warned of when training ends.

    `ep` counts epochs. `it` counts as Lightning's `global_step` does, every step of every optimiser: where a batch
    takes several (manual optimisation), the file holds the weights before the first batch with that many steps behind.

    A file of another run is refused, with an InputError. One of a run that began with the same weights is this run's,
    which died before its next checkpoint: on a GPU a replay may come to other weights, and the file then holds those.

        >>> callbacks = [rb.RewindCheckpoint(["0it", "500it", "10ep"])]

    Args:
        at: moments such as `0it`, `500it`, `10ep`
        dirpath: folder of the files, `MOMENT.ckpt` each; `rewind` in the trainer's root folder if not given
        paper_epoch_offset: write what the published code calls epoch k: the weights after k+1 epochs. Only epochs
            are shifted; the file keeps the asked-for name and says the true moment inside
    """

    state_key = "rebasin_lt.rewind_checkpoint"

    def __init__(self, at: list[str], dirpath: str | None = None, paper_epoch_offset: bool = False) -> None:
        self._given_dirpath = None if dirpath is None else Path(expanded(dirpath))
        self.dirpath = self._given_dirpath
        self._names = {_shifted(Moment.parse(name), paper_epoch_offset): name for name in at}
        self._written: dict[str, str] = {}  # file name -> sha256 of its tensors
        self._seen: int | None = None  # global step when last looked at
        self._origin: str | None = None  # sha256 of the weights that the run began with

    def writes(self, name: str) -> bool:
        """True if the moment `name` is one of those asked for."""
        return name in self._names.values()

    def path(self, name: str) -> Path:
        """The file of the moment asked for as `name`."""
        if self.dirpath is None:
            raise InputError("RewindCheckpoint has no folder before a fit has begun: give dirpath")
        return self.dirpath / f"{name}.ckpt"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        if trainer.global_step == 0:  # else this trainer goes on with a fit of its own
            self.dirpath, self._written, self._seen = self._given_dirpath, {}, None
        if self.dirpath is None:
            self.dirpath = Path(trainer.default_root_dir) / "rewind"

    def state_dict(self) -> dict[str, Any]:
        return {"written": dict(self._written), "seen": self._seen, "origin": self._origin}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._written, self._seen = dict(state_dict["written"]), state_dict.get("seen")
        self._origin = state_dict.get("origin")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_short_try(trainer):
            return
        for moment, name in self._names.items():
            _refuse_late(trainer, moment, name)
        for name, digest in self._written.items():
            self._check(name, digest)
        if trainer.global_step == 0:
            self._origin = hash_tensors(pl_module.state_dict())
        before = trainer.global_step - 1  # of what lies before a resume, nothing can be written any more
        self._seen = before if self._seen is None else min(self._seen, before)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._write_due(trainer, pl_module, epoch_begins=batch_idx == 0)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the moments at the end. A run that died after its last epoch has no `on_train_end` when it goes on."""
        self._write_due(trainer, pl_module, epoch_begins=last_epoch_is_whole(trainer))
        missing = [name for name in self._names.values() if name not in self._written]
        if missing and not is_short_try(trainer) and trainer.is_global_zero:
            warnings.warn(
                f"rewind moments not written: {', '.join(missing)}. They did not come in this run, which ended at "
                f"step {trainer.global_step} after {epochs_done(trainer)} epochs",
                stacklevel=2,
            )

    def _write_due(self, trainer: Trainer, module: LightningModule, epoch_begins: bool) -> None:
        """Write what comes now: `ep` between two epochs, `it` as soon as so many steps were taken."""
        if is_short_try(trainer):
            return
        step, seen = trainer.global_step, -1 if self._seen is None else self._seen
        epochs = epochs_done(trainer)
        self._seen = step
        for moment, name in self._names.items():
            due = epoch_begins and moment.count == epochs if moment.unit == "ep" else seen < moment.count <= step
            if due and name not in self._written:
                self._write(trainer, module, moment, name)

    def _write(self, trainer: Trainer, module: LightningModule, moment: Moment, name: str) -> None:
        hold_masks(trainer)
        digest = hash_tensors(module.state_dict())
        self._written[name] = digest
        if not trainer.is_global_zero:
            return
        if self.path(name).exists() and self._keeps(name, digest):
            return
        about: dict[str, Any] = {"moment": str(moment), "stage": "rewind", "origin": self._origin}
        per_epoch = steps_per_epoch(trainer)
        if per_epoch is not None:
            about["steps_per_epoch"] = per_epoch
        save_network(self.path(name), trainer, module, None, **about)

    def _check(self, name: str, digest: str) -> None:
        """Raise where a file is gone, or not as this run wrote it."""
        if not self.path(name).exists():
            raise BrokenFileError(
                f"rewind checkpoint {self.path(name)} was written by this run and is gone: restore it"
            )
        content = read_checkpoint(self.path(name))
        if hash_tensors(content["state_dict"]) != digest:
            raise self._foreign(name, content)

    def _keeps(self, name: str, digest: str) -> bool:
        """True if the file that is there, of this run before it died, holds these weights. Refuses another run's."""
        content = read_checkpoint(self.path(name))
        same = hash_tensors(content["state_dict"]) == digest
        if not same and content.get(METADATA, {}).get("origin", "") != self._origin:
            raise self._foreign(name, content)
        return same

    def _foreign(self, name: str, content: dict[str, Any]) -> InputError:
        moment = content.get(METADATA, {}).get("moment", name)
        return InputError(
            f"{self.path(name)} holds other weights at {moment} than this run: "
            "it is of another run; choose another output folder"
        )


def _shifted(moment: Moment, paper_epoch_offset: bool) -> Moment:
    return Moment(moment.count + 1, "ep") if paper_epoch_offset and moment.unit == "ep" else moment


def _refuse_late(trainer: Trainer, moment: Moment, name: str) -> None:
    """Raise InputError for a moment that surely lies after the end of training: `max_epochs` or `max_steps`."""
    epochs = math.inf if trainer.max_epochs in (None, -1) else trainer.max_epochs or 0
    steps = math.inf if trainer.max_steps == -1 else trainer.max_steps
    per_epoch = steps_per_epoch(trainer)
    if per_epoch is None:  # epochs and steps cannot be compared
        end = epochs if moment.unit == "ep" else steps
        if moment.count > end:
            unit = "epoch" if moment.unit == "ep" else "step"
            raise InputError(f"rewind moment {name} lies after the end of training at {unit} {end}")
    elif moment.steps(per_epoch) > min(epochs * per_epoch, steps):
        end = min(epochs * per_epoch, steps)
        why = f"{epochs} epochs of {per_epoch} steps" if end == epochs * per_epoch else f"max_steps of {steps}"
        raise InputError(
            f"rewind moment {name} is step {moment.steps(per_epoch)}, after the end of training at step {end} ({why})"
        )
