"""Tabular regression: the first function of Friedman (The Annals of Statistics, 1991); 5 of 10 features matter."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

FEATURES = 10


class Regressor(LightningModule):
    """Two hidden layers with batch norm.

    Args:
        units: hidden units of each layer
        learning_rate: of Adam
    """

    def __init__(self, units: int = 64, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.example_input_array = torch.zeros(2, FEATURES)  # Lightning's own way to say what it is called with
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, units),
            nn.BatchNorm1d(units),
            nn.ReLU(),
            nn.Linear(units, units),
            nn.BatchNorm1d(units),
            nn.ReLU(),
            nn.Linear(units, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Predictions, (rows,), of features, (rows, features)."""
        return self.layers(features).squeeze(1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._judged(batch, "train")

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._judged(batch, "val")

    def test_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self._judged(batch, "test")

    def _judged(self, batch: list[Tensor], split: str) -> Tensor:
        features, values = batch
        loss = F.mse_loss(self(features), values)
        self.log(f"{split}/loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class TabularData(LightningDataModule):
    """Rows drawn by a fixed seed: features uniform in [0, 1], values with mean 0, standard deviation 1 and noise of .2.

    Args:
        rows: to train; half as many to validate, and to test
        batch_size: rows of a batch
    """

    def __init__(self, rows: int = 2000, batch_size: int = 50) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(0, self.hparams.rows, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(1, self.hparams.rows // 2)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(2, self.hparams.rows // 2)

    def _loader(self, seed: int, rows: int, shuffle: bool = False) -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(seed)
        features = torch.rand(rows, FEATURES, generator=generator)
        a, b, c, d, e = features[:, :5].T
        noise = torch.randn(rows, generator=generator)
        values = 10 * (torch.pi * a * b).sin() + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e + noise
        return DataLoader(TensorDataset(features, (values - 14.4) / 5), self.hparams.batch_size, shuffle=shuffle)
