"""Weights at chosen moments of training, to rewind to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer

from rebasin_lt.errors import BrokenFileError, InputError
from rebasin_lt.files import hash_tensors
from rebasin_lt.lit.checkpoint import METADATA, read_checkpoint, save_network
from rebasin_lt.moment import Moment


class RewindCheckpoint(Callback):
    """Writes weights and BN statistics exactly at each moment of `at`, before the step taken there.

    `0it` is the untouched initialisation. The last moment may be the end of training. A moment after it is refused.

    Args:
        at: moments such as `0it`, `500it`, `10ep`
        dirpath: folder of the files, `MOMENT.ckpt` each; `rewind` in the trainer's root folder if not given
        paper_epoch_offset: write what the published code calls epoch k: the weights after k+1 epochs. Only epochs
            are shifted; the file keeps the asked-for name and says the true moment inside
    """

    state_key = "rebasin_lt.rewind_checkpoint"

    def __init__(self, at: list[str], dirpath: str | None = None, paper_epoch_offset: bool = False) -> None:
        self.dirpath = None if dirpath is None else Path(dirpath)
        self._names = {_shifted(Moment.parse(name), paper_epoch_offset): name for name in at}
        self._written: dict[str, str] = {}  # file name -> sha256 of its tensors

    def writes(self, name: str) -> bool:
        """Whether the moment `name` is one of those asked for."""
        return name in self._names.values()

    def path(self, name: str) -> Path:
        """The file of the moment asked for as `name`."""
        if self.dirpath is None:
            raise InputError("RewindCheckpoint has no folder before a fit has begun: give dirpath")
        return self.dirpath / f"{name}.ckpt"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.dirpath is None:
            self.dirpath = Path(trainer.default_root_dir) / "rewind"

    def state_dict(self) -> dict[str, Any]:
        return {"written": dict(self._written)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._written = dict(state_dict["written"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        total = _steps_per_epoch(trainer) * (trainer.max_epochs or 0)
        for moment, name in self._names.items():
            if moment.steps(_steps_per_epoch(trainer)) > total:
                raise InputError(
                    f"rewind moment {name} is step {moment.steps(_steps_per_epoch(trainer))}, after the end of "
                    f"training at step {total} ({trainer.max_epochs} epochs of {_steps_per_epoch(trainer)} steps)"
                )
        for name, digest in self._written.items():
            self._check(name, digest)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._write_due(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write_due(trainer, pl_module)

    def _write_due(self, trainer: Trainer, module: LightningModule) -> None:
        for moment, name in self._names.items():
            if name not in self._written and moment.steps(_steps_per_epoch(trainer)) == trainer.global_step:
                self._write(trainer, module, moment, name)

    def _write(self, trainer: Trainer, module: LightningModule, moment: Moment, name: str) -> None:
        digest = hash_tensors(module.state_dict())
        self._written[name] = digest
        if not trainer.is_global_zero:
            return
        if self.path(name).exists():  # a run that died before its first resume point comes here again
            self._check(name, digest)
            return
        about = {"moment": str(moment), "steps_per_epoch": _steps_per_epoch(trainer), "stage": "rewind"}
        save_network(self.path(name), trainer, module, None, **about)

    def _check(self, name: str, digest: str) -> None:
        if not self.path(name).exists():
            raise BrokenFileError(
                f"rewind checkpoint {self.path(name)} was written by this run and is gone: restore it"
            )
        content = read_checkpoint(self.path(name))
        if hash_tensors(content["state_dict"]) != digest:
            moment = content.get(METADATA, {}).get("moment", name)
            raise InputError(
                f"{self.path(name)} holds other weights at {moment} than this run: "
                "it is of another run; choose another output folder"
            )


def _shifted(moment: Moment, paper_epoch_offset: bool) -> Moment:
    return Moment(moment.count + 1, "ep") if paper_epoch_offset and moment.unit == "ep" else moment


def _steps_per_epoch(trainer: Trainer) -> int:
    return -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
