"""Accuracy, disagreement, ensemble accuracy and price in one table, and as a figure."""

from __future__ import annotations

import re

import pytest

from rebasin_lt.report.kit.figures import figure_svg
from rebasin_lt.report.kit.methods import COLOURS, Methods
from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.report.study.frontier import frontier_figures, worth_rows, worth_table, worths
from rebasin_lt.report.study.runs import Place
from rebasin_lt.report.study.setting import Setting

SETTING = Setting("digits", "mlp", ("1ep",), 10, Methods({"early": {"at": "2ep"}}), members="early")
DENSE = {"A": 20, "dense": 20, "naive": 1, "naive+mask": 1, "early": 2, "early+own@5ep": 5, "lth": 0}
PRICES = [
    {"method": name, "rewind": None if name == "A" else "1ep", "dense": count, "pruning": 40 * (name == "A")}
    | {"sparse": 0 if name in {"A", "dense"} else 35}
    for name, count in DENSE.items()
]
RUNS = {1.0: {Place(0.9, "1ep"): {"naive+mask": {0: 0.8, 1: 0.9}, "lth": {0: 0.5}}}}


def ensemble(setting: str, accuracy: float, disagreement: float | None = 0.2, **more: object) -> dict[str, object]:
    place = {"width": 1.0, "sparsity": 0.9, "rewind": "1ep", "setting": setting, "members": 3}
    found = {"accuracy": accuracy, "accuracy_std": 0.01, "disagreement": disagreement, "disagreement_std": 0.02}
    return {**place, **found, "ensemble": 0.95, "kl": 0.1, "js": 0.1, **more}


ENSEMBLES = [ensemble("lth", 0.9), ensemble("permuted", 0.88), ensemble("dense", 0.93), ensemble("early+own@5ep", 0.89)]


def test_each_method_stands_once_in_the_order_of_tables_with_its_price() -> None:
    found = worths(RUNS, ENSEMBLES, PRICES, SETTING)
    assert [each.name for each in found] == ["dense", "lth", "early", "early+own@5ep", "naive+mask"]
    assert [each.total for each in found] == [20, 35, 37, 40, 36]
    by_name = {each.name: each for each in found}
    assert by_name["lth"].accuracy == Estimate(0.9, 0.01, 3)  # the members, where an ensemble was measured
    assert by_name["naive+mask"].accuracy == Estimate(pytest.approx(0.85), pytest.approx(0.0707, abs=1e-4), 2)
    assert by_name["naive+mask"].disagreement is None
    assert by_name["early"].disagreement == Estimate(0.2, 0.02, 3)


def test_the_table_says_what_a_cost_and_spreadsheets_have_fractions() -> None:
    found = worths(RUNS, ENSEMBLES, PRICES, SETTING)
    table = worth_table(found, PRICES, SETTING)
    assert "beyond A, paid once: dense 20, pruning 40" in table.caption
    assert [row[1] for row in table.rows] == [
        "dense",
        "LTH",
        "early",
        "early + own signs of 5ep",
        "naive + ticket's signs",
    ]
    assert table.rows[3][5:] == ["5", "0", "35", "40"]
    first = worth_rows(found).to_csv().splitlines()[1]
    assert first == "1.0,0.9,1ep,dense,0.93,0.01,0.2,0.02,0.95,3,20,0,0,20"


def test_what_is_given_has_no_price() -> None:
    given = [{**row, "dense": None, "pruning": None if row["method"] == "A" else 0} for row in PRICES]
    found = worths({}, ENSEMBLES[:1], given, SETTING)
    assert found[0].total is None
    assert "beyond A, paid once: dense given, pruning given" in worth_table(found, given, SETTING).caption
    assert worths(RUNS, ENSEMBLES, [], SETTING) == []  # a report of an earlier release


def test_the_figure_has_a_point_and_a_price_for_each_ensemble() -> None:
    found = worths(RUNS, ENSEMBLES, PRICES, SETTING)
    ((name, figure),) = frontier_figures(found, SETTING).items()
    assert name == "frontier-width-1"
    (axes,) = figure.axes
    heights = {text.get_text(): text.xy[1] for text in axes.texts}
    assert sorted(heights, key=heights.get) == ["37", "40", "35", "20"]  # as their points, from low to high
    assert len(set(heights.values())) == 4
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["dense", "LTH", "early", "early + own signs of 5ep"]
    centres = {(round(x, 3), round(y, 3)) for line in axes.lines for x, y in [line.get_xydata()[0]]}
    assert {(0.2, 90.0), (0.2, 88.0), (0.2, 93.0), (0.2, 89.0)} <= centres
    svg = figure_svg(figure)
    assert COLOURS["lth"][1] in svg  # and in the dark


def test_without_pairs_there_is_no_figure() -> None:
    alone = [ensemble("lth", 0.9, None, members=1, accuracy_std=None, disagreement_std=None)]
    found = worths({}, alone, PRICES, SETTING)
    assert frontier_figures(found, SETTING) == {}
    assert found[0].disagreement is None


def test_points_of_one_place_share_a_panel() -> None:
    other = [{**each, "sparsity": 0.98} for each in ENSEMBLES]
    (figure,) = frontier_figures(worths({}, [*ENSEMBLES, *other], PRICES, SETTING), SETTING).values()
    assert [re.sub(r"\s", " ", axes.get_title(loc="left")) for axes in figure.axes] == [
        "sparsity 0.90 · 1ep",
        "sparsity 0.98 · 1ep",
    ]
