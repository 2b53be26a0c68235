"""The smallest training that has everything: batch norm, dropout, augmentation, and images in memory or in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Callback
from marks import Marks
from PIL import Image
from torch import Tensor, nn

from rebasin_lt.lit.callbacks.divergence import Divergence
from rebasin_lt.lit.callbacks.resume_point import ResumePoint
from rebasin_lt.lit.callbacks.step_seed import StepSeed
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.resident import ResidentImages
from rebasin_lt.lit.trainer import quiet_trainer

SIZE, CLASSES, BATCH, STEPS = (3, 6, 6), 7, 10, 4
CPU = {"accelerator": "cpu"}


def network(num_classes: int = CLASSES) -> nn.Module:
    """As `small:network`."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(6 * 36, 8),
        nn.ReLU(),
        nn.Linear(8, num_classes),
    )


class Spots(ImageData):
    """Random images, augmented; `resident` says whether they move to the training device once, or batch by batch."""

    num_classes, input_shape = CLASSES, SIZE
    mean, std = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)
    padding, flip, default_val_size = 1, True, 0

    def __init__(self, resident: bool = True, steps: int = STEPS, batch_size: int = BATCH, **kwargs: Any) -> None:
        super().__init__(batch_size=batch_size, **kwargs)
        self.resident, self.steps = resident, steps

    def open_part(self, part: str) -> ResidentImages:
        count, generator = (23 if part == "test" else BATCH * self.steps + 3), torch.Generator().manual_seed(len(part))
        pixels = torch.randint(256, (count, *SIZE), generator=generator, dtype=torch.uint8)
        labels = torch.randint(CLASSES, (count,), generator=generator)
        return ResidentImages(pixels, labels, self.normalisation(), self.padding, self.flip, on_device=self.resident)


def write_images(folder: Path) -> Path:
    """Files of the same kind, in class folders."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 6), ("test", 2)):
        for label in range(CLASSES):
            (folder / part / f"{label}").mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (7, 7, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / f"{label}" / f"{number}.png")
    return folder


def classifier(**settings: Any) -> Classifier:
    """With weights that depend on nothing else."""
    torch.manual_seed(0)
    return Classifier("small:network", num_classes=CLASSES, input_shape=list(SIZE), learning_rate=0.05, **settings)


def fitted(
    folder: Path,
    trainer: dict[str, Any],
    module: Classifier | None = None,
    callbacks: Sequence[Callback] = (),
    epochs: int = 2,
    data: Any = None,
    ckpt_path: Path | None = None,
    every_steps: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """What a fit leaves in `last.ckpt`, and what it logged."""
    every = [Marks(), StepSeed(3), *callbacks, Divergence(), ResumePoint(every_steps)]
    run = quiet_trainer(folder, epochs, every, enable_checkpointing=True, **trainer, **settings)
    run.fit(module or classifier(), datamodule=data or Spots(), ckpt_path=ckpt_path)
    metrics = {name: value.item() for name, value in run.callback_metrics.items()}
    return {"metrics": metrics, "content": torch.load(folder / "last.ckpt", weights_only=True, map_location="cpu")}


class Crash(Callback):
    """Ends a fit before a step, as a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Crashed


class Crashed(Exception):
    """Somewhere in training."""


def tensors_in(content: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors in nested mappings and lists, by path."""
    if isinstance(content, Tensor):
        return {name: content}
    pairs = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list | tuple)
        else ()
    )
    return {key: tensor for own, value in pairs for key, tensor in tensors_in(value, f"{name}/{own}").items()}


def differences(found: Any, expected: Any) -> list[str]:
    """The names of what is not equal to the bit."""
    if isinstance(found, dict) and "metrics" in found and found["metrics"] != expected["metrics"]:
        return [f"metrics {found['metrics']} instead of {expected['metrics']}"]
    ours, theirs = tensors_in(found), tensors_in(expected)
    assert ours
    if ours.keys() != theirs.keys():
        return [f"other tensors: {sorted(ours.keys() ^ theirs.keys())}"]
    return [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]
