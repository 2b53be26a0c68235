"""A control mask by layer, as a table."""

from __future__ import annotations

from rebasin_lt.analyses.control import WrittenControl
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.report.kit.tables import Table, numbers, texts


def show_control(written: WrittenControl, out: str) -> str:
    """The table of a control mask, and where it lies."""
    line = f"{out}  ({written.kind}, sparsity {written.mask.sparsity:.4f})"
    return f"{control_table(written.mask, written.imitated).to_text()}{line}\n"


def control_table(control: Mask, imitated: Mask | None = None) -> Table:
    """One row per layer, and one for all: weights, kept, sparsity; overlap (IoU) with the imitated mask if given."""
    rows = [[row["name"], row["weights"], row["kept"], row["sparsity"]] for row in control.report()]
    rows.append(["all layers", control.num_weights, control.num_kept, control.sparsity])
    columns = [*texts("weight"), *numbers("weights", "kept"), *numbers("sparsity", decimals=4)]
    if imitated is not None:
        columns += numbers("overlap (IoU)", decimals=4)
        parts = [Mask({name: control[name]}).overlap(Mask({name: imitated[name]})) for name in control]
        rows = [[*row, overlap] for row, overlap in zip(rows, [*parts, control.overlap(imitated)], strict=True)]
    return Table(columns, rows)
