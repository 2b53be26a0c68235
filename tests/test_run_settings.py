"""Settings of `fit` and its relatives that no parser refuses: one line each, before anything is built or written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from rebasin_lt.cli import main
from rebasin_lt.commands.run_settings import may_differ
from rebasin_lt.errors import InputError
from rebasin_lt.lit.data import Digits
from rebasin_lt.lit.trainer import check_strategy
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.settings.checked import check_not_null

SHARDED = "which splits every weight over the processes, where masks and checkpoints need it whole: use ddp"
CASES = [
    ("--seed_everything -1", "seed_everything is -1, expected 0 to 4294967295"),
    ("--seed_everything 4294967296", "seed_everything is 4294967296, expected 0 to 4294967295"),
    ("--data.batch_size null", "data.batch_size is null, expected int"),
    ("--model.learning_rate null", "model.learning_rate is null, expected float"),
    ("--model.arch torchvision:xyz", "model is torchvision:xyz, which torchvision does not have"),
    ("--model.arch torchvision:resnet51", "which torchvision does not have (did you mean resnet50?)"),
    ("--trainer.strategy fsdp", f"trainer.strategy is fsdp, {SHARDED}"),
    ("--trainer.strategy deepspeed_stage_2", f"trainer.strategy is deepspeed_stage_2, {SHARDED}"),
    ("--trainer.strategy lightning.pytorch.strategies.FSDPStrategy", SHARDED),
]


@pytest.mark.parametrize(("words", "message"), CASES, ids=[words for words, _ in CASES])
def test_it_is_refused_in_one_short_line(tmp_path, monkeypatch, capfd, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    assert main(["fit", "--config", "dense.yaml", *words.split()]) == 2
    error = capfd.readouterr().err
    assert error.startswith("rebasin-lt: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert len(error) < 250
    assert not list(tmp_path.iterdir())


def test_an_unknown_file_is_refused_in_one_short_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "nope.yaml"]) == 2
    error = capfd.readouterr().err
    assert "shipped are dense.yaml, " in error
    assert "studies/*.yaml" in error
    assert len(error) < 250


def test_a_batch_size_of_none_is_refused_in_python():
    with pytest.raises(InputError, match="batch_size is None, expected at least 1"):
        Digits(batch_size=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fsdp", {"class_path": "DeepSpeedStrategy"}, "FSDPStrategy", "deepspeed"])
def test_strategies_that_split_weights_are_refused_where_they_are_named(name):
    with pytest.raises(InputError, match=r"recipe\.trainer\.strategy is .*, which splits every weight"):
        check_strategy(name, "recipe.trainer.strategy")


@pytest.mark.parametrize(
    "name", ["auto", "ddp", "ddp_find_unused_parameters_true", {"class_path": "DDPStrategy"}, None]
)
def test_strategies_that_keep_them_whole_are_not(name):
    check_strategy(name, "trainer.strategy")


class Typed(nn.Module):
    def __init__(self, rate: float = 1.0, size: int | None = None, free=2, late: float | None = 3.0, *, own: str = ""):
        super().__init__()


def test_null_is_refused_for_what_cannot_be_none_alone():
    check_not_null("model", Typed, {"size": None, "free": None, "late": None, "rate": 2.0, "unknown": None})
    for name in ("rate", "own"):
        with pytest.raises(InputError, match=rf"model\.{name} is null, expected (float|str)"):
            check_not_null("model", Typed, {name: None})


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
@pytest.mark.parametrize("command", ["mask", "control --kind shuffled", "control --kind random_uniform"])
def test_a_mask_of_no_weights_is_done_or_refused_in_one_line(tmp_path, monkeypatch, capfd, command, shape):
    monkeypatch.chdir(tmp_path)
    Mask({"layers.0.weight": torch.zeros(shape, dtype=torch.bool)}).save("none.mask.safetensors")
    code = main([*command.split(), "--mask", "none.mask.safetensors", "--out", "new.mask.safetensors"])
    error = capfd.readouterr().err
    assert code in {0, 2}
    assert error.count("\n") == (1 if code else 0)
    assert "Error" not in error


def test_a_run_is_evaluated_from_any_working_directory(tmp_path, monkeypatch, capfd):
    """The numbers are those of the run that the file lies in, and its loggers are told, wherever it moved."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    logger = json.dumps({"class_path": "CSVLogger", "init_args": {"save_dir": "runs/a", "name": "csv"}})
    words = ["--trainer.max_epochs", "1", "--trainer.callbacks", "null", "--trainer.logger", logger]
    assert main(["fit", "--config", "dense.yaml", *words, "--data.train_size", "100", "--quiet"]) == 0
    assert main(["test", "--config", "runs/a/config.yaml"]) == 0
    here = capfd.readouterr().out
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs/a").rename(tmp_path / "elsewhere/moved")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["test", "--config", "moved/config.yaml"]) == 0
    assert capfd.readouterr().out == here
    assert [path.name for path in Path().iterdir()] == ["moved"]
    rows = Path("moved/csv/version_0/metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("test/top1")
    assert len([row for row in rows[1:] if row.split(",")[column]]) == 2
    assert main(["test", "--config", "moved/config.yaml", "--trainer.default_root_dir", "other"]) == 2
    assert "there is no other/last.ckpt to test" in capfd.readouterr().err


@pytest.mark.parametrize(("path", "free"), [("rebasin_lt.ImageFolder", True), ("mine.ImageFolder", False)])
def test_lightnings_sampler_may_change_where_loaders_share_images_by_themselves(path: str, free: bool) -> None:
    """As in folders of a release that had it off."""
    assert ("trainer.use_distributed_sampler" in may_differ({"data": {"class_path": path}})) is free


@pytest.mark.parametrize(("trainer", "free"), [
    ({"devices": 1, "num_nodes": 1}, True), ({"devices": "auto", "accelerator": "cpu", "num_nodes": 1}, True),
    ({"devices": 2, "num_nodes": 1}, False), ({"devices": 1, "num_nodes": 2}, False),
    ({"devices": "auto", "accelerator": "auto", "num_nodes": 1}, False),
    ({"devices": [1], "num_nodes": 1}, False),
])  # fmt: skip
def test_lightnings_sampler_may_change_in_one_process(trainer: dict, free: bool) -> None:
    settings = {"data": {"class_path": "mine.Data"}, "trainer": trainer}
    assert ("trainer.use_distributed_sampler" in may_differ(settings)) is free
