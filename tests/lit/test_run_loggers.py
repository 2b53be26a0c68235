import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from rebasin_lt.cli import main
from rebasin_lt.lit.callbacks.run_loggers import metric_names
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.flat import flat_settings


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def command(*words):
        monkeypatch.setattr("sys.argv", ["rebasin-lt", *words])
        assert main([*words, "--debug"]) == 0

    return command


def events(folder):
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def hyperparameters(accumulator):
    content = {
        tag: HParamsPluginData.FromString(accumulator.SummaryMetadata(tag).plugin_data.content)
        for tag in ("_hparams_/experiment", "_hparams_/session_start_info")
    }
    start = content["_hparams_/session_start_info"].session_start_info.hparams
    metrics = [info.name.tag for info in content["_hparams_/experiment"].experiment.metric_infos]
    return start, metrics


def test_a_dynamic_run_shows_masks_profile_and_hyperparameters(run, tmp_path):
    run("fit", "--config", "dst.yaml", "--trainer.max_epochs", "3")
    found = events(tmp_path / "runs/dst")
    sparsity = found.Scalars("mask/sparsity")
    assert [event.step for event in sparsity] == [0, 21, 41]  # at the start, and after the steps that exchanged
    final = Mask.load(tmp_path / "runs/dst/dst/final.mask.safetensors")
    assert sparsity[-1].value == pytest.approx(final.sparsity)
    for row in final.report():
        assert found.Scalars(f"mask/layer_sparsity/{row['name']}")[-1].value == pytest.approx(row["sparsity"])
    assert [image.step for image in found.Images("mask/profile")] == [60]
    start, metrics = hyperparameters(found)
    assert start["model"].string_value == "Classifier" or start["model"].string_value.endswith(".Classifier")
    assert start["model.learning_rate"].number_value == 0.1
    assert start["callbacks.DynamicSparseTraining.method"].string_value == "rigl"
    assert {"train/loss", "dst/sparsity"} <= set(metrics)


def test_the_test_fills_the_entry_of_its_run(run, tmp_path):
    run("fit", "--config", "dense.yaml", "--trainer.max_epochs", "1", "--trainer.callbacks", "null",
        "--data.val_size", "100")  # fmt: skip
    run("test", "--config", "runs/a/config.yaml")
    found = events(tmp_path / "runs/a")
    _, metrics = hyperparameters(found)
    assert {"val/top1", "test/top1"} <= set(metrics)
    assert len(found.Scalars("test/top1")) == 1
    assert len(found.Scalars("val/top1")) == 1


def test_a_test_is_told_at_the_step_and_epoch_of_its_checkpoint(run, tmp_path):
    """As the last of training is: at step 0 it would stand as that of the untrained network, and the epochs fall."""
    run("fit", "--config", "dense.yaml", "--trainer.max_epochs", "3", "--trainer.callbacks", "null")
    (trained,) = events(tmp_path / "runs/a").Scalars("train/loss")[-1:]
    run("test", "--config", "runs/a/config.yaml")
    found = events(tmp_path / "runs/a")
    assert [event.step for event in found.Scalars("test/top1")] == [60]
    assert trained.step in {59, 60}
    assert [event.value for event in found.Scalars("epoch")] == sorted(event.value for event in found.Scalars("epoch"))
    assert found.Scalars("epoch")[-1].value == 2


BY_HAND = """
import torch
from lightning import LightningDataModule, LightningModule

class ByHand(LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.automatic_optimization = torch.nn.Linear(3, 2), False

    def forward(self, batch):
        return self.net(batch)

    def training_step(self, batch, index):
        self.log("train/loss", self(batch).sum())
        for optimiser in self.optimizers():
            optimiser.zero_grad()
            self.manual_backward(self(batch).sum())
            optimiser.step()

    def validation_step(self, batch, index):
        self.log("val/loss", self(batch).sum())

    def configure_optimizers(self):
        return [torch.optim.SGD([weight], lr=0.1) for weight in self.net.parameters()]

class Ones(LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.ones(20, 3), 1)

    val_dataloader = train_dataloader
"""
"""Takes two steps in every batch: `global_step` runs twice as fast as what Lightning logs."""


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_all_that_a_run_with_two_optimisers_tells_has_the_same_steps(run, tmp_path, monkeypatch):
    (tmp_path / "by_hand.py").write_text(BY_HAND)
    monkeypatch.syspath_prepend(str(tmp_path))
    run("fit", "--model", "by_hand:ByHand", "--data", "by_hand:Ones", "--trainer.max_epochs", "2",
        "--trainer.log_every_n_steps", "5", "--trainer.default_root_dir", "by_hand_run")  # fmt: skip
    found = events(tmp_path / "by_hand_run")
    assert [event.step for event in found.Scalars("val/loss")] == [19, 39]
    assert [event.step for event in found.Scalars("learning_rate/0")] == [0, 5, 10, 15, 20, 25, 30, 35]


def test_imp_shows_each_round(run, tmp_path):
    imp = "--trainer.callbacks.init_args"
    run("fit", "--config", "imp.yaml", "--model.init_from", "null",
        f"{imp}.targets=[0.2,0.5]", f"{imp}.fraction=0.4", f"{imp}.epochs_per_round=1")  # fmt: skip
    sparsity = events(tmp_path / "runs/imp").Scalars("mask/sparsity")
    assert [event.value for event in sparsity][-1] == pytest.approx(0.5, abs=1e-3)
    assert len({event.value for event in sparsity}) >= 3


def test_settings_are_flat_and_named_by_class():
    settings = {
        "seed": 1,
        "model": {"class_path": "Classifier", "init_args": {"arch": "mlp", "shape": [1, 2], "mask": None}},
        "callbacks": [{"class_path": "a.b.C", "init_args": {"x": 0.5}}, {"class_path": "D"}],
    }
    assert flat_settings(settings) == {
        "seed": 1, "model": "Classifier", "model.arch": "mlp", "model.shape": "[1, 2]", "callbacks.C.x": 0.5,
    }  # fmt: skip


def test_each_validation_metric_has_its_test_beside_it():
    assert metric_names({"train/loss": 1, "val/top1": 2, "test/top1": 3}) == ["train/loss", "val/top1", "test/top1"]
    assert metric_names({"val/loss": 1}) == ["val/loss", "test/loss"]
