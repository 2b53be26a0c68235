"""A metrics file goes on after a crash, whole lines only."""

from __future__ import annotations

import json
import os

import pytest
import torch
from foreign import ForeignData, ForeignModule
from lightning import Callback

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data.digits import Digits
from rebasin_lt.lit.metrics_file import MetricsFile, read_rows


class Measured(ForeignModule):
    def on_train_epoch_end(self):
        self.log("seed", float(torch.initial_seed()))


def fit(trainer, folder, epochs, seed, **settings) -> None:
    torch.manual_seed(seed)
    run = trainer(epochs, [MetricsFile(folder)], enable_checkpointing=True)
    run.fit(Measured(), ForeignData(), **settings)
    run.save_checkpoint(folder / f"{epochs}.ckpt")


def test_a_line_cut_off_is_dropped_before_the_next_is_written(trainer, tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    fit(trainer, tmp_path, 1, 3)
    path.write_text(path.read_text() + '{"epoch": 1, "st')
    fit(trainer, tmp_path, 2, 4, ckpt_path=tmp_path / "1.ckpt")
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"epoch": 0, "step": 4, "seed": 3},
        {"epoch": 1, "step": 8, "seed": 4},
    ]


def test_rows_after_the_checkpoint_stand_there_once(trainer, tmp_path) -> None:
    fit(trainer, tmp_path, 2, 3)
    fit(trainer, tmp_path, 3, 4, ckpt_path=tmp_path / "2.ckpt")
    fit(trainer, tmp_path, 4, 5, ckpt_path=tmp_path / "2.ckpt")
    assert [(row["epoch"], row["seed"]) for row in read_rows(tmp_path / "metrics.jsonl")] == [
        (0, 3),
        (1, 3),
        (2, 5),
        (3, 5),
    ]


def test_a_row_in_mid_epoch_stands_there_once(trainer, tmp_path) -> None:
    """Validation after every second of four batches; the run dies after the fourth, with a checkpoint of the third."""

    class Die(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 2:
                trainer.save_checkpoint(tmp_path / "3.ckpt")
            elif batch_idx == 3:
                raise OSError("no more")

    def run(*callbacks, **settings):
        torch.manual_seed(0)
        fitting = trainer(1, [*callbacks, MetricsFile(tmp_path)], enable_checkpointing=True, val_check_interval=2)
        fitting.fit(Classifier(), Digits(batch_size=250), **settings)

    run()
    whole = (tmp_path / "metrics.jsonl").read_text()
    assert whole.count("val/loss") == 2
    with pytest.raises(OSError, match="no more"):
        run(Die())
    run(ckpt_path=tmp_path / "3.ckpt")
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_each_row_is_on_disk_before_anything_else_happens(trainer, tmp_path, monkeypatch) -> None:
    synced, real = [], os.fsync

    def fsync(handle):
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    fit(trainer, tmp_path, 2, 3)
    assert synced.count(str(tmp_path / "metrics.jsonl")) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 2 is not readable JSON"),
        (b'"\xff"', "line 2 is not readable JSON"),
        (b"[" * 100_000, "line 2 is not readable JSON"),
        (b"3", "line 2 is no row of metrics: it has no epoch"),
        (b"{}", "line 2 is no row of metrics"),
        (b'{"epoch": "one"}', "line 2 is no row of metrics"),
    ],
)
def test_what_is_no_row_is_named_by_its_line(tmp_path, line, message) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 0}\n' + line + b"\n")
    with pytest.raises(BrokenFileError, match=message):
        read_rows(path)
