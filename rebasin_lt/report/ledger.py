"""What a study costs, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rebasin_lt.report.tables import Cell, Column, Table
from rebasin_lt.study.ledger import Cost


def ledger_table(costs: Sequence[Cost]) -> Table:
    """A row per kind of stage and one for all; hours are those of one worker, and of training alone."""
    columns = [
        Column("stage", "left"),
        Column("stages"),
        Column("done"),
        Column("epochs"),
        Column("epochs left"),
        Column("images left"),
        Column("hours left", decimals=2),
    ]
    rows: list[list[Cell]] = [
        [c.kind, c.stages, c.done, c.epochs, c.epochs_left, c.images_left, c.hours_left] for c in costs
    ]
    rows.append(["all", *(_sum(column) for column in zip(*(row[1:] for row in rows), strict=True))])
    return Table(columns, rows, "training alone, hours of one worker")


def _sum(values: Sequence[Cell]) -> Cell:
    numbers = [value for value in values if isinstance(value, int | float)]
    return sum(numbers) if len(numbers) == len(values) else None
