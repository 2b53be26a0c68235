"""Every shipped configuration of `fit` under ordinary settings of the Trainer: begun, given again, killed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from lightning import Callback
from shipped_fits import STAGES, make_inputs, read, small

from rebasin_lt.cli import main
from rebasin_lt.lit.checkpoint import read_checkpoint
from rebasin_lt.lit.metrics_file import read_rows

LOGGERS = [
    {"class_path": "CSVLogger", "init_args": {"save_dir": "run", "name": "csv"}},
    {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "run", "name": "tb"}},
    {"class_path": "remote.Remote", "init_args": {"save_dir": "run/remote"}},
]
SETTINGS = {
    "fast_dev_run": {"fast_dev_run": 2},
    "limits": {"limit_train_batches": 2, "limit_val_batches": 1},
    "overfit": {"overfit_batches": 2},
    **{logger["class_path"]: {"logger": logger} for logger in LOGGERS},
    "all loggers": {"logger": LOGGERS},
}
QUICK = {(f"{name}.yaml", "fast_dev_run") for name in ("dense", "imp", "dst")}
QUICK |= {("dense.yaml", "overfit"), ("sparse.yaml", "all loggers"), ("imp.yaml", "limits")}
PRODUCT = [
    pytest.param(name, setting, id=f"{name} {setting}", marks=[] if (name, setting) in QUICK else [pytest.mark.slow])
    for name in STAGES
    for setting in SETTINGS
]


class Watch(Callback):
    """Notes the batches that were trained on, by their sums; fails after so many, unless there is a file `stopped`."""

    seen: list[tuple[int, float]] = []  # noqa: RUF012

    def __init__(self, die_after: int) -> None:
        self.die_after = die_after

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        Watch.seen.append((trainer.current_epoch, float(batch[0].sum())))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.die_after and not Path("stopped").exists():
            raise OSError("killed")


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rebasin-lt"])
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def begin(name, changes, die_after=-1):
        settings = small(read(name), tmp_path / f"images{die_after}")
        make_inputs(settings, tmp_path)
        watch = {"class_path": "test_shipped_fits.Watch", "init_args": {"die_after": die_after}}
        changes = {**changes, "callbacks": [*settings["trainer"].get("callbacks", []), watch]}
        settings["trainer"] |= {"default_root_dir": "run", **changes}
        Path("x.yaml").write_text(yaml.safe_dump(settings))
        return again()

    def again():
        import test_shipped_fits as here  # the module that the YAML names

        here.Watch.seen = Watch.seen = []
        code = main(["fit", "--config", "x.yaml"])
        Watch.seen = here.Watch.seen
        return code

    return begin, again


def kept() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path("run").rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(("name", "setting"), PRODUCT)
def test_a_shipped_run_begins_ends_and_goes_on(fit, tmp_path, name, setting):
    begin, again = fit
    assert begin(name, SETTINGS[setting]) == 0
    assert Watch.seen
    if setting == "fast_dev_run":
        assert len(Watch.seen) == 2
        assert not Path("run").exists()
        assert again() == 0  # nothing is there to go on from
        return
    if setting == "limits":
        assert {epoch: [e for e, _ in Watch.seen].count(epoch) for epoch, _ in Watch.seen} == {0: 2, 1: 2}
    if setting == "overfit":
        first = [value for epoch, value in Watch.seen if epoch == 0]
        assert len(first) == 2
        if "Digits" in Path("x.yaml").read_text():  # which are not augmented: the same batches in every epoch
            assert [value for epoch, value in Watch.seen if epoch == 1] == first
    files = kept()
    assert again() == 0
    assert not Watch.seen
    assert kept() == files
    Path("run").rename("whole")
    assert begin(name, SETTINGS[setting], die_after=3) == 1
    Path("stopped").touch()
    assert again() == 0
    assert len(Watch.seen) <= len(files) + 10
    whole, resumed = (read_checkpoint(Path(folder) / "last.ckpt") for folder in ("whole", "run"))
    assert whole["global_step"] == resumed["global_step"]
    for tensor_name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, resumed["state_dict"][tensor_name]), tensor_name
    assert read_rows(Path("run/metrics.jsonl")) == read_rows(Path("whole/metrics.jsonl"))
