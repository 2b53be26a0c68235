"""A network of timm, on digits: `pip install timm`; its weights are random, nothing is downloaded."""

from __future__ import annotations

from typing import Any

import timm
import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class TimmClassifier(LightningModule):
    """Any classifier of timm.

    Args:
        name: of timm.create_model; a ResNet for quick tests if not given
        learning_rate: of Adam
    """

    def __init__(self, name: str = "test_resnet", learning_rate: float = 0.003) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = timm.create_model(name, in_chans=1, num_classes=10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (images, 10), of images, (images, 1, 32, 32)."""
        return self.net(images)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._judged(batch, "train")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._judged(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._judged(batch, "test")

    def _judged(self, batch: list[Tensor], split: str) -> Tensor:
        images, labels = batch
        logits = self(images)
        loss = F.cross_entropy(logits, labels)
        right = (logits.argmax(1) == labels).float().mean()
        self.log_dict({f"{split}/loss": loss, f"{split}/top1": 100 * right}, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class LargerDigits(LightningDataModule):
    """The digits of scikit-learn at 32×32 pixels: 3 of 5 to train, the others to validate and to test.

    Args:
        batch_size: images of a batch
    """

    def __init__(self, batch_size: int = 50) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader((0, 1, 2), shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader((3,))

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader((4,))

    def _loader(self, fifths: tuple[int, ...], shuffle: bool = False) -> DataLoader[Any]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        shades = (torch.from_numpy(digits.images).float()[:, None] - 4.9) / 6  # about mean 0, standard deviation 1
        images = F.interpolate(shades, scale_factor=4, mode="bilinear")
        chosen = sum(torch.arange(len(images)) % 5 == fifth for fifth in fifths).bool()
        pairs = TensorDataset(images[chosen], torch.from_numpy(digits.target).long()[chosen])
        return DataLoader(pairs, self.hparams.batch_size, shuffle=shuffle)
