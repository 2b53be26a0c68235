"""Networks and data of the user's own that are no images with a class each, as `own:TextClassifier`, `own:TextData`."""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

WORDS, LENGTH, CLASSES = 20, 7, 3


class OwnModule(LightningModule):
    """Trained by its own loss on its own batches, which `read` takes apart."""

    rate = 0.1

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, target = self.read(batch)
        return self.loss(self(*inputs), target)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        inputs, target = self.read(batch)
        self.log("test/loss", self.loss(self(*inputs), target), batch_size=len(target))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


class TextClassifier(OwnModule):
    """Mean of embedded tokens, as far as the padding mask goes, and two layers."""

    def __init__(self, hidden: int = 8, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.embed, self.body = nn.Embedding(WORDS, 6), nn.Linear(6, hidden)
        self.head = nn.Linear(hidden, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        kept = attention_mask[..., None].float()
        mean = (self.embed(input_ids) * kept).sum(1) / kept.sum(1).clamp(min=1)
        return self.head(F.relu(self.body(mean)))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    def read(self, batch: Any) -> tuple[tuple[Tensor, Tensor], Tensor]:
        if isinstance(batch, dict):
            label = batch["kind"] if "kind" in batch else batch["labels"]
            return (batch.get("ids", batch.get("input_ids")), batch["attention_mask"]), label
        ids, mask, label = batch
        return (ids, mask), label


class Regressor(OwnModule):
    """Two layers on 12 features, with an example of its inputs."""

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.body, self.head = nn.Linear(12, hidden), nn.Linear(hidden, 1)
        self.example_input_array = torch.zeros(2, 12)

    def forward(self, features: Tensor) -> Tensor:
        return self.head(F.relu(self.body(features)))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(output, target)

    def read(self, batch: Any) -> tuple[tuple[Tensor], Tensor]:
        return (batch[0],), batch[1]


class UNet(OwnModule):
    """One step down and up again, with a skip connection; a class for each pixel."""

    def __init__(self, channels: int = 4, num_classes: int = CLASSES) -> None:
        super().__init__()
        self.down, self.inner = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.head = nn.Conv2d(2 * channels, num_classes, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        fine = F.relu(self.down(pixels))
        coarse = F.relu(self.inner(F.max_pool2d(fine, 2)))
        return self.head(torch.cat([fine, F.relu(self.up(coarse))], 1))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels)

    def read(self, batch: Any) -> tuple[tuple[Tensor], Tensor]:
        return (batch[0],), batch[1]


class Rows(Dataset):
    """Examples of one form, by number."""

    def __init__(self, *columns: Tensor, names: tuple[str, ...] = ()) -> None:
        self.columns, self.names = columns, names

    def __len__(self) -> int:
        return len(self.columns[0])

    def __getitem__(self, index: int) -> Any:
        row = tuple(column[index] for column in self.columns)
        return dict(zip(self.names, row, strict=True)) if self.names else row


class OwnData(LightningDataModule):
    """Loaders of `rows`; those of training are shuffled."""

    def __init__(self, batch_size: int = 16, size: int = 41) -> None:
        super().__init__()
        self.batch_size, self.size = batch_size, size

    def setup(self, stage: str) -> None:
        generator = torch.Generator().manual_seed({"fit": 0, "validate": 1, "test": 1, "predict": 1}[stage])
        self.rows = self.rows_of(generator)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, self.batch_size, shuffle=True)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, self.batch_size)

    def text(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        ids = torch.randint(1, WORDS, (self.size, LENGTH), generator=generator)
        lengths = torch.randint(2, LENGTH + 1, (self.size, 1), generator=generator)
        mask = torch.arange(LENGTH)[None] < lengths
        return ids * mask, mask.long(), ids[:, 0] % CLASSES


class TextData(OwnData):
    """Dicts by the names of `forward`'s arguments, as tokenizers give them."""

    def rows_of(self, generator: torch.Generator) -> Rows:
        return Rows(*self.text(generator), names=("input_ids", "attention_mask", "labels"))


class OddlyNamedText(OwnData):
    """Dicts whose names say neither what an input is, nor which is the label."""

    def rows_of(self, generator: torch.Generator) -> Rows:
        return Rows(*self.text(generator), names=("ids", "attention_mask", "kind"))


class TextTuples(OwnData):
    """(ids, mask, label)."""

    def rows_of(self, generator: torch.Generator) -> Rows:
        return Rows(*self.text(generator))


class TabularData(OwnData):
    """Twelve features and a number."""

    def rows_of(self, generator: torch.Generator) -> Rows:
        features = torch.randn(self.size, 12, generator=generator)
        return Rows(features, features.sum(1, keepdim=True).sin())


class Segments(OwnData):
    """Images with a class for each pixel."""

    def rows_of(self, generator: torch.Generator) -> Rows:
        pixels = torch.randn(self.size, 3, 8, 8, generator=generator)
        return Rows(pixels, pixels.argmax(1))


def text_loaders(size: int = 41) -> dict[str, DataLoader]:
    """Loaders by split, without a data module."""
    data = TextTuples(size=size)
    data.setup("fit")
    return {"train": data.train_dataloader(), "test": data.test_dataloader()}
