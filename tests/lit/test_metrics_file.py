"""A metrics file goes on after a crash, whole lines only."""

from __future__ import annotations

import json

import pytest

from rebasin_lt.errors import BrokenFileError
from rebasin_lt.lit.metrics_file import MetricsFile, read_rows


def test_a_line_cut_off_is_dropped_before_the_next_is_written(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"epoch": 0, "step": 1, "a": 0.5}\n{"epoch": 1, "st')
    MetricsFile(tmp_path).log_metrics({"epoch": 1, "a": 0.25}, 2)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"epoch": 0, "step": 1, "a": 0.5},
        {"epoch": 1, "step": 2, "a": 0.25},
    ]


def test_epochs_that_are_repeated_stand_there_once(tmp_path) -> None:
    for begin in (0, 2):
        log = MetricsFile(tmp_path)
        for epoch in range(begin, 4):
            log.log_metrics({"epoch": epoch, "begin": begin}, epoch)
    assert [(row["epoch"], row["begin"]) for row in read_rows(tmp_path / "metrics.jsonl")] == [
        (0, 0),
        (1, 0),
        (2, 2),
        (3, 2),
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
