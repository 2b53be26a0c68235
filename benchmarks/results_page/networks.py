"""The paper's own networks on the page: every mask that one pair gives, with its price, and what was known before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from benchmarks.results_page.collect import shipped_study
from benchmarks.results_page.measured import Measured
from rebasin_lt.report.kit.statistics import sparsity_text
from rebasin_lt.report.kit.tables import Cell, Column, Table
from rebasin_lt.report.study.accuracy import spread_of
from rebasin_lt.report.study.barriers import study_barriers_table
from rebasin_lt.report.study.before import study_before_table
from rebasin_lt.report.study.paired import closure, difference, with_interval
from rebasin_lt.report.study.runs import Place

NETWORKS = ("resnet20", "resnet20_controls", "resnet20_half", "resnet20_double", "vgg11")
"""The studies of the paper's networks, in the order of the page."""

CONTROLS_OF = {"resnet20": "resnet20_controls"}
"""Where the controls of a network are a study of their own, on pairs of its first."""

BY_WIDTH = ("resnet20_half", "resnet20", "resnet20_double")
"""Those of one network at several widths."""

_AGAINST = ("naive", "lth", "b_magnitude")


def networks_text(studies: Mapping[str, Measured]) -> str:
    """Every measured study of a network of the paper's, as Markdown: its command, pairs and tables."""
    parts = [_network_text(studies[name]) for name in NETWORKS if name in studies]
    wide = [studies[name] for name in BY_WIDTH if name in studies]
    if len(wide) > 1:
        parts.append("### ResNet20 by width\n\n" + by_width_table(wide).to_markdown(markup=True).strip())
    return "\n\n".join(parts) if parts else "None of them is measured yet."


def _network_text(measured: Measured) -> str:
    planned, title = planned_seeds(measured), measured.outcome.title
    pairs = f"{measured.seeds} of {planned} pairs, in the order of the study" if measured.seeds < planned else "whole"
    tables = [masks_table(measured, width, place) for width, cells in measured.runs.items() for place in cells]
    lines = [line for line in measured.outcome.barriers if line["split"] == "test"]
    tables += [study_barriers_table(lines, measured.setting.methods)] if lines else []
    if measured.name not in CONTROLS_OF.values():  # whose pairs are matched as in the network's first study
        tables.append(study_before_table(measured.outcome.matches, measured.setting.methods))
    head = f"### {title}\n\n`{measured.command}`: {pairs}."
    return "\n\n".join([head, *(table.to_markdown(markup=True).strip() for table in tables)])


def planned_seeds(measured: Measured) -> int:
    """How many seeds the shipped configuration has: a study whose runs take days is shown as far as it has come."""
    return len(shipped_study(measured.name)["seeds"])


def masks_table(measured: Measured, width: float, place: Place) -> Table:
    """A row per method: accuracy, that minus three others, gap closure, and the epochs that one more network costs."""
    group = measured.cells(width)[place]
    methods = measured.setting.methods
    rows: list[list[Cell]] = [
        [
            methods.label(name),
            spread_of(group[name].values()).scaled(100),
            *(with_interval(difference([group], name, other)) if name != other else None for other in _AGAINST),
            closure([group], name) if name not in {"lth", "naive"} else None,
            *_epochs(measured, place, name),
        ]
        for name in methods.in_order(group)
    ]
    columns = [Column("mask", align="left"), Column("accuracy (%)", spread="std")]
    columns += [Column(f"minus {methods.label(other)}") for other in _AGAINST]
    columns += [Column("gap closure"), Column("dense epochs of B", decimals=0), Column("epochs in all", decimals=0)]
    caption = (
        f"Width {width:g}, sparsity {sparsity_text(place.sparsity)} from {place.rewind}, pairs: {measured.seeds}; mean "
        "± sample standard deviation; differences paired, with 95 % interval; gap closure ± standard error; epochs of "
        "one more network, beyond A and its mask"
    )
    return Table(columns, rows, caption)


def by_width_table(studies: Sequence[Measured]) -> Table:
    """A row per width and cell that all of them have: what separates the masks, the barrier, and signs that agree."""
    places = set.intersection(*(set(measured.cells()) for measured in studies))
    rows: list[list[Cell]] = []
    for measured in studies:
        (width,) = measured.runs
        for place in [place for place in measured.cells() if place in places]:
            group = [measured.cells()[place]]
            pairs = [("lth", "permuted"), ("lth+mask", "permuted+mask"), ("permuted", "naive")]
            rows.append([
                f"{width:g}",
                f"{sparsity_text(place.sparsity)} · {place.rewind}",
                *(with_interval(difference(group, *names)) for names in pairs),
                closure(group, "permuted"),
                *(_barrier(measured, *line) for line in product(("none", "bn_reset"), ("before", "after"))),
                _agreement(measured, place),
                measured.seeds,
            ])
    columns = [Column("width", align="left"), Column("sparsity · rewind", align="left"), Column("LTH − permuted")]
    columns += [Column("the same with signs"), Column("permuted − naive"), Column("gap closure")]
    columns += [
        Column(f"{statistics} barrier {when} (nats)", spread="std", decimals=2)
        for statistics, when in product(("raw", "BN reset"), ("before", "after"))
    ]
    columns += [Column("signs that agree", spread="std", decimals=2), Column("pairs", decimals=0)]
    caption = (
        "Differences in points, paired by seed, with 95 % interval; gap closure ± standard error; barriers of test "
        "loss, and signs, mean ± sample standard deviation"
    )
    return Table(columns, rows, caption)


def _barrier(measured: Measured, correction: str, when: str) -> Cell:
    wanted = ("permuted", "test", correction, when)
    lines = measured.outcome.barriers
    names = ("matcher", "split", "correction", "when")
    return spread_of([line["loss_barrier"] for line in lines if tuple(line[name] for name in names) == wanted])


def _agreement(measured: Measured, place: Place) -> Cell:
    matches = [match for match in measured.outcome.matches if match["matcher"] == "permuted"]
    masks = [mask for match in matches for mask in match["masks"] if mask["target"] == place.sparsity]
    return spread_of([mask["sign_agreement"] for mask in masks])


def _epochs(measured: Measured, place: Place, name: str) -> list[Cell]:
    """The dense epochs of B that a method needs, and all epochs of one more network."""
    for price in measured.outcome.prices:
        if (price["method"], price["rewind"]) == (name, place.rewind):
            kinds: list[Any] = [price["dense"], price["pruning"], price["sparse"]]
            return [kinds[0], None if None in kinds else sum(kinds)]
    return [None, None]
