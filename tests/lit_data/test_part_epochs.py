"""Parts of an epoch, as Lightning's Trainer asks for them: so many batches, and the same ones where that is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.registry import build_data
from rebasin_lt.lit.trainer import quiet_trainer

EPOCHS = 3


class Watch(LightningModule):
    """Keeps what it is given, by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[list[Tensor]]] = {"train": [[] for _ in range(EPOCHS)], "val": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"][self.current_epoch].append(batch[0].clone())
        return self.weight * batch[0].mean()

    def on_validation_epoch_start(self):
        self.seen["val"].append([])

    def validation_step(self, batch, batch_idx):
        self.seen["val"][-1].append(batch[0].clone())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(params=["in memory", "from files"])
def data(request: pytest.FixtureRequest, folders, cifar10: Path) -> ImageData:
    """40 images to train on in 8 batches, 10 for choices in 2; augmented."""
    if request.param == "in memory":
        return build_data("cifar10", root=str(cifar10), val_size=10, batch_size=5)
    root = str(folders({"train": 10, "test": 1}, classes=5, size=(8, 8)))
    settings = {"val_size": 10, "batch_size": 5, "image_size": 8, "num_workers": 0, "resident": False}
    return build_data("image_folder", root=root, **settings)


def watch(data: ImageData, folder: Path, **settings: Any) -> dict[str, list[list[Tensor]]]:
    module = Watch()
    quiet_trainer(folder, EPOCHS, accelerator="cpu", **settings).fit(module, datamodule=data)
    return module.seen


@pytest.mark.parametrize(("part", "train", "val"), [(2, 2, 2), (1, 1, 1), (0.5, 4, 1), (1.0, 8, 2)])
def test_overfitting_sees_the_same_batches_in_every_epoch(data, tmp_path, part, train, val):
    """In the order in which they lie there, and as they are: the first ones of a plain pass."""
    seen = watch(data, tmp_path, overfit_batches=part)
    indices = data._images("train")[1]
    plain = data.sweep("train", batch_size=len(indices))
    by_index = dict(zip(plain.sampler.begin()[0].tolist(), next(iter(plain))[0], strict=True))
    for kind, count in (("train", train), ("val", val)):
        assert len(seen[kind]) == EPOCHS
        for epoch in seen[kind]:
            assert [len(batch) for batch in epoch] == [5] * count
            assert torch.equal(torch.cat(epoch), torch.cat(seen[kind][0]))
    first = torch.stack([by_index[index] for index in indices[: 5 * train].tolist()])
    assert torch.equal(torch.cat(seen["train"][0]), first)


@pytest.mark.parametrize(("part", "count"), [(2, 2), (0.5, 4), (0.25, 2), (1.0, 8), (100, 8)])
def test_limits_take_other_batches_in_every_epoch(data, tmp_path, part, count):
    seen = watch(data, tmp_path, limit_train_batches=part, limit_val_batches=1)
    assert [len(epoch) for epoch in seen["train"]] == [count] * EPOCHS
    assert not torch.equal(torch.cat(seen["train"][0]), torch.cat(seen["train"][1]))
    assert [len(epoch) for epoch in seen["val"]] == [1] * EPOCHS
    assert torch.equal(seen["val"][0][0], seen["val"][1][0])


def test_nothing_is_said_of_a_shuffle_that_is_not_there(cifar10, tmp_path, recwarn):
    data = build_data("cifar10", root=str(cifar10), val_size=10, batch_size=5)
    watch(data, tmp_path, overfit_batches=2)
    assert not [warning for warning in recwarn if "overfit" in str(warning.message)]
    data = build_data("cifar10", root=str(cifar10), val_size=10, batch_size=5)
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert data.train_dataloader().sampler.shuffle
