"""What a fit says: off a terminal few lines, each of use; on one, the time left; and what is written beside."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import LightningDataModule, LightningModule
from own import Regressor, TabularData
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from rebasin_lt import Classifier, Digits, InitFrom, IterativeMagnitudePruning
from rebasin_lt.cli import main
from rebasin_lt.commands.evaluated import tell_metrics
from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.callbacks.progress import FitProgress, left_files, metrics_text, next_commands
from rebasin_lt.lit.run_facts import RunFacts, batch_warnings, facts_of, sampler_warnings, write_facts
from rebasin_lt.lit.trainer import quiet_trainer
from rebasin_lt.storage.run_records import (
    EVALUATIONS_FILE,
    FACTS_FILE,
    read_evaluations,
    read_facts,
    record_evaluation,
)

FIT = "fit --config dense.yaml --trainer.max_epochs 2 --trainer.callbacks.init_args.at [0it,1ep]"
FACTS = RunFacts("mlp", 13130, None, "Digits", 1000, 20, 20, "cpu", 4, 200, 0.1)


def test_a_fit_says_what_it_trains_how_each_epoch_went_and_what_is_next(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*FIT.split(), "--global-batch", "100"]) == 0
    said = capsys.readouterr()
    assert (
        "runs/a: warning: a step has 50 samples (1 process), but the configuration's global_batch says 100" in said.err
    )
    lines = said.out.splitlines()
    assert lines[0] == (
        "runs/a: mlp, 13,130 parameters; Digits, 1,000 samples to train on; 2 epochs of 20 batches on cpu; "
        "global batch 50, learning rate 0.1 (0.512 per 256 samples)"
    )
    assert [re.match(r"runs/a: epoch (\d)/2  train/loss .* val/top1 ", line)[1] for line in lines[1:3]] == ["1", "2"]
    assert re.search(r"s an epoch, 0:\d\d left\)$", lines[1])
    assert lines[3].startswith("runs/a: done after 2 epochs in 0:")
    rows = [json.loads(line) for line in Path("runs/a/metrics.jsonl").read_text().splitlines()]
    assert f"val/top1 {rows[-2]['val/top1']:.4g}" in lines[3]
    assert lines[4:] == [
        "runs/a: left here: last.ckpt, metrics.jsonl, rewind/*.ckpt",
        "runs/a: next: rebasin-lt test --config runs/a/config.yaml",
    ]
    assert read_facts(Path("runs/a")) == {
        **{"network": "mlp", "parameters": 13130, "sparsity": None, "data": "Digits", "samples": 1000, "epochs": 2},
        **{"steps_per_epoch": 20, "device": "cpu", "processes": 1, "global_batch": 50, "learning_rate": 0.1},
        "learning_rate_per_256": 0.512,
        "num_classes": 10,
    }
    assert "quiet" not in Path("runs/a/config.yaml").read_text()

    assert main(FIT.split()) == 0  # what warns is no part of a run
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("runs/a: complete already after 2 epochs: train/loss ")
    assert lines[0].endswith("; nothing was trained")
    assert lines[-1] == "runs/a: next: rebasin-lt test --config runs/a/config.yaml"
    assert main([*FIT.split(), "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_a_run_is_to_be_tested_only_where_there_is_what_to_test_it_on(tmp_path) -> None:
    def said(data: LightningDataModule | None) -> list[str]:
        return next_commands(SimpleNamespace(callbacks=[], datamodule=data), Regressor(), tmp_path)

    assert said(LightningDataModule()) == []  # it has no test_dataloader, and the command would fail
    assert said(TabularData()) == said(None) == [f"rebasin-lt test --config {tmp_path}/config.yaml"]


def test_what_is_next_for_a_module_of_ones_own_names_its_class_and_where_it_began(tmp_path) -> None:
    pruning = [IterativeMagnitudePruning([0.5], 1), InitFrom("runs/a/last.ckpt")]
    (command,) = next_commands(SimpleNamespace(callbacks=pruning, datamodule=TabularData()), Regressor(), tmp_path)
    assert command.startswith(
        "rebasin-lt permute --model own:Regressor --data own:TabularData --ckpt-a runs/a/last.ckpt "
    )
    (command,) = next_commands(SimpleNamespace(callbacks=pruning[:1], datamodule=Digits()), Classifier("mlp"), tmp_path)
    assert command.startswith("rebasin-lt permute --ckpt-a A.ckpt --ckpt-b B.ckpt --masks ")


def test_test_writes_its_numbers_into_the_runs_folder_once_for_each_checkpoint(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*FIT.split(), "--quiet"]) == 0
    assert main(["test", "--config", "runs/a/config.yaml", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["test", "--config", "runs/a/config.yaml"]) == 0
    assert main(["test", "--config", "runs/a/config.yaml", "--ckpt_path", "runs/a/rewind/0it.ckpt"]) == 0
    said = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    found = read_evaluations(Path("runs/a"))["test"]
    assert {name: each["step"] for name, each in found.items()} == {"last.ckpt": 40, "rewind/0it.ckpt": 0}
    written = [found[at][name] for at in found for name in ("test/loss", "test/top1", "test/top5")]
    assert [f"{value:.4f}" for value in written] == [value for _, value in said]


@pytest.mark.parametrize("total", [1, 2, 19, 20, 21, 39, 40, 41, 200, 1000])
def test_off_a_terminal_a_fit_says_at_most_twenty_one_of_its_epochs_and_the_last(total) -> None:
    progress = FitProgress("runs/a")
    due = [epoch for epoch in range(1, total + 1) if progress._is_due(epoch, total)]
    assert len(due) <= 21
    assert due[-1] == total
    assert due == list(range(1, total + 1)) or total > 20


def test_on_a_terminal_every_epoch_is_said_and_a_line_has_the_time_left(monkeypatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("rebasin_lt.process.progress_line.sys", SimpleNamespace(stderr=terminal))
    progress = FitProgress("runs/a")
    assert all(progress._is_due(epoch, 1000) for epoch in range(1, 1001))
    trainer = SimpleNamespace(
        is_global_zero=True, num_training_batches=10, max_epochs=3, fit_loop=SimpleNamespace(total_batch_idx=4)
    )
    progress.on_train_batch_end(trainer, None, None, None, 4)
    assert re.search(r"runs/a: batch 5/30, \d:\d\d left", terminal.getvalue())
    terminal.truncate(0)
    quiet = FitProgress("runs/a", quiet=True)
    quiet.on_train_batch_end(trainer, None, None, None, 4)
    assert terminal.getvalue() == ""


def test_a_line_reaches_a_log_file_when_it_is_said(tmp_path, monkeypatch) -> None:
    with (tmp_path / "log").open("w") as log:  # which a file is not, by itself
        monkeypatch.setattr("sys.stdout", log)
        FitProgress("runs/a")._say("epoch 1/2")
        assert (tmp_path / "log").read_text() == "runs/a: epoch 1/2\n"


def test_metrics_are_written_training_first_and_eight_of_them_at_most() -> None:
    assert metrics_text({"val/loss": 2.0, "b": 1.0, "train/loss": 1 / 3}) == "train/loss 0.3333  val/loss 2  b 1"
    assert metrics_text({f"m{index:02}": 0.0 for index in range(20)}).count("  ") == 7
    assert metrics_text({}) == "no metrics"


def test_files_that_a_run_left_are_named_and_many_of_a_kind_as_a_pattern(tmp_path) -> None:
    for name in ("last.ckpt", "rewind/0it.ckpt", "imp/a.mask.safetensors", "imp/b.mask.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert left_files(tmp_path) == ["last.ckpt", "rewind/0it.ckpt", "imp/*.mask.safetensors"]


class Plain(LightningModule):
    """A module of the user's own, which says nothing of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = [{"params": [self.layer.weight], "lr": 0.1}, {"params": [self.layer.bias], "lr": 0.2}]
        return torch.optim.SGD(groups)


def test_a_module_and_loader_of_ones_own_are_named_by_class_and_unknown_numbers_are_left_out(tmp_path) -> None:
    trainer = quiet_trainer(tmp_path, 1, accelerator="cpu", accumulate_grad_batches=3)
    module = Plain()
    trainer.fit(module, DataLoader(TensorDataset(torch.zeros(6, 2)), batch_size=2))
    facts = facts_of(trainer, module)
    assert facts.line() == (
        "Plain, 3 parameters; DataLoader, 6 samples to train on; 1 epoch of 3 batches on cpu; global batch 6"
    )
    assert facts.rate_per_256 is None
    trainer.fit_loop.epoch_progress.reset()
    trainer.fit(module, DataLoader([[torch.zeros(2, 2)], [torch.zeros(2, 2)]], batch_size=None))
    assert facts_of(trainer, module).samples is None  # they are ready batches, of two each
    unknown = replace(facts, samples=None, epochs=None, steps_per_epoch=None, global_batch=None)
    assert unknown.line() == "Plain, 3 parameters; DataLoader; no limit of epochs on cpu"


def test_a_rate_for_another_number_of_samples_in_a_step_is_warned_of() -> None:
    assert batch_warnings(FACTS, {}, None) == []
    assert batch_warnings(FACTS, {"global_batch": 200, "learning_rate": 0.1}, 200) == []
    assert batch_warnings(FACTS, {"global_batch": 100, "learning_rate": 0.05}, None) == []  # scaled with it
    assert batch_warnings(replace(FACTS, learning_rate=None), {"global_batch": 100}, 100) == []
    (warning,) = batch_warnings(FACTS, {}, 100)
    assert "200 samples (4 processes), but the configuration's global_batch says 100" in warning
    assert warning.endswith("scale the rate to 0.2")
    (warning,) = batch_warnings(FACTS, {"global_batch": 100, "learning_rate": 0.1}, None)
    assert "but the run, as it began, says 100" in warning
    assert "4 × cpu" in FACTS.line()


@pytest.mark.parametrize(("sampler", "kind"), [
    ({}, "SequentialSampler"), ({"shuffle": True}, "RandomSampler"),
    ({"sampler": DistributedSampler(range(8), 2, 0)}, None), ({"batch_sampler": [[0, 1]]}, None),
    ({"sampler": [0, 2]}, None),
])  # fmt: skip
def test_a_loader_that_gives_every_process_all_samples_is_warned_of(sampler, kind) -> None:
    def said(processes: int) -> list[str]:
        loader = DataLoader(range(8), **sampler)
        return sampler_warnings(
            SimpleNamespace(world_size=processes, train_dataloader=loader, datamodule=TabularData())
        )

    assert said(1) == []
    assert said(2) == ([] if kind is None else [
        f"warning: the {kind} of TabularData gives each of 2 processes all samples of its dataset: set "
        "trainer.use_distributed_sampler to true, so that they share them, unless each has a dataset of its own"
    ])  # fmt: skip


def test_facts_that_cannot_be_read_are_none(tmp_path) -> None:
    assert read_facts(tmp_path) == {}
    (tmp_path / FACTS_FILE).write_text("[1")
    assert read_facts(tmp_path) == {}


def test_evaluations_are_kept_of_a_runs_own_checkpoints_alone(tmp_path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    assert not record_evaluation(folder, "test", folder / "last.ckpt", 1, {"test/loss": 1.0})  # no run's folder
    (folder / "config.yaml").touch()
    assert not record_evaluation(folder, "test", tmp_path / "other.ckpt", 1, {"test/loss": 1.0})
    assert record_evaluation(folder, "test", folder / "last.ckpt", 1, {"test/loss": float("nan")})
    assert record_evaluation(folder, "validate", folder / "last.ckpt", 1, {"val/loss": 2.0})
    assert read_evaluations(folder) == {
        "test": {"last.ckpt": {"step": 1, "test/loss": None}},
        "validate": {"last.ckpt": {"step": 1, "val/loss": 2.0}},
    }
    (folder / EVALUATIONS_FILE).write_text("[]")
    with pytest.raises(BrokenFileError, match="evaluations.json holds no evaluations by verb and checkpoint"):
        read_evaluations(folder)


@pytest.mark.parametrize(("verb", "sparsity"), [("fit", None), ("fit", 0.9), ("test", None), ("test", 0.9)])
def test_a_network_that_learned_nothing_is_said_to_have(tmp_path, capsys, verb, sparsity) -> None:
    """By the accuracy that `fit` or `test` has measured; what to do depends on the mask."""
    write_facts(tmp_path, replace(FACTS, sparsity=sparsity))
    guards = [] if sparsity is None else [SimpleNamespace(mask=SimpleNamespace(sparsity=sparsity))]
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "step": 2, "val/top1": 10.0, "train/top1": 50.0}\n')
    trainer = SimpleNamespace(
        **{"is_global_zero": True, "fast_dev_run": False, "limit_train_batches": 1.0, "current_epoch": 2},
        **{"datamodule": Digits(), "callbacks": guards, "default_root_dir": str(tmp_path)},
        **{"lightning_module": Classifier("mlp"), "callback_metrics": {"test/top1": torch.tensor(10.0)}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rebasin_lt.lit.callbacks.progress.MaskGuard", SimpleNamespace)
        patch.setattr("rebasin_lt.lit.callbacks.progress.is_short_try", lambda trainer: False)
        if verb == "fit":
            FitProgress(tmp_path).on_fit_end(trainer, trainer.lightning_module)
        else:
            tell_metrics(trainer, "test", tmp_path / "last.ckpt", 2, quiet=False)
    said = capsys.readouterr()
    last = (said.out if verb == "fit" else said.err).splitlines()[-1]
    metric = "val/top1" if verb == "fit" else "test/top1"
    assert last.startswith(f"{tmp_path}: {metric} 10 is what a constant answer gives (10 classes): the network ")
    assert ("collapsed: `rebasin-lt mask" in last) == (sparsity is not None)
