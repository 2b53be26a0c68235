"""Inside a Trainer: the epoch reaches the loaders, and a run that was cut anywhere sees the same batches again."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from torch import nn

from rebasin_lt.errors import InputError
from rebasin_lt.lit.data.base import ImageData
from rebasin_lt.lit.data.registry import DATASETS, build_data
from rebasin_lt.lit.trainer import quiet_trainer


class Linear(LightningModule):
    def __init__(self, data: ImageData) -> None:
        super().__init__()
        self.net = nn.Linear(data.input_shape[0] * data.input_shape[1] * data.input_shape[2], 10)
        self.seen: list[tuple[int, float]] = []  # epoch, a fingerprint of the batch
        self.counts = {"validation": 0, "test": 0}

    def training_step(self, batch, batch_idx):
        images, labels = batch
        self.seen.append((self.trainer.current_epoch, images.double().sum().item()))
        return nn.functional.cross_entropy(self.net(images.flatten(1)), labels % 10)

    def validation_step(self, batch, batch_idx):
        self.counts["validation"] += len(batch[1])

    def test_step(self, batch, batch_idx):
        self.counts["test"] += len(batch[1])

    def predict_step(self, batch, batch_idx):
        return self.net(batch[0].flatten(1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


def small(request: pytest.FixtureRequest, name: str) -> ImageData:
    """A data module of that name on files that the fixtures write: 20 images to train on, 10 for choices."""
    fixtures = {"fashion_mnist": "fashion", "cifar10": "cifar10", "cifar100": "cifar100", "svhn": "svhn"}
    settings: dict[str, object] = {"batch_size": 5, "train_size": 20, "val_size": 10}
    if name in fixtures:
        settings["root"] = str(request.getfixturevalue(fixtures[name]))
    elif name == "image_folder":
        settings["root"] = str(request.getfixturevalue("folders")({"train": 10, "test": 2}, size=(8, 8)))
        settings |= {"image_size": 8, "num_workers": 0}
    elif name == "imagenet":
        root = request.getfixturevalue("folders")({"train": 1, "val": 1}, classes=1000, size=(8, 8))
        settings |= {"root": str(root), "num_workers": 0}
    return build_data(name, **settings)


class Kill(Callback):
    """Saves, and ends the run, after a number of steps or at the end of an epoch."""

    def __init__(self, path: Path, step: int | None = None, epoch: int | None = None) -> None:
        self.path, self.step, self.epoch = path, step, epoch

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer, *args):
        if trainer.current_epoch == self.epoch:
            self._stop(trainer)

    def _stop(self, trainer):
        trainer.save_checkpoint(self.path)
        raise KeyboardInterrupt


def fit(data: ImageData, folder: Path, callbacks=(), ckpt_path=None, epochs: int = 3, **settings) -> Linear:
    torch.manual_seed(0)
    module = Linear(data)
    trainer = quiet_trainer(folder, epochs, callbacks, accelerator="cpu", **settings)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    except (KeyboardInterrupt, SystemExit):
        assert callbacks
    return module


@pytest.fixture(params=["resident", "workers 0", "workers 2"])
def make_data(request: pytest.FixtureRequest, folders, fashion: Path):
    """A function that makes a new data module with 5 steps in an epoch."""
    if request.param == "resident":
        return lambda: build_data("fashion_mnist", root=str(fashion), val_size=10, batch_size=10)
    root = str(folders({"train": 20, "test": 1}, size=(8, 8)))
    workers = int(request.param.split()[1])
    settings = {"val_size": 10, "batch_size": 10, "image_size": 8, "num_workers": workers, "resident": False}
    return lambda: build_data("image_folder", root=root, **settings)


def test_every_epoch_has_another_order_and_the_same_seed_the_same(make_data, tmp_path: Path) -> None:
    first, again = (fit(make_data(), tmp_path, limit_val_batches=0).seen for _ in range(2))
    assert first == again
    by_epoch = [{batch for at, batch in first if at == epoch} for epoch in range(3)]
    assert [len(batches) for batches in by_epoch] == [5, 5, 5]
    assert len(set.union(*by_epoch)) == 15


@pytest.mark.parametrize("cut", [{"step": 3}, {"step": 5}, {"step": 8}, {"step": 10}, {"epoch": 0}, {"epoch": 1}])
@pytest.mark.parametrize("validate", [True, False])
def test_a_run_cut_anywhere_goes_on_to_the_same_bits(make_data, tmp_path: Path, cut, validate: bool) -> None:
    settings = {} if validate else {"limit_val_batches": 0}
    whole = fit(make_data(), tmp_path, **settings)
    path = tmp_path / "cut.ckpt"
    before = fit(make_data(), tmp_path, [Kill(path, **cut)], **settings)
    after = fit(make_data(), tmp_path, ckpt_path=path, **settings)
    assert before.seen + after.seen == whole.seen
    assert torch.equal(after.net.weight, whole.net.weight)


def test_a_batch_reaches_the_module_as_the_loader_made_it(make_data, tmp_path: Path) -> None:
    class Spy(Callback):
        seen: ClassVar[list[int]] = []

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            self.seen.append(id(batch))

    data, made = make_data(), []
    deliver = data.transfer_batch_to_device
    data.transfer_batch_to_device = lambda batch, *rest: made.append(batch) or deliver(batch, *rest)
    fit(data, tmp_path, [Spy()], epochs=1, limit_val_batches=0)
    assert Spy.seen == [id(batch) for batch in made]
    assert len(made) == 5


def test_a_run_of_part_epochs_resumes_at_the_next_epoch(make_data, tmp_path: Path) -> None:
    whole = fit(make_data(), tmp_path, limit_train_batches=3)
    path = tmp_path / "cut.ckpt"
    before = fit(make_data(), tmp_path, [Kill(path, epoch=1)], limit_train_batches=3)
    after = fit(make_data(), tmp_path, ckpt_path=path, limit_train_batches=3)
    assert len(whole.seen) == 9
    assert before.seen + after.seen == whole.seen


def test_evaluation_sees_every_image_once_and_training_works_after_it(make_data, tmp_path: Path) -> None:
    data = make_data()
    module = Linear(data)
    trainer = quiet_trainer(tmp_path, 1, accelerator="cpu")
    trainer.validate(module, datamodule=data, verbose=False)
    trainer.test(module, datamodule=data, verbose=False)
    assert module.counts["validation"] == data.val_size
    assert module.counts["test"] == len(torch.cat([labels for _, labels in data.sweep("test")]))
    trainer.fit(module, datamodule=data)
    assert len(module.seen) == 5


def test_workers_end_with_the_run_however_it_ends(folders, tmp_path: Path) -> None:
    root = str(folders({"train": 20, "test": 4}, size=(8, 8)))
    before = set(multiprocessing.active_children())
    settings = {"val_size": 10, "batch_size": 10, "image_size": 8, "num_workers": 2, "resident": False}
    data = build_data("image_folder", root=root, **settings)
    module = fit(data, tmp_path, [Kill(tmp_path / "cut.ckpt", step=3)])
    assert module.seen
    assert set(multiprocessing.active_children()) == before
    trainer = quiet_trainer(tmp_path, 1, accelerator="cpu")
    for verb in (trainer.fit, trainer.validate, trainer.test, trainer.predict):
        verb(module, datamodule=data)
        assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_dataset_goes_through_every_verb(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> None:
    """With a plain Trainer: Lightning's defaults, its sanity check included, must take the loaders as they are."""
    data = small(request, name)
    module = Linear(data)
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, datamodule=data)
    assert len(module.seen) == 2 * 4
    module.counts = dict.fromkeys(module.counts, 0)
    trainer.validate(module, datamodule=data, verbose=False)
    trainer.test(module, datamodule=data, verbose=False)
    predictions = trainer.predict(module, datamodule=data)
    num_test = len(data.test_dataloader().sampler.indices)
    assert module.counts == {"validation": 10, "test": num_test}
    assert sum(map(len, predictions)) == num_test > 0


def test_fit_without_validation_images(fashion: Path, tmp_path: Path) -> None:
    data = build_data("fashion_mnist", root=str(fashion), val_size=0, batch_size=20)
    module = fit(data, tmp_path, epochs=1)
    assert len(module.seen) == 3
    assert module.counts["validation"] == 0
    with pytest.raises(InputError, match="split is 'val', but fashion_mnist holds no images out: set val_size"):
        quiet_trainer(tmp_path, 1, accelerator="cpu").validate(module, datamodule=data)


def test_the_checkpoint_holds_the_position_in_primitives(fashion: Path, tmp_path: Path) -> None:
    data = build_data("fashion_mnist", root=str(fashion), val_size=10, batch_size=10)
    fit(data, tmp_path, [Kill(tmp_path / "cut.ckpt", step=8)])
    loops = torch.load(tmp_path / "cut.ckpt", weights_only=True)["loops"]
    assert loops["fit_loop"]["state_dict"]["combined_loader"] == [
        {"epoch": 1, "done": 3, "batch_size": 10, "world_size": 1}
    ]
