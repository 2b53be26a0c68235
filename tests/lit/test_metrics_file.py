"""A metrics file goes on after a crash, whole lines only."""

from __future__ import annotations

import json

import pytest
import torch
from foreign import ForeignData, ForeignModule

from rebasin_lt.errors import BrokenFileError
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
