"""One network in every form of inputs, and its batches, with labels in every place or none, of every size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Words(nn.Module):
    """Embeds the tokens of a sequence, takes the mean over those that are no padding, and tells classes apart."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.hidden = nn.Linear(6, 7)
        self.head = nn.Linear(7, 3)

    def classify(self, ids: Tensor, mask: Tensor) -> Tensor:
        kept = mask.unsqueeze(-1).to(self.embedding.weight.dtype)
        mean = (self.embedding(ids) * kept).sum(1) / kept.sum(1)
        return self.head(self.hidden(mean).relu())


class OneTensor(Words):
    def forward(self, ids: Tensor) -> Tensor:
        return self.classify(ids, ids >= 0)


class Pair(Words):
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.classify(ids, mask)


class Keywords(Words):
    def forward(self, *, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        return {"logits": self.classify(ids, mask), "cache": object()}


class Nested(Words):
    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, str]:
        return self.classify(batch["ids"], batch["more"][0]), "and a text"


def _tensor(ids: Tensor, mask: Tensor) -> Any:
    return ids


def _tuple(ids: Tensor, mask: Tensor) -> Any:
    return ids, mask


def _dict(ids: Tensor, mask: Tensor) -> Any:
    return {"mask": mask, "ids": ids, "name": ["text"] * len(ids)}


def _nested(ids: Tensor, mask: Tensor) -> Any:
    return {"ids": ids, "more": (mask, None)}


FORMS: dict[str, tuple[type[Words], Callable[[Tensor, Tensor], Any]]] = {
    "tensor": (OneTensor, _tensor),
    "tuple": (Pair, _tuple),
    "dict": (Pair, _dict),
    "keywords": (Keywords, _dict),
    "nested": (Nested, _nested),
}
LABELS: dict[str, Callable[[Any, Tensor], Any]] = {
    "pair": lambda inputs, label: (inputs, label),
    "entry": lambda inputs, label: {**inputs, "label": label},
    "last": lambda inputs, label: (*inputs, label),
}
SIZES = {
    "batch first": [(16, 5)] * 8,
    "other sequence length": [(16, 5), (16, 9), (16, 4), (16, 9), (16, 7), (16, 3), (16, 12), (16, 5)],
    "last batch of 1": [(16, 5)] * 8 + [(1, 5)],
}


def batches(name: str, sizes: str, labelled: str | None = None) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for rows, length in SIZES[sizes]:
        ids = torch.randint(11, (rows, length), generator=generator)
        mask = torch.arange(length) <= torch.randint(length, (rows, 1), generator=generator)
        label = torch.randint(3, (rows,), generator=generator)
        inputs = FORMS[name][1](ids, mask)
        found.append(inputs if labelled is None else LABELS[labelled](inputs, label))
    return found


def labels_of(name: str) -> list[str]:
    return {"tuple": ["pair", "last"], "dict": ["pair", "entry"], "keywords": ["pair", "entry"]}.get(name, ["pair"])


def example(name: str) -> Any:
    inputs = FORMS[name][1](torch.randint(11, (2, 5)), torch.ones(2, 5, dtype=torch.bool))
    if name == "nested":
        return (inputs,)
    return {"ids": inputs["ids"], "mask": inputs["mask"]} if isinstance(inputs, dict) else inputs
