"""Segmentation by a U-Net: which digit does each pixel of a picture belong to?

Four real digits lie on each picture. A label is a picture too, and pixels at the edge of a digit are ignored.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

IGNORED = -100
CLASSES = 11  # background, and ten digits


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, each with batch norm."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(LightningModule):
    """Two halvings, and two doublings that see what was before them (Ronneberger et al., MICCAI 2015).

    Args:
        units: channels of the finest layer
        learning_rate: of Adam
    """

    def __init__(self, units: int = 8, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.fine, self.middle, self.coarse = block(1, units), block(units, 2 * units), block(2 * units, 4 * units)
        self.up_to_middle = nn.ConvTranspose2d(4 * units, 2 * units, kernel_size=2, stride=2)
        self.middle_again = block(4 * units, 2 * units)
        self.up_to_fine = nn.ConvTranspose2d(2 * units, units, kernel_size=2, stride=2)
        self.fine_again = block(2 * units, units)
        self.head = nn.Conv2d(units, CLASSES, kernel_size=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits, (pictures, classes, height, width), of pictures, (pictures, 1, height, width)."""
        fine = self.fine(pictures)
        middle = self.middle(F.max_pool2d(fine, 2))
        coarse = self.coarse(F.max_pool2d(middle, 2))
        middle = self.middle_again(torch.cat([middle, self.up_to_middle(coarse)], dim=1))
        return self.head(self.fine_again(torch.cat([fine, self.up_to_fine(middle)], dim=1)))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._judged(batch, "train")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._judged(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._judged(batch, "test")

    def _judged(self, batch: list[Tensor], split: str) -> Tensor:
        pictures, labels = batch
        logits = self(pictures)
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORED)
        right = (logits.argmax(1) == labels)[labels != IGNORED].float().mean()
        self.log_dict({f"{split}/loss": loss, f"{split}/top1": 100 * right}, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class PictureData(LightningDataModule):
    """Pictures of 24×24 pixels with a digit in each quarter, drawn by a fixed seed; needs scikit-learn.

    Args:
        pictures: to train; half as many to validate, and to test, with digits of their own
        batch_size: pictures of a batch
    """

    def __init__(self, pictures: int = 800, batch_size: int = 20) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(0, self.hparams.pictures, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(1, self.hparams.pictures // 2)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(2, self.hparams.pictures // 2)

    def _loader(self, part: int, count: int, shuffle: bool = False) -> DataLoader[Any]:
        pictures, labels = drawn(part, count)
        return DataLoader(TensorDataset(pictures, labels), self.hparams.batch_size, shuffle=shuffle)


def drawn(part: int, count: int) -> tuple[Tensor, Tensor]:
    """Pictures, (count, 1, 24, 24) of mean 0 and standard deviation 1, and labels, (count, 24, 24) of integers."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    shades = torch.from_numpy(digits.images).float()[part::3]
    kinds = torch.from_numpy(digits.target).long()[part::3]
    generator = torch.Generator().manual_seed(part)
    pictures, labels = torch.zeros(count, 1, 24, 24), torch.zeros(count, 24, 24, dtype=torch.int64)
    for number in range(count):
        for top, left in ((0, 0), (0, 12), (12, 0), (12, 12)):
            which, down, right = (int(torch.randint(size, (), generator=generator)) for size in (len(kinds), 5, 5))
            place = (slice(top + down, top + down + 8), slice(left + right, left + right + 8))
            pictures[number, 0, *place] = shades[which]
            labels[number, *place] = torch.where(shades[which] >= 8, kinds[which] + 1, IGNORED)
            labels[number, *place][shades[which] == 0] = 0
    return (pictures - 2.2) / 4.7, labels
