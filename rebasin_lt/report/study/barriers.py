"""Barriers of a study: by width before and after alignment, and the mean curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rebasin_lt.connectivity.corrections import CORRECTIONS, correction_label
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.methods import Method
from rebasin_lt.judging.losses import BY_CROSS_ENTROPY, Judged
from rebasin_lt.report.analyses.barrier import EXCESS, points_of_curves
from rebasin_lt.report.kit.methods import Methods, spelled
from rebasin_lt.report.kit.panels import Panel, panel_figure
from rebasin_lt.report.kit.statistics import Estimate, mean, sample_std
from rebasin_lt.report.kit.tables import Cell, Table, numbers, texts
from rebasin_lt.report.study.accuracy import spread_of
from rebasin_lt.report.study.runs import rows_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SPREAD = "mean ± sample std over seeds"
_WHEN = ("before", "after")
_LINE = ("width", "seed", "matcher", "split", "correction", "when")  # what tells the lines of a study apart
_QUANTITIES = {"loss": 1, "error": 100}
"""What is shown of a line, and the factor to its unit."""


def study_barriers_table(
    records: Iterable[Mapping[str, Any]], methods: Methods | None = None, judged: Judged = BY_CROSS_ENTROPY
) -> Table:
    """One row per width, set of examples, statistics and matcher: loss and error barrier before and after, mean ± std.

    A loss that has no error has no columns of it.
    """
    lines = _by_line(records, methods)
    keys = [key for key in lines if key[-1] != BEFORE] or list(lines)
    rows: list[list[Cell]] = []
    for width, split, correction, matcher in keys:
        before, after = lines.get((width, split, correction, BEFORE), {}), lines[width, split, correction, matcher]
        barriers = [
            _barrier(own, quantity)
            for quantity in _shown(judged)
            for own in (before, after if matcher != BEFORE else {})
        ]
        called = "–" if matcher == BEFORE else spelled(matcher)
        rows.append([f"{width:g}", split, correction_label(correction), called, *barriers, len(after)])
    columns = [
        *texts("width", "set", "statistics", "matcher"),
        *numbers(*(_named("loss barrier " + when, "loss", judged) for when in _WHEN), decimals=3, spread="std"),
        *(numbers("error barrier before (%)", "error barrier after (%)", spread="std") if judged.error else []),
        *numbers("seeds"),
    ]
    caption = f"{EXCESS} from A to B, before and after alignment, mean ± sample standard deviation"
    return Table(columns, rows, caption if judged == BY_CROSS_ENTROPY else f"{caption}, by {judged.label}")


def barrier_runs_table(records: Iterable[Mapping[str, Any]]) -> Table:
    """One row per line that was measured, for spreadsheets: losses in nats, errors as fractions."""
    return rows_table((*_LINE, "loss_barrier", "error_barrier"), records)


def curves_table(records: Iterable[Mapping[str, Any]]) -> Table:
    """One row per point of every line, for spreadsheets."""
    return rows_table(_LINE, points_of_curves(records), ("alpha", "loss", "error"))


def study_barrier_figures(
    records: Sequence[Mapping[str, Any]], methods: Methods | None = None, judged: Judged = BY_CROSS_ENTROPY
) -> dict[str, Figure]:
    """The barriers by width (the paper's Figure 3), where there are several, and the mean curves of each width.

    Of the test set, or where that was not measured, of the training set. `barriers`, `curves-loss`,
    `curves-error`, but for a loss that has no error; nothing without records.
    """
    if not records:
        return {}
    splits = {record["split"] for record in records}
    split = "test" if "test" in splits else sorted(splits)[0]
    lines = _by_line([record for record in records if record["split"] == split], methods)
    kinds = list(dict.fromkeys(key[2:] for key in lines))
    drawn = _Drawn(lines, sorted({width for width, *_ in lines}), kinds, split, judged)
    styles = _styles(drawn.kinds, methods)
    figures = {f"curves-{quantity}": _curves_figure(drawn, styles, quantity) for quantity in _shown(judged)}
    return ({"barriers": _by_width(drawn, styles)} if len(drawn.widths) > 1 else {}) | figures


BEFORE = ""
"""Stands for a matcher's name where nothing has been permuted yet."""

_Key = tuple[float, str, str, str]


class _Drawn(NamedTuple):
    """The lines of a figure, all on one split; a kind is a correction and a matcher."""

    lines: Mapping[_Key, Mapping[int, Mapping[str, Any]]]
    widths: list[float]
    kinds: list[tuple[str, str]]
    split: str
    judged: Judged

    def seeds(self, width: float, kind: tuple[str, str]) -> Mapping[int, Mapping[str, Any]]:
        """The records of one line by seed; none where it is not measured."""
        return self.lines.get((width, self.split, *kind), {})


def _by_line(
    records: Iterable[Mapping[str, Any]], methods: Methods | None = None
) -> dict[_Key, dict[int, Mapping[str, Any]]]:
    """The records by (width, split, correction, matcher) and seed; before alignment all matchers have one line."""
    found: dict[_Key, dict[int, Mapping[str, Any]]] = {}
    for record in records:
        if record["correction"] not in CORRECTIONS:
            known = ", ".join(CORRECTIONS)
            raise InputError(f"barriers: correction is {record['correction']!r}, expected one of {known}")
        matcher = BEFORE if record["when"] == "before" else record["matcher"]
        key = (record["width"], record["split"], record["correction"], matcher)
        found.setdefault(key, {}).setdefault(record["seed"], record)
    matchers, corrections = [key[3] for key in found if key[3] != BEFORE], list(CORRECTIONS)
    order = [BEFORE, *(methods or Methods.matching(matchers)).in_order(matchers)]
    return dict(
        sorted(found.items(), key=lambda item: (*item[0][:2], corrections.index(item[0][2]), order.index(item[0][3])))
    )


def _barrier(seeds: Mapping[int, Mapping[str, Any]], quantity: str) -> Estimate | None:
    values = [record[f"{quantity}_barrier"] for record in seeds.values()]
    return spread_of(values).scaled(_QUANTITIES[quantity]) if values else None


def _by_width(drawn: _Drawn, styles: Mapping[str, Method]) -> Figure:
    places = list(enumerate(drawn.widths))
    panels = [
        Panel(
            _named(f"{quantity} barrier", quantity, drawn.judged),
            {float(at): f"{width:g}" for at, width in places},
            {
                _name(*kind): {float(at): _barrier(drawn.seeds(width, kind), quantity) for at, width in places}
                for kind in drawn.kinds
            },
        )
        for quantity in _shown(drawn.judged)
    ]
    title, quantity = "Barrier between A and B by width", f"{drawn.split} {drawn.judged.mean_over}, {_SPREAD}"
    return panel_figure(panels, styles, title=title, quantity=quantity, x_label="width", from_zero=True)


def _curves_figure(drawn: _Drawn, styles: Mapping[str, Method], quantity: str) -> Figure:
    ticks = {0.0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1.0: "1"}
    panels = [
        Panel(
            f"width {width:g}",
            ticks,
            {
                _name(*kind): _mean_curve(list(seeds.values()), quantity)
                for kind in drawn.kinds
                if (seeds := drawn.seeds(width, kind))
            },
        )
        for width in drawn.widths
    ]
    bare = {name: method._replace(marker="") for name, method in styles.items()}
    heading = f"{quantity.capitalize()} between A (α = 0) and B (α = 1)"
    text = f"{_named(f'{drawn.split} {quantity}', quantity, drawn.judged)}, {_SPREAD}"
    return panel_figure(panels, bare, title=heading, quantity=text, x_label="α", from_zero=True)


def _shown(judged: Judged) -> list[str]:
    """The quantities that a loss has."""
    return [quantity for quantity in _QUANTITIES if quantity == "loss" or judged.error is not None]


def _named(text: str, quantity: str, judged: Judged) -> str:
    """The text, with the unit of the quantity behind it where it has one."""
    unit = judged.unit if quantity == "loss" else "%"
    return f"{text} ({unit})" if unit else text


def _mean_curve(records: Sequence[Mapping[str, Any]], quantity: str) -> dict[float, Estimate | None]:
    """Mean and spread at every α; only seeds measured at the same points as the first count."""
    alphas = records[0]["alphas"]
    values = np.array([record[quantity] for record in records if list(record["alphas"]) == list(alphas)])
    values = values * _QUANTITIES[quantity]
    return {
        float(alpha): Estimate(mean(column), sample_std(column), len(column))
        for alpha, column in zip(alphas, values.T.tolist(), strict=True)
    }


def _name(correction: str, matcher: str) -> str:
    return f"{correction}/{matcher}"


def _styles(kinds: Sequence[tuple[str, str]], methods: Methods | None) -> dict[str, Method]:
    """Colour by matcher (before: that of naive), dashes by correction."""
    matchers = [matcher for _, matcher in kinds if matcher != BEFORE]
    methods = methods or Methods.matching(matchers)
    colours = {BEFORE: "naive"} | {name: method.colour for name, method in methods.described(matchers).items()}
    alone = len({*matchers}) <= 1
    return {
        _name(correction, matcher): Method(
            _label(correction, matcher, alone),
            colours[matcher],
            record.marker,
            "",
            (0, record.dashes) if record.dashes else "-",
        )
        for correction, matcher in kinds
        for record in [CORRECTIONS[correction]]
    }


def _label(correction: str, matcher: str, alone: bool) -> str:
    when = "before" if matcher == BEFORE else "after" if alone else f"after {spelled(matcher)}"
    return f"{when}, {correction_label(correction)}"
