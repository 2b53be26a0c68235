"""Differences between methods, paired by seed, and how much of the gap to LTH each closes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain

from rebasin_lt.experiment.metrics import COMPARED, METRICS, Metric
from rebasin_lt.report.kit.methods import Methods
from rebasin_lt.report.kit.statistics import Estimate, gap_closure, paired_difference, sparsity_text
from rebasin_lt.report.kit.tables import Cell, Column, Table, numbers, texts
from rebasin_lt.report.study.runs import Group, Place, Runs, over_rewinds, rows_table

_CLOSURE = Column("")
_DIFFERENCE, _CLOSED = ("difference", "standard_error", "low", "high", "n"), ("gap_closure", "gap_closure_error")
ALL_REWINDS = "mean"
_DEFAULT = Methods()
"""Of a study that says nothing about matching: `permuted`."""
_USUAL = METRICS[COMPARED]


def difference_table(
    width: float, cells: Mapping[Place, Group], against: str, methods: Methods = _DEFAULT, metric: Metric = _USUAL
) -> Table:
    """One row per sparsity and rewind moment: every other method minus `against`, with its 95 % interval."""
    what, unit = ("accuracy", " in percentage points") if metric.is_share else (metric.label, "")
    text = f"Width {width:g}: {what} minus that of {methods.label(against)}{unit}, with its 95 % interval"
    return _by_method(
        cells, methods, {against}, lambda group, name: with_interval(difference([group], name, against), metric), text
    )


def closure_table(
    width: float, cells: Mapping[Place, Group], methods: Methods = _DEFAULT, metric: Metric = _USUAL
) -> Table:
    """One row per sparsity and rewind moment: the gap closure of every method, ± its standard error."""
    text = f"Width {width:g}: gap closure ± standard error; 0 is naive, 1 is LTH"
    return _by_method(cells, methods, {"lth", "naive"}, lambda group, name: closure([group], name, metric), text)


def _by_method(
    cells: Mapping[Place, Group],
    methods: Methods,
    without: set[str],
    cell: Callable[[Group, str], Cell],
    caption: str,
) -> Table:
    """A row per place, and a column per method but those that the others are compared with."""
    names = [name for name in methods.in_order(chain.from_iterable(cells.values())) if name not in without]
    rows = [[str(place), *(cell(group, name) for name in names)] for place, group in cells.items()]
    return Table([*texts("sparsity · rewind"), *numbers(*map(methods.label, names))], rows, caption)


def headline_table(runs: Runs, methods: Methods = _DEFAULT, metric: Metric = _USUAL) -> Table:
    """What alignment is worth at each width's highest sparsity: a row for each way to match A to B."""
    columns = texts("width", "sparsity", "method")
    columns += numbers("minus naive", "minus LTH", "gap closure", "rewind points", "seeds")
    rows = [
        _headline_row(width, _sparsity_at(sparsity, axes), name, groups, methods, metric)
        for width, cells in runs.items()
        for (sparsity, axes), groups in _highest(cells).items()
        for name in filter(methods.is_matched, methods.in_order(chain.from_iterable(groups)))
    ]
    what = "in percentage points" if metric.is_share else f"of the {metric.label}, of which {metric.better} is better"
    caption = f"Differences {what}, mean over rewind points, with 95 % interval; gap closure ± standard error"
    return Table(columns, rows, caption)


def headline(runs: Runs, methods: Methods = _DEFAULT, metric: Metric = _USUAL) -> str:
    """The one sentence: what alignment is worth, in the widest network that can tell, at its highest sparsity.

    Of several ways to match A to B, the first in the order of the tables.
    """
    for width in sorted(runs, reverse=True):
        for (sparsity, axes), groups in sorted(_by_sparsity(runs[width]).items(), reverse=True):
            for name in filter(methods.is_matched, methods.in_order(chain.from_iterable(groups))):
                gain = difference(groups, name, "naive")
                if gain is not None:
                    return _sentence(width, _sparsity_at(sparsity, axes), name, gain, groups, methods, metric)
    return "No mask has been trained both permuted and unpermuted yet: there is nothing to compare."


def pairs_table(runs: Runs, methods: Methods = _DEFAULT, metric: Metric = _USUAL) -> Table:
    """One row per width, place, method and what it is compared with, for spreadsheets; differences of fractions.

    The rewind `mean` is over all rewind moments at which a seed has both.
    """
    rows = [
        {"width": width, **place._asdict(), "method": name, "against": against}
        | dict(zip(_DIFFERENCE, _numbers(gain, gain.interval()), strict=True))
        | dict(zip(_CLOSED, _numbers(closed), strict=False))
        for width, cells in runs.items()
        for place, groups in _places(cells)
        for name in methods.in_order(chain.from_iterable(groups))
        for against in ("naive", "lth")
        if name != against and (gain := difference(groups, name, against)) is not None
        for closed in [closure(groups, name, metric) if name != "lth" and against == "naive" else None]
    ]
    return rows_table(["width", "sparsity", "rewind", "method", "against", *_DIFFERENCE, *_CLOSED], rows)


def difference(groups: Sequence[Group], name: str, against: str) -> Estimate | None:
    """A method minus another, paired by seed, each averaged over the groups (rewind moments); fractions."""
    means = over_rewinds(groups, [name, against])
    return paired_difference(means[name], means[against])


def closure(groups: Sequence[Group], name: str, metric: Metric = _USUAL) -> Estimate | None:
    """How much of the gap between naive and LTH a method closes, each averaged over the groups (rewind moments)."""
    sign = 1 if metric.better == "higher" else -1
    means = {
        method: {seed: sign * value for seed, value in seeds.items()}
        for method, seeds in over_rewinds(groups, ["lth", name, "naive"]).items()
    }
    return gap_closure(means["lth"], means[name], means["naive"])


def with_interval(estimate: Estimate | None, metric: Metric = _USUAL) -> Cell:
    """A difference as `+1.31 [+0.90, +1.72]`, of fractions in percentage points, with its 95 % interval."""
    if estimate is None:
        return None
    low, high = _ends(estimate, metric)
    value = _signed(metric).text(metric.factor * estimate.value)
    return value if math.isnan(estimate.interval()[0]) else f"{value} [{low}, {high}]"


def _ends(estimate: Estimate, metric: Metric) -> tuple[str, str]:
    low, high = (_signed(metric).text(metric.factor * end) for end in estimate.interval())
    return low, high


def _signed(metric: Metric) -> Column:
    return Column("", signed=True, decimals=metric.decimals)


def _numbers(estimate: Estimate | None, interval: tuple[float, float] | None = None) -> list[Cell]:
    """Value and standard error, the ends of the interval, and the count; None for what one seed cannot tell."""
    if estimate is None:
        return [None, None, None]
    known = [None if math.isnan(number) else number for number in (estimate.value, estimate.error, *(interval or ()))]
    return [*known, estimate.count]


def _by_sparsity(cells: Mapping[Place, Group]) -> dict[tuple[float, str], list[Group]]:
    """The groups of each sparsity, and value of the study's own axes, one per rewind moment."""
    found: dict[tuple[float, str], list[Group]] = {}
    for place, group in cells.items():
        found.setdefault((place.sparsity, place.axes), []).append(group)
    return found


def _highest(cells: Mapping[Place, Group]) -> dict[tuple[float, str], list[Group]]:
    """Those of the highest sparsity."""
    highest = max(place.sparsity for place in cells)
    return {at: groups for at, groups in _by_sparsity(cells).items() if at[0] == highest}


def _sparsity_at(sparsity: float, axes: str) -> str:
    return " · ".join([sparsity_text(sparsity), *([axes] if axes else [])])


def _sentence(
    width: float, sparsity: str, name: str, gain: Estimate, groups: Sequence[Group], methods: Methods, metric: Metric
) -> str:
    size = Column("", decimals=metric.decimals).text(abs(metric.factor * gain.value))
    if metric.is_share:
        means = f"is {size} percentage points {'better' if gain.value >= 0 else 'worse'} than"
    else:
        means = f"gives a {metric.label} that is {size} {'higher' if gain.value >= 0 else 'lower'} than"
    points = sum(bool(over_rewinds([group], [name, "naive"])[name]) for group in groups)
    over = f", mean over {points} rewind points" if points > 1 else ""
    share = closure(groups, name, metric)
    closed = f", and closes {_CLOSURE.text(share)} of the gap between naive and LTH" if share else ""
    return (
        f"At width {width:g} and sparsity {sparsity}, training under the {methods.label(name)} mask {means} "
        f"under the unpermuted one ({_confidence(gain, metric)}{over}){closed}."
    )


def _headline_row(
    width: float, sparsity: str, name: str, groups: Sequence[Group], methods: Methods, metric: Metric
) -> list[Cell]:
    gains: list[Cell] = [with_interval(difference(groups, name, against), metric) for against in ("naive", "lth")]
    count = sum(bool(group.get(name)) for group in groups)
    seeds = len({seed for group in groups for seed in group.get(name, {})})
    return [f"{width:g}", sparsity, methods.label(name), *gains, closure(groups, name, metric), count, seeds]


def _places(cells: Mapping[Place, Group]) -> Iterator[tuple[Place, list[Group]]]:
    """Every place with its group, then every sparsity that has several rewind moments with the groups of all."""
    yield from ((place, [group]) for place, group in cells.items())
    for (sparsity, axes), groups in _by_sparsity(cells).items():
        if len(groups) > 1:
            yield Place(sparsity, ALL_REWINDS, axes), groups


def _confidence(estimate: Estimate, metric: Metric) -> str:
    if estimate.count < 2:
        return "one seed, so no interval"
    low, high = _ends(estimate, metric)
    return f"95 % interval {low} to {high}, {estimate.count} seeds"
