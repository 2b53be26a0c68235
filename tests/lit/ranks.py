"""For runs of several processes: random images, and a callback that writes down what each process ends with."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from lightning import Callback, LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from rebasin_lt.lit.callbacks.mask_guard import MaskGuard
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.resident import ResidentImages
from rebasin_lt.storage.files import hash_tensors


class Noise(ImageData):
    """101 random images to train on and 1,003 to test, in 7 classes: odd numbers, for two processes."""

    num_classes = 7
    input_shape = (3, 6, 6)
    mean, std = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)
    default_val_size = 0

    def open_part(self, part):
        count, generator = (1003 if part == "test" else 101), torch.Generator().manual_seed(len(part))
        pixels = torch.randint(256, (count, *self.input_shape), generator=generator, dtype=torch.uint8)
        return ResidentImages(pixels, torch.randint(7, (count,), generator=generator), self.normalisation())


class Loaders(LightningDataModule):
    """101 random images to train on and 41 to test, behind loaders that know of one process."""

    num_classes = 7

    def __init__(self, batch_size: int = 8):
        super().__init__()
        self.batch_size = batch_size

    def _loader(self, count: int, **options) -> DataLoader:
        generator = torch.Generator().manual_seed(count)
        images, labels = torch.randn(count, 3, 6, 6, generator=generator), torch.arange(count) % 7
        return DataLoader(TensorDataset(images.double(), labels), batch_size=self.batch_size, **options)

    def train_dataloader(self):
        return self._loader(101, shuffle=True)

    def test_dataloader(self):
        return self._loader(41)


class Ranks(Callback):
    """Writes `rank-R.json`: hashes of weights and mask, metrics, and how many images were seen."""

    def __init__(self, folder: str = ".") -> None:
        self.folder, self.masks, self.images = Path(folder), [], 0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._count(trainer, batch)

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self._count(trainer, batch)

    def _count(self, trainer, batch):
        self.images += len(batch[1])
        masks = [callback.mask for callback in trainer.callbacks if isinstance(callback, MaskGuard)]
        if masks and (not self.masks or self.masks[-1] != masks[0].hash):
            self.masks.append(masks[0].hash)

    def teardown(self, trainer, pl_module, stage):
        parameters = hash_tensors(dict(pl_module.named_parameters()))
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        content = {"parameters": parameters, "masks": self.masks, "metrics": metrics, "images": self.images}
        (self.folder / f"rank-{trainer.global_rank}.json").write_text(json.dumps(content))
