"""The in- and out-degree of each unit: the kept weights that it reads and is read by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rebasin_lt.errors import InputError
from rebasin_lt.pruning.mask import Mask

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


class Degrees(NamedTuple):
    """Kept weights per unit of one weight, int64.

    `incoming[o]`, shape (outputs,), counts those that output unit o reads; `outgoing[i]`, shape (inputs,), those that
    read input unit i. All positions of a kernel count.
    """

    incoming: Tensor
    outgoing: Tensor


def unit_degrees(kept: Tensor) -> Degrees:
    """Degrees of one mask tensor, bool, shape (outputs, inputs, *kernel).

    Of a grouped convolution, whose axis 1 is within a group, `outgoing` counts over all groups together. Raises
    InputError for fewer than two dimensions, where nothing is read, and for no weight at all.
    """
    if kept.dim() < 2 or not kept.numel():
        raise InputError(f"mask tensor has shape {tuple(kept.shape)}, expected (outputs, inputs, *kernel) for degrees")
    counts = kept.flatten(2).sum(-1) if kept.dim() > 2 else kept.long()
    return Degrees(counts.sum(1), counts.sum(0))


def degree_report(mask: Mask) -> list[dict[str, str | int | float]]:
    """Two rows per tensor, of its output units' incoming and its input units' outgoing weights.

    name, direction (incoming, outgoing), units, dense (the degree without a mask), mean, min, q25, median, q75, max,
    and zero, the share of units with no kept weight. Raises InputError as `unit_degrees`.
    """
    rows: list[dict[str, str | int | float]] = []
    for name, tensor in mask.items():
        for direction, degrees in unit_degrees(tensor)._asdict().items():
            dense = tensor.numel() // len(degrees)
            rows.append({"name": name, "direction": direction, "units": len(degrees), "dense": dense})
            rows[-1] |= _summary(degrees)
    return rows


def _summary(degrees: Tensor) -> dict[str, float]:
    values = degrees.double()
    marks = torch.quantile(values, torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
    named = dict(zip(("min", "q25", "median", "q75", "max"), marks, strict=True))
    return {"mean": float(values.mean()), **named, "zero": float((degrees == 0).double().mean())}
