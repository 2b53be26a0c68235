"""A LightningModule that is not ours: own loss, own names, two parameter groups. Used through Python and YAML."""

from pathlib import Path

import torch
from lightning import Callback, LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class ForeignData(LightningDataModule):
    def __init__(self, batch_size: int = 16):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(64, 6, generator=generator)
        return DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True).sin()), batch_size=self.batch_size)


class OnceData(ForeignData):
    def train_dataloader(self):
        return iter(super().train_dataloader())


class SeededData(ForeignData):
    def __init__(self, seed: int = 0):
        super().__init__()
        self.seed = seed


class ForeignModule(LightningModule):
    def __init__(self, hidden: int = 12, optimizer: str = "sgd"):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, hidden), nn.BatchNorm1d(hidden), nn.ReLU())
        self.head = nn.Linear(hidden, 1)
        self.optimizer = optimizer

    def training_step(self, batch, batch_idx):
        inputs, targets = batch
        loss = nn.functional.huber_loss(self.head(self.encoder(inputs)), targets)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        groups = [{"params": self.encoder.parameters(), "lr": 0.05}, {"params": self.head.parameters(), "lr": 0.2}]
        if self.optimizer == "adamw":
            return torch.optim.AdamW(groups, weight_decay=0.1)
        optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


class Restless(torch.optim.SGD):
    """SGD that also moves every weight at every step, whatever its gradient."""

    def step(self, closure=None):
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                torch._foreach_add_(group["params"], 0.01)
        return loss


class RestlessModule(ForeignModule):
    def configure_optimizers(self):
        return Restless(self.parameters(), lr=0.05)


class StopAfter(Callback):
    """Fails after so many steps, unless there is a file `stopped` by now."""

    def __init__(self, steps: int):
        self.steps = steps

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.steps and not Path("stopped").exists():
            raise RuntimeError("stopped")
