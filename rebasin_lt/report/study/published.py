"""The numbers that the paper published, from `published.csv`, to stand beside ours."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rebasin_lt.moment import Moment

_FILE = Path(__file__).with_name("published.csv")
_PERCENT = ("top1", "top5", "ensemble")


class Published(NamedTuple):
    """One published number: accuracies as fractions; `std` is the sample standard deviation over `n` runs, if given."""

    value: float
    std: float | None
    n: int | None
    source: str


def published(
    dataset: str,
    arch: str,
    width: float,
    method: str,
    sparsity: float,
    *,
    rewind: str | None = None,
    metric: str = "top1",
    matched_at: int | None = None,
    source: str | None = None,
) -> Published | None:
    """A number of arXiv 2505.05143, or None where the paper has none.

    The paper's k, "epoch k", holds k + 1 epochs in its code, and its k = 0 one epoch, not the initialisation that its
    text names. So a rewind moment `{k}ep`, as the paper writes it, and `{k + 1}ep`, as its code trains it, both find
    k; `1ep` finds k = 0, and `0it` nothing. Without `rewind`: numbers for which the paper states no k, which are
    those of dense networks (sparsity 0) and Table 1.

        >>> found = rb.published("cifar10", "resnet20", 1, "dense", 0)
        >>> found.value, found.source
        (0.9288, 'dense line of plots.ipynb')

    Args:
        method: dense, imp, lth, naive or permuted
        sparsity: the target in [0, 1)
        metric: top1, top5, or of Table 1 ensemble, disagreement, kl, js
        matched_at: epochs of B when it was matched (Table 15); not given: at the end of its training
        source: the table to look in; not given: the first that has the number
    """
    k = "" if rewind is None else _published_k(rewind)
    at = "" if matched_at is None else str(matched_at)
    found = _numbers().get((dataset, arch, float(width), round(float(sparsity), 6), k, method, metric, at), {})
    return found.get(source) if source is not None else next(iter(found.values()), None)


def _published_k(rewind: str) -> str | None:
    """The paper's name of a rewind moment: its points are 0 and multiples of 5, so that k and k + 1 are told apart."""
    moment = Moment.parse(rewind)
    known = moment.unit == "ep" and moment.count > 0 and moment.count % 5 <= 1
    return str(moment.count - moment.count % 5) if known else None


@cache
def _numbers() -> Mapping[tuple[object, ...], Mapping[str, Published]]:
    """All numbers by setting, then by source: Table 15 repeats some of Table 5."""
    numbers: dict[tuple[object, ...], dict[str, Published]] = {}
    with _FILE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            setting = [row[name] for name in ("k", "method", "metric", "matched_at")]
            key = (row["dataset"], row["arch"], float(row["width"]), float(row["sparsity"]), *setting)
            numbers.setdefault(key, {})[row["source"]] = _number(row)
    return numbers


def _number(row: Mapping[str, str]) -> Published:
    scale = 100 if row["metric"] in _PERCENT else 1
    value, std = (round(float(row[name]) / scale, 6) if row[name] else None for name in ("value", "std"))
    assert value is not None  # a line without a value is not in the file
    return Published(value, std, int(row["n"]) if row["n"] else None, row["source"])
