"""A run in figures: what is trained, on what, for how long, and how many samples a step sees."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.data.epoch_batches import EpochBatches
from rebasin_lt.storage.files import write_json
from rebasin_lt.storage.run_records import FACTS_FILE

PER = 256
"""Samples of a step that learning rates are compared at (Goyal et al., arXiv 1706.02677, Section 2.1)."""


@dataclass(frozen=True)
class RunFacts:
    """What a training is; None where a module or a loader of the user's own does not say it.

    `global_batch` are the samples behind one step of the optimiser: of all processes and accumulated batches.
    """

    network: str
    parameters: int
    sparsity: float | None
    data: str
    samples: int | None
    epochs: int | None
    steps_per_epoch: int | None
    device: str
    processes: int
    global_batch: int | None
    learning_rate: float | None
    num_classes: int | None = None

    @property
    def rate_per_256(self) -> float | None:
        """The learning rate that a step of 256 samples would have by linear scaling; None where either is not known."""
        known = self.learning_rate is not None and self.global_batch
        return self.learning_rate * PER / self.global_batch if known else None  # type: ignore[operator]

    def to_json(self) -> dict[str, Any]:
        """By name, the rate per 256 samples beside."""
        return {**asdict(self), "learning_rate_per_256": self.rate_per_256}

    def line(self) -> str:
        """All of it as people read it."""
        network = f"{self.network}, {self.parameters:,} parameters"
        network += "" if self.sparsity is None else f", sparsity {self.sparsity:.4g}"
        data = self.data + ("" if self.samples is None else f", {self.samples:,} samples to train on")
        length = "no limit of epochs" if self.epochs is None else counted(self.epochs, "epoch")
        length += "" if self.steps_per_epoch is None else f" of {counted(self.steps_per_epoch, 'batch', 'batches')}"
        device = self.device if self.processes == 1 else f"{self.processes} × {self.device}"
        return "; ".join([network, data, f"{length} on {device}", *self._step()])

    def _step(self) -> list[str]:
        """What a step is, as far as it is known."""
        size = [] if self.global_batch is None else [f"global batch {self.global_batch:,}"]
        rate = [] if self.learning_rate is None else [f"learning rate {self.learning_rate:.4g}"]
        scaled = "" if self.rate_per_256 is None else f" ({self.rate_per_256:.4g} per {PER} samples)"
        return [", ".join([*size, *rate]) + scaled] if size or rate else []


def counted(number: int, one: str, many: str = "") -> str:
    """`1 epoch`, `1,200 epochs`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def facts_of(trainer: Trainer, module: LightningModule) -> RunFacts:
    """Those of a training that has begun: optimisers and loaders are made."""
    guards = [callback for callback in trainer.callbacks if isinstance(callback, MaskGuard)]  # type: ignore[attr-defined]
    mask = guards[0].mask if guards else None
    loader, batches, limit = trainer.train_dataloader, trainer.num_training_batches, trainer.max_epochs
    data = getattr(trainer, "datamodule", None) or loader
    size, samples = _batch_and_samples(loader)
    return RunFacts(
        network=str(module.hparams.get("arch") or type(module).__name__),
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        sparsity=None if mask is None else float(mask.sparsity),
        data=type(data).__name__,
        samples=samples,
        epochs=None if limit is None or limit < 0 else limit,
        steps_per_epoch=None if batches == float("inf") else int(batches),
        device=_device(trainer.strategy.root_device),
        processes=trainer.world_size,
        global_batch=None if size is None else size * trainer.world_size * trainer.accumulate_grad_batches,
        learning_rate=_rate(trainer),
        num_classes=classes_of(trainer, module),
    )


def classes_of(trainer: Trainer, module: LightningModule) -> int | None:
    """The classes that the module's hyperparameters name, else its data module; None where neither does."""
    data = getattr(trainer, "datamodule", None)
    found = module.hparams.get("num_classes", getattr(data, "num_classes", None))
    return found if isinstance(found, int) else None


def _batch_and_samples(loader: Any) -> tuple[int | None, int | None]:
    """The samples in a batch of one process, and those of all processes in an epoch, as far as a loader says them."""
    sampler = getattr(loader, "sampler", None)
    if isinstance(sampler, EpochBatches):
        return sampler.batch_size, len(sampler.indices)
    size, dataset = getattr(loader, "batch_size", None), getattr(loader, "dataset", None)
    if (
        isinstance(loader, DataLoader) and loader.batch_sampler is None
    ):  # its dataset holds ready batches, of who knows how many samples
        return None, None
    return (size if isinstance(size, int) else None), (len(dataset) if isinstance(dataset, Sized) else None)


def _rate(trainer: Trainer) -> float | None:
    """The peak of the rate, if all groups of parameters have one: schedulers keep it as `initial_lr`."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    rates = {float(group.get("initial_lr", group["lr"])) for group in groups if "lr" in group}
    return rates.pop() if len(rates) == 1 else None


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def write_facts(folder: Path, facts: RunFacts) -> None:
    """Leave them in the run's folder."""
    write_json(folder / FACTS_FILE, facts.to_json())


def batch_warnings(facts: RunFacts, former: Mapping[str, Any], expected: int | None) -> list[str]:
    """What is said of a learning rate that was chosen for another number of samples in a step: than `expected` by the
    configuration, or than the run had when it began."""
    rate = facts.learning_rate
    if rate is None or not facts.global_batch:
        return []
    others = {"the configuration's global_batch": expected}
    if former.get("learning_rate") == rate:
        others["the run, as it began,"] = former.get("global_batch")
    return [
        f"warning: a step has {facts.global_batch:,} samples ({counted(facts.processes, 'process', 'processes')}), but "
        f"{source} says {other:,}, and the learning rate is {rate:.4g} all the same: set data.batch_size so that a "
        f"step has {other:,}, or scale the rate to {rate * facts.global_batch / other:.4g}"
        for source, other in others.items()
        if isinstance(other, int) and other > 0 and other != facts.global_batch
    ]


def sampler_warnings(trainer: Trainer) -> list[str]:
    """What is said of a loader that gives every process all samples: torch's own samplers know of one process."""
    loader = trainer.train_dataloader
    sampler, batches = getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None)
    plain = type(sampler) in {RandomSampler, SequentialSampler} and type(batches) in {BatchSampler, NoneType}
    if trainer.world_size == 1 or not plain:
        return []
    name, count = type(getattr(trainer, "datamodule", None) or loader).__name__, trainer.world_size
    return [
        f"warning: the {type(sampler).__name__} of {name} gives each of {count} processes all samples of its dataset: "
        "set trainer.use_distributed_sampler to true, so that they share them, unless each has a dataset of its own"
    ]
