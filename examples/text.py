"""Text classification: which part of Python's standard library is a sentence from?

A batch is a dict of token ids, a padding mask and labels, as long as its longest sentence.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from examples.sentences import TOPICS, encoded

Batch = dict[str, Tensor]


class TextClassifier(LightningModule):
    """Words are embedded, seen with their neighbours, and averaged.

    Args:
        vocabulary: of the data
        units: hidden units of each layer
        learning_rate: of Adam
    """

    def __init__(self, vocabulary: int = 1000, units: int = 64, learning_rate: float = 0.003) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.embedding = nn.Embedding(vocabulary, units)
        self.neighbours = nn.Conv1d(units, units, kernel_size=3, padding=1)
        self.hidden = nn.Linear(units, units)
        self.head = nn.Linear(units, len(TOPICS))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits of the topics, (sentences, topics), of ids and mask, (sentences, words); the mask is 0 at padding."""
        there = mask.unsqueeze(-1)
        words = self.embedding(ids) * there
        seen = self.neighbours(words.mT).mT.relu() * there
        return self.head(self.hidden(seen.sum(1) / there.sum(1)).relu())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._judged(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._judged(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._judged(batch, "test")

    def _judged(self, batch: Batch, split: str) -> Tensor:
        logits, labels = self(batch["ids"], batch["mask"]), batch["labels"]
        loss = F.cross_entropy(logits, labels)
        right = (logits.argmax(1) == labels).float().mean()
        values = {f"{split}/loss": loss, f"{split}/top1": 100 * right}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class TextData(LightningDataModule):
    """Sentences out of docstrings, and their topics: 3 of 5 to train, the others to validate and to test.

    Args:
        vocabulary: how many of the most frequent words have a number of their own
        batch_size: sentences of a batch
    """

    def __init__(self, vocabulary: int = 1000, batch_size: int = 50) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader((0, 1, 2), shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader((3,))

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader((4,))

    def _loader(self, fifths: tuple[int, ...], shuffle: bool = False) -> DataLoader[Any]:
        chosen = [pair for number, pair in enumerate(encoded(self.hparams.vocabulary)) if number % 5 in fifths]
        return DataLoader(chosen, self.hparams.batch_size, shuffle=shuffle, collate_fn=padded)


def padded(pairs: list[tuple[list[int], int]]) -> Batch:
    """Sentences as long as the longest of them: `ids`, `mask` (1.0 at words, 0.0 behind them), `labels`."""
    sentences = [torch.tensor(ids) for ids, _ in pairs]
    ids = nn.utils.rnn.pad_sequence(sentences, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones(len(each)) for each in sentences], batch_first=True)
    return {"ids": ids, "mask": mask, "labels": torch.tensor([topic for _, topic in pairs])}
