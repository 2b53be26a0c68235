"""Accuracies of a study: a table per width, a row per run, and a row per mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from rebasin_lt.experiment.metrics import COMPARED, METRICS, Metric
from rebasin_lt.judging.chance import is_at_chance
from rebasin_lt.report.kit.statistics import Estimate, mean, sample_std, sparsity_text
from rebasin_lt.report.kit.tables import Cell, Column, Table, numbers, texts
from rebasin_lt.report.study.published import Published
from rebasin_lt.report.study.runs import Group, Place, axes_of, rows_table
from rebasin_lt.report.study.setting import Setting

_PUBLISHED = ("published_mean", "published_std", "published_n", "published_in")


def spread_of(values: Iterable[float]) -> Estimate:
    """Mean and sample standard deviation (not the standard error), as in the paper's tables."""
    numbers = list(values)
    return Estimate(mean(numbers), sample_std(numbers), len(numbers))


def accuracy_table(
    width: float,
    cells: Mapping[Place, Group],
    setting: Setting,
    dense: Sequence[float] = (),
    metric: str = COMPARED,
) -> Table:
    """One row per sparsity and rewind moment, one column per method; the paper's values beside ours where it has any.

    Shares in %, mean ± sample standard deviation; a cell over fewer runs than most says its n.
    """
    methods = setting.methods.in_order(chain.from_iterable(cells.values()))
    usual = max((len(seeds) for group in cells.values() for seeds in group.values()), default=0)
    columns, parts, sources = [Column("sparsity · rewind", align="left")], [], []
    for name in methods:
        columns.append(Column(setting.methods.label(name), decimals=METRICS[metric].decimals))
        chance = setting.num_classes if metric == "top1" else None
        parts.append([_ours(group.get(name), usual, METRICS[metric], chance) for group in cells.values()])
        beside = [published_beside(setting, width, place, name, metric) for place in cells]
        if any(beside):
            columns.append(Column(f"{setting.methods.label(name)}, published"))
            parts.append([_theirs(number, METRICS[metric]) for number in beside])
            sources += [number.source for number in beside if number]
    rows = [list(row) for row in zip(map(str, cells), *parts, strict=True)]
    caption = _caption(width, metric, usual, dense, setting)
    return Table(columns, rows, caption + f"; published: {', '.join(dict.fromkeys(sources))}" * bool(sources))


def runs_table(
    dense: Iterable[Mapping[str, Any]], pruned: Iterable[Mapping[str, Any]], sparse: Iterable[Mapping[str, Any]]
) -> Table:
    """One row per run, for spreadsheets; accuracies as fractions."""
    stages = {"dense": dense, "pruned": [{**run, "sparsity": run["target"]} for run in pruned], "sparse": sparse}
    runs = [{**run, "stage": stage} for stage, own in stages.items() for run in own]
    metrics = [name for name, metric in METRICS.items() if not metric.alone or any(name in run for run in runs)]
    return rows_table(("stage", "width", "seed", "role", "method", "sparsity", "rewind", *metrics), runs)


def tickets_table(pruned: Iterable[Mapping[str, Any]], metric: str = COMPARED) -> Table:
    """One row per width, network and target: the pruned and fine-tuned networks that the masks come from."""
    found = dict(sorted(_by_network(pruned, metric, "target").items()))
    caption = "Networks after iterative magnitude pruning, mean ± sample standard deviation"
    return _networks_table(found, texts("width", "network") + numbers("sparsity"), caption, METRICS[metric])


def dense_table(dense: Iterable[Mapping[str, Any]], metric: str = COMPARED) -> Table:
    """One row per width, network and values of the axes that dense training depends on."""
    found = _by_network((run for run in dense if axes_of(run)), metric)
    caption = "Dense networks, mean ± sample standard deviation"
    return _networks_table(found, texts("width", "network"), caption, METRICS[metric])


def _by_network(runs: Iterable[Mapping[str, Any]], metric: str, *keys: str) -> dict[tuple[Any, ...], list[float]]:
    """A metric by width, role, values of the axes, and these keys."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for run in runs:
        if run.get(metric) is not None:
            place = (run["width"], run["role"], axes_of(run), *(run[key] for key in keys))
            found.setdefault(place, []).append(run[metric])
    return found


def _networks_table(
    found: Mapping[tuple[Any, ...], list[float]], columns: list[Column], caption: str, metric: Metric
) -> Table:
    rows: list[list[Cell]] = [
        [
            f"{width:g}",
            _network(role, axes),
            *map(sparsity_text, targets),
            spread_of(own).scaled(metric.factor),
            len(own),
        ]
        for (width, role, axes, *targets), own in found.items()
    ]
    measured = numbers(metric.quantity, "seeds", decimals=metric.decimals, spread="std")
    return Table([*columns, *measured], rows, caption)


def published_beside(setting: Setting, width: float, place: Place, name: str, metric: str) -> Published | None:
    """The paper's number for a cell; none at a value of an axis, which the paper may not have."""
    return None if place.axes else setting.published(width, place.sparsity, place.rewind, name, metric)


def _network(role: str, axes: str) -> str:
    return " · ".join([role.upper(), *([axes] if axes else [])])


def summary_table(runs: Mapping[str, Mapping[float, Mapping[Place, Group]]], setting: Setting) -> Table:
    """One row per metric, width, place and method, for spreadsheets: ours and the paper's, as fractions."""
    rows = [
        {"metric": metric, "width": width, **place._asdict(), "method": name}
        | _numbers(spread_of(group[name].values()))
        | _beside(published_beside(setting, width, place, name, metric))
        for metric, by_width in runs.items()
        for width, cells in by_width.items()
        for place, group in cells.items()
        for name in setting.methods.in_order(group)
    ]
    return rows_table(["metric", "width", "sparsity", "rewind", "method", "mean", "std", "n", *_PUBLISHED], rows)


def _ours(seeds: Mapping[int, float] | None, usual: int, metric: Metric, num_classes: int | None) -> Cell:
    """A mean; a † says that a run of it collapsed to chance, of so many classes."""
    if not seeds:
        return None
    estimate = spread_of(seeds.values()).scaled(metric.factor)
    lost = num_classes is not None and any(is_at_chance(value, num_classes) for value in seeds.values())
    if estimate.count == usual and not lost:
        return estimate
    count = "" if estimate.count == usual else f" (n = {estimate.count})"
    return f"{Column('', decimals=metric.decimals).text(estimate)}{count}{' †' if lost else ''}"


def _theirs(number: Published | None, metric: Metric) -> Cell:
    if number is None:
        return None
    std = float("nan") if number.std is None else metric.factor * number.std
    return Estimate(metric.factor * number.value, std, number.n or 0)


def _caption(width: float, metric: str, usual: int, dense: Sequence[float], setting: Setting) -> str:
    spread = f"mean ± sample standard deviation, n = {usual}" if usual > 1 else "one seed"
    record = METRICS[metric]
    text = f"Width {width:g}: {record.label}{f' in {record.unit}' * bool(record.unit)}, {spread}"
    if dense:
        estimate = spread_of(dense).scaled(record.factor)
        named = ", ± sample standard deviation" if usual < 2 <= estimate.count else ""
        text += f"; dense networks: {Column('', decimals=record.decimals).text(estimate)}, n = {estimate.count}{named}"
    published = setting.published_dense(width) if metric == COMPARED else None
    return text if published is None else f"{text}, published {100 * published.value:.2f} ({published.source})"


def _numbers(estimate: Estimate) -> dict[str, Cell]:
    return {"mean": estimate.value, "std": None if estimate.count < 2 else estimate.error, "n": estimate.count}


def _beside(number: Published | None) -> dict[str, Cell]:
    return {} if number is None else dict(zip(_PUBLISHED, number, strict=True))
