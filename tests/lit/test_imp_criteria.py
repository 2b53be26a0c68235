"""Iterative pruning by every criterion, and from a mask that is there."""

from __future__ import annotations

import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback, LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from rebasin_lt.errors import InputError, Unfinished
from rebasin_lt.lit.callbacks.iterative_magnitude_pruning import IterativeMagnitudePruning
from rebasin_lt.lit.checkpoint import read_checkpoint
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data import Digits
from rebasin_lt.pruning.criteria import CRITERIA, prune_by
from rebasin_lt.pruning.mask import Mask

SETTINGS = {"targets": [0.2, 0.5], "epochs_per_round": 1, "fraction": 0.4}


class Labels(LightningDataModule):
    """Shuffled batches with labels, of a DataLoader."""

    def train_dataloader(self):
        inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=16, shuffle=True)


class Logits(LightningModule):
    """A classifier that is not ours."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))

    def forward(self, inputs):
        return self.layers(inputs)

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Stop(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = True


class Unsized(IterableDataset):
    """Labelled rows, of which nobody knows how many there are."""

    def __iter__(self):
        yield from [(torch.full((6,), float(number)), number % 2) for number in range(8)]


def test_a_loader_without_length_gives_a_criterion_its_batches(trainer, tmp_path):
    runner = trainer(-1, [IterativeMagnitudePruning(**SETTINGS)])
    runner.fit(Logits(), DataLoader(Unsized(), batch_size=4))
    assert Mask.load(tmp_path / "imp" / "sparsity-0.5.mask.safetensors").sparsity == pytest.approx(0.5, abs=0.01)


def alike(first, second):
    return all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("ours", [False, True])
def test_a_stopped_run_ends_with_the_same_bits_whatever_the_criterion(trainer, tmp_path, criterion, ours):
    def make():
        torch.manual_seed(0)
        module = Classifier("mlp", width=0.25, num_classes=10) if ours else Logits()
        return module, Digits(batch_size=200) if ours else Labels()

    def imp(name):
        return IterativeMagnitudePruning(**SETTINGS, criterion=criterion, seed=3, dirpath=str(tmp_path / name))

    def fit(callbacks, ckpt_path=None):
        module, data = make()
        run = trainer(-1, callbacks)
        try:
            torch.manual_seed(1)
            run.fit(module, data, ckpt_path=ckpt_path)
        finally:
            run.save_checkpoint(tmp_path / "end.ckpt")
        return module

    straight = fit([imp("straight")])
    masks = [Mask.load(imp("straight").mask_path(target)) for target in (0.2, 0.5)]
    assert [mask.sparsity for mask in masks] == pytest.approx([0.2, 0.5], abs=1 / masks[0].num_weights)
    assert read_checkpoint(imp("straight").ticket_path(0.5))["rebasin_lt"]["criterion"] == criterion
    with pytest.raises(Unfinished):
        fit([imp("half"), Stop()])
    if ours:  # a shuffling DataLoader draws from the global generator, which no checkpoint of Lightning holds
        assert alike(straight, fit([imp("half")], tmp_path / "end.ckpt"))
        assert [Mask.load(imp("half").mask_path(target)) for target in (0.2, 0.5)] == masks


def test_a_resume_with_another_criterion_is_refused(trainer, tmp_path):
    done = trainer(-1, [IterativeMagnitudePruning([0.2], 1)])
    done.fit(ForeignModule(), ForeignData())
    done.save_checkpoint(tmp_path / "done.ckpt")
    with pytest.raises(InputError, match="was pruned with criterion magnitude, this run has random"):
        trainer(-1, [IterativeMagnitudePruning([0.2], 1, criterion="random")]).fit(
            ForeignModule(), ForeignData(), ckpt_path=tmp_path / "done.ckpt"
        )


def test_pruning_starts_from_a_mask_file(trainer, tmp_path):
    module = ForeignModule()
    names = ["head.weight", "encoder.0.weight"]
    given = prune_by("random", module, (), Mask.ones_like(dict(module.named_parameters()), names), 0.3)
    given.save(tmp_path / "given.mask.safetensors")
    sparsities = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            sparsities.append(imp.mask.sparsity)
            assert all(not pl_module.get_parameter(name)[~kept].any() for name, kept in given.items())

    imp = IterativeMagnitudePruning([0.4], 1, dense_epochs=1, mask=str(tmp_path / "given.mask.safetensors"))
    trainer(-1, [imp, Watch()]).fit(module, ForeignData())
    found = Mask.load(imp.mask_path(0.4))
    assert set(found) == set(names)
    assert sparsities == pytest.approx([0.3] * 4 + [0.4] * 4, abs=1 / given.num_weights)
    assert not any((kept & ~given[name]).any() for name, kept in found.items())


def test_what_cannot_be_is_refused_before_training():
    mask = Mask({"weight": torch.tensor([[True, False]])})
    with pytest.raises(InputError, match="imp criterion is .rndom., which is not known .did you mean random."):
        IterativeMagnitudePruning([0.5], 1, criterion="rndom")
    with pytest.raises(InputError, match="imp targets are .0.5., but the mask to start from is at 0.5000 already"):
        IterativeMagnitudePruning([0.5], 1, mask=mask)
    with pytest.raises(InputError, match="imp mask says what is pruned: leave out exclude and include"):
        IterativeMagnitudePruning([0.8], 1, mask=mask, exclude=("head*",))
