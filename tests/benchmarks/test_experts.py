"""The benchmark of merged experts: its table has a row for each network."""

from __future__ import annotations

from benchmarks.experts import MERGED, table


def test_table_has_a_row_for_each_network() -> None:
    loss = {key: float(k) for k, key in enumerate(MERGED)}
    found = table([{"seed": 3, "loss": loss, "change": 2e-7}])
    assert found.rows == [[3, 0.0, 1.0, 2.0, 3.0, "2e-07"]]
