"""What each method of a study is worth at its price: accuracy, disagreement, ensemble accuracy and epochs together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rebasin_lt.experiment.methods import ENSEMBLES, MATCHED, Method
from rebasin_lt.experiment.prices import OF_A
from rebasin_lt.report.kit.figures import figure_style, spread
from rebasin_lt.report.kit.methods import COLOURS
from rebasin_lt.report.kit.panels import inside, panel_grid
from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.kit.tables import Cell, Table, numbers, texts
from rebasin_lt.report.study.accuracy import spread_of
from rebasin_lt.report.study.runs import Place, Runs, axes_of, rows_table
from rebasin_lt.report.study.setting import Setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_EPOCHS = ("dense", "pruning", "sparse")
_PRICES = ("method", "rewind", *_EPOCHS)
_NUMBERS = "width sparsity rewind method accuracy accuracy_std disagreement disagreement_std ensemble members"


@dataclass(frozen=True)
class Worth:
    """One method at one place of the grid. Shares are fractions, epochs are by kind; None is not measured or not known.

    The accuracy is that of the members of its ensemble where there is one, ± their sample standard deviation, else of
    its runs; that of the disagreement is over the pairs of members.
    """

    width: float
    place: Place
    name: str
    accuracy: Estimate | None
    disagreement: Estimate | None
    ensemble: float | None
    epochs: tuple[float | None, ...]

    @property
    def total(self) -> float | None:
        """Epochs that one more network costs."""
        known = [count for count in self.epochs if count is not None]
        return sum(known) if known and len(known) == len(self.epochs) else None


def worths(
    runs: Runs, ensembles: Iterable[Mapping[str, Any]], prices: Iterable[Mapping[str, Any]], setting: Setting
) -> list[Worth]:
    """Every method of every place, in the order of tables; none of a study without prices."""
    epochs = {(axes_of(row), row["rewind"], row["method"]): tuple(row[kind] for kind in _EPOCHS) for row in prices}
    if not epochs:
        return []
    found: dict[tuple[float, Place, str], tuple[Estimate | None, Estimate | None, float | None]] = {}
    for width, cells in runs.items():
        for place, group in cells.items():
            for name, seeds in group.items():
                found[width, place, name] = (spread_of(seeds.values()), None, None)
    for each in ensembles:
        place = Place(each["sparsity"] or 0, each["rewind"] or "", axes_of(each))
        found[each["width"], place, _method(each["setting"], setting)] = _of_ensemble(each)
    order = _order({name for _, _, name in found}, setting)
    places = list(dict.fromkeys((width, place) for width, place, _ in found))
    keys = sorted(found, key=lambda key: (key[0], places.index(key[:2]), order.index(key[2])))
    unknown = (None,) * len(_EPOCHS)
    return [Worth(*key, *found[key], epochs.get((key[1].axes, key[1].rewind, key[2]), unknown)) for key in keys]


def worth_table(found: Sequence[Worth], prices: Sequence[Mapping[str, Any]], setting: Setting) -> Table:
    """One row per width, place and method; ± is the sample standard deviation."""
    columns = [
        *texts("width · sparsity · rewind", "method"),
        *numbers("accuracy (%)", spread="std"),
        *numbers("disagreement", decimals=3, spread="std"),
        *numbers("ensemble accuracy (%)", *(f"{kind} epochs" for kind in _EPOCHS), "epochs in all"),
    ]
    rows: list[list[Cell]] = [
        [
            *(f"{each.width:g} · {each.place}", setting.methods.label(each.name)),
            None if each.accuracy is None else each.accuracy.scaled(100),
            each.disagreement,
            None if each.ensemble is None else 100 * each.ensemble,
            *(_count(count) for count in (*each.epochs, each.total)),
        ]
        for each in found
    ]
    return Table(columns, rows, _caption(prices))


def worth_rows(found: Sequence[Worth]) -> Table:
    """The same for spreadsheets; shares as fractions."""
    epochs = [*(f"{kind}_epochs" for kind in _EPOCHS), "epochs"]
    rows = [
        {"width": each.width, **each.place._asdict(), "method": each.name, "ensemble": each.ensemble}
        | _parts("accuracy", each.accuracy)
        | _parts("disagreement", each.disagreement)
        | {"members": each.accuracy.count if each.accuracy else None}
        | dict(zip(epochs, map(_count, (*each.epochs, each.total)), strict=True))
        for each in found
    ]
    return rows_table([*_NUMBERS.split(), *epochs], rows)


def prices_table(prices: Sequence[Mapping[str, Any]]) -> Table:
    """The prices as they are, for spreadsheets."""
    return rows_table(_PRICES, [{**row, **{kind: _count(row.get(kind)) for kind in _EPOCHS}} for row in prices])


def frontier_figures(found: Sequence[Worth], setting: Setting) -> dict[str, Figure]:
    """By file name, a figure per width with a panel per place: accuracy against disagreement, a point per method.

    Bars are ± the sample standard deviation, over members and over pairs of them; the number at a point is its price,
    the epochs that one more network costs.
    """
    figures: dict[str, Figure] = {}
    for width in sorted({each.width for each in found}):
        panels: dict[Place, list[Worth]] = {}
        for each in found:
            if each.width == width and each.accuracy is not None and each.disagreement is not None:
                panels.setdefault(each.place, []).append(each)
        if panels:
            figures[f"frontier-width-{width:g}"] = _frontier(width, panels, setting)
    return figures


def _frontier(width: float, panels: Mapping[Place, Sequence[Worth]], setting: Setting) -> Figure:
    drawn = _drawn([each.name for own in panels.values() for each in own], setting)
    with figure_style():
        handles = [_mark(method) for method in drawn.values()]
        figure, plots = panel_grid(
            [f"sparsity {place}" for place in panels],
            handles,
            f"Accuracy and disagreement, width {width:g}",
            "test accuracy (%), and the epochs that one more network costs",
            "disagreement of two members",
        )
        for axes, own in zip(plots, panels.values(), strict=True):
            for each in own:
                _draw_point(axes, each, drawn[each.name])
            axes.margins(0.14, 0.12)
            _write_prices(axes, own, drawn)
    return figure


def _draw_point(axes: Axes, worth: Worth, method: Method) -> None:
    assert worth.accuracy is not None  # of these no others are drawn
    assert worth.disagreement is not None
    across, up = worth.disagreement, worth.accuracy.scaled(100)
    errors: Any = {"xerr": [_bar(across)], "yerr": [_bar(up)]}
    style: Any = {"linestyle": "none", "elinewidth": 1.0, "capsize": 2, "markersize": 6, "marker": method.marker}
    axes.errorbar([across.value], [up.value], **errors, color=COLOURS[method.colour][0], **style, **inside(method))


def _write_prices(axes: Axes, found: Sequence[Worth], drawn: Mapping[str, Method]) -> None:
    """The price of each point on its right, moved apart where they would lie on each other."""
    (low, high), inches = axes.get_ylim(), axes.get_position().height * axes.figure.get_size_inches()[1]  # type: ignore[union-attr]
    line = (high - low) / (72 * inches) * 10.5
    for own in _columns(found, 0.12 * float(np.ptp(axes.get_xlim()))):
        heights = spread([height for _, _, height in own], [line] * len(own), low, high)
        for (each, right, _), height in zip(own, heights, strict=True):
            axes.annotate(
                f"{each.total:g}",
                (right, height),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=10,
                color=COLOURS[drawn[each.name].colour][0],
                annotation_clip=False,
            )


def _columns(found: Sequence[Worth], room: float) -> list[list[tuple[Worth, float, float]]]:
    """The points that have a price, with the right ends of their bars and their heights, in groups so near to each
    other that prices might meet."""
    places = [
        (each, each.disagreement.value + _bar(each.disagreement), 100 * each.accuracy.value)
        for each in found
        if each.total is not None and each.accuracy is not None and each.disagreement is not None
    ]
    columns: list[list[tuple[Worth, float, float]]] = []
    for place in sorted(places, key=lambda place: place[1]):
        if not columns or place[1] - columns[-1][-1][1] > room:
            columns.append([])
        columns[-1].append(place)
    return columns


def _bar(estimate: Estimate) -> float:
    return 0.0 if math.isnan(estimate.error) else estimate.error


def _mark(method: Method) -> Line2D:
    from matplotlib.lines import Line2D

    style: Any = {"linestyle": "none", "marker": method.marker, "markersize": 6, **inside(method)}
    return Line2D([], [], color=COLOURS[method.colour][0], label=method.label, **style)


def _of_ensemble(record: Mapping[str, Any]) -> tuple[Estimate, Estimate | None, float | None]:
    accuracy = Estimate(record["accuracy"], _number(record["accuracy_std"]), record["members"])
    pairs = record["members"] * (record["members"] - 1) // 2
    share = record["disagreement"]
    apart = None if share is None else Estimate(share, _number(record.get("disagreement_std")), pairs)
    return accuracy, apart, record["ensemble"]


def _method(name: str, setting: Setting) -> str:
    """The method that a setting of ensembles is: `permuted` may stand for a matcher of another name."""
    return setting.members if name == MATCHED else name


def _order(names: Iterable[str], setting: Setting) -> list[str]:
    known = set(names)
    return [*(name for name in ENSEMBLES if name in known), *setting.methods.in_order(known - set(ENSEMBLES))]


def _drawn(names: Sequence[str], setting: Setting) -> dict[str, Method]:
    methods = setting.methods.described(name for name in names if name not in ENSEMBLES)
    return {name: ENSEMBLES[name] if name in ENSEMBLES else methods[name] for name in _order(names, setting)}


def _caption(prices: Sequence[Mapping[str, Any]]) -> str:
    text = (
        "Mean ± sample standard deviation, of members and of pairs of them where an ensemble was measured, else of "
        "seeds; epochs that one more network costs"
    )
    for row in prices:
        if row["method"] == OF_A:
            where = f" ({axes_of(row)})" if axes_of(row) else ""
            known = {kind: _count(row[kind]) or "given" for kind in _EPOCHS[:2]}
            text += f"; beyond A{where}, paid once: dense {known['dense']}, pruning {known['pruning']}"
    return text


def _count(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _parts(name: str, estimate: Estimate | None) -> dict[str, Cell]:
    if estimate is None:
        return {}
    return {name: estimate.value, f"{name}_std": None if math.isnan(estimate.error) else estimate.error}
