"""An encoder and a decoder of Hugging Face, on sentences: `pip install transformers`; nothing is downloaded.

Both are small, with random weights. Their answers are objects with `.logits`.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import DistilBertConfig, DistilBertForSequenceClassification, LlamaConfig, LlamaForCausalLM
from transformers.utils import ModelOutput

from examples.sentences import TOPICS, encoded

IGNORED = -100
Batch = dict[str, Tensor]


class _Judged(LightningModule):
    """Training and evaluation of both; labels that are IGNORED do not count."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._judged(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._judged(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self._judged(batch, "test")

    def _judged(self, batch: Batch, split: str) -> Tensor:
        labels = batch["labels"]
        logits = self(batch["input_ids"], batch["attention_mask"]).logits
        loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED)
        right = (logits.argmax(-1) == labels)[labels != IGNORED].float().mean()
        values = {f"{split}/loss": loss, f"{split}/top1": 100 * right}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class Encoder(_Judged):
    """DistilBERT with two small layers, which says what a sentence is about.

    Args:
        vocabulary: of the data
        units: of the residual stream; layers between have twice as many units
        learning_rate: of Adam
    """

    def __init__(self, vocabulary: int = 1000, units: int = 32, learning_rate: float = 0.003) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = DistilBertForSequenceClassification(
            DistilBertConfig(
                vocab_size=vocabulary,
                dim=units,
                hidden_dim=2 * units,
                n_layers=2,
                n_heads=4,
                max_position_embeddings=32,
                num_labels=len(TOPICS),
            )
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        """An object whose `logits` are (sentences, topics), of ids and mask, (sentences, words)."""
        return self.net(input_ids=input_ids, attention_mask=attention_mask)


class Decoder(_Judged):
    """Llama with two small layers, which says what the next word is.

    Args:
        vocabulary: of the data
        units: of the residual stream; layers between have twice as many units
        learning_rate: of Adam
    """

    def __init__(self, vocabulary: int = 500, units: int = 32, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=units,
                intermediate_size=2 * units,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=32,
                use_cache=False,
            )
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> ModelOutput:
        """An object whose `logits` are (sentences, words, vocabulary), of ids and mask, (sentences, words)."""
        return self.net(input_ids=input_ids, attention_mask=attention_mask)


class SentenceData(LightningDataModule):
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
        return DataLoader(chosen, self.hparams.batch_size, shuffle=shuffle, collate_fn=self.batch)

    def batch(self, pairs: list[tuple[list[int], int]]) -> Batch:
        """Sentences as long as the longest of them, and their topics, (sentences,)."""
        return _padded([ids for ids, _ in pairs]) | {"labels": torch.tensor([topic for _, topic in pairs])}


class NextWordData(SentenceData):
    """The same sentences, labelled with the next word of each; the vocabulary is smaller."""

    def __init__(self, vocabulary: int = 500, batch_size: int = 100) -> None:
        super().__init__(vocabulary, batch_size)

    def batch(self, pairs: list[tuple[list[int], int]]) -> Batch:
        """Sentences without their last word, and the next words, (sentences, words); IGNORED behind the end."""
        labels = [torch.tensor(ids[1:]) for ids, _ in pairs]
        padded = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        return _padded([ids[:-1] for ids, _ in pairs]) | {"labels": padded}


def _padded(sentences: list[list[int]]) -> Batch:
    ids = [torch.tensor(each) for each in sentences]
    return {
        "input_ids": nn.utils.rnn.pad_sequence(ids, batch_first=True),
        "attention_mask": nn.utils.rnn.pad_sequence([torch.ones_like(each) for each in ids], batch_first=True),
    }
