"""The table and the figure of diversity: units, spread, what is missing, and names of any length."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rebasin_lt.report.analyses.diversity import diversity_figure, diversity_table, write_diversity
from rebasin_lt.report.kit.figures import figure_svg
from rebasin_lt.report.kit.methods import COLOURS


def values(accuracies: list[float], ensemble: float, disagreement: float | None) -> dict[str, Any]:
    return {
        "member_accuracy": accuracies,
        "ensemble_accuracy": ensemble,
        "member_ece": [0.02 + 0.01 * index for index in range(len(accuracies))],
        "ensemble_ece": 0.01,
        "disagreement": disagreement,
        "kl": disagreement,
        "js": disagreement,
    }


RESULT = {
    "num_images": 1000,
    "settings": {
        "dense": values([0.95, 0.96, 0.97], 0.975, 0.04),
        "imp": values([0.93, 0.94, 0.95], 0.96, 0.1),
        "of my own": values([0.5], 0.5, None),
    },
}


def test_table_gives_percent_and_the_sample_deviation() -> None:
    lines = diversity_table(RESULT).to_text().splitlines()
    assert lines[0].startswith("1,000 test examples")
    dense, imp, own = lines[-3:]
    assert dense.split() == ["dense", "3", "96.00", "±", "1.00", "97.50", *["0.0400"] * 3, "0.0300", "0.0100"]
    assert imp.split()[0] == "IMP"
    assert own.split() == ["of", "my", "own", "1", "50.00", "50.00", "–", "–", "–", "0.0200", "0.0100"]


def test_csv_names_the_deviation_and_keeps_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(diversity_table(RESULT).to_csv())))
    assert float(rows[0]["member accuracy (%) std"]) == pytest.approx(np.std([95, 96, 97], ddof=1))
    assert rows[0]["member accuracy (%) n"] == "3"
    assert rows[2]["disagreement"] == ""


def test_figure_draws_members_mean_ensemble_and_disagreement() -> None:
    figure = diversity_figure(RESULT)
    accuracies, disagreements = figure.axes
    data = [line.get_xdata() for line in accuracies.lines[:4]]
    for drawn, expected in zip(data, [[96, 97.5], [96], [95, 96, 97], [97.5]], strict=True):
        assert list(drawn) == pytest.approx(expected)
    assert [label.get_text() for label in accuracies.get_yticklabels()] == ["dense", "IMP", "of my own"]
    assert accuracies.get_yticklabels()[0].get_color() == COLOURS["ink"][0]
    assert [bar.get_width() for bar in disagreements.patches] == pytest.approx([0.04, 0.1])
    assert [text.get_text() for text in disagreements.texts] == ["0.040", "0.100", "–"]
    assert accuracies.get_xlabel() == "test accuracy (%)"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["member", "their mean", "ensemble"]


def test_names_of_any_length_keep_clear_of_the_plot_and_the_edge() -> None:
    names = ["a name of many words that no line can hold", "n" * 60, "dense"]
    figure = diversity_figure({**RESULT, "settings": {name: RESULT["settings"]["imp"] for name in names}})
    figure_svg(figure)  # lays it out
    accuracies = figure.axes[0]
    boxes = [label.get_window_extent() for label in accuracies.get_yticklabels()]
    assert all(box.x0 >= 0 for box in boxes)
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))


def test_no_text_leaves_the_figure() -> None:
    figure = diversity_figure(RESULT)
    figure_svg(figure)  # lays it out
    width, height = figure.get_size_inches() * figure.dpi
    texts = [text for axes in figure.axes for text in axes.texts] + figure.legends[0].get_texts() + figure.texts
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def test_files_are_equal_for_equal_results(tmp_path: Path) -> None:
    written = write_diversity(RESULT, tmp_path / "a")
    assert [path.name for path in written] == ["table.csv", "diversity.svg", "diversity.png"]
    again = write_diversity(RESULT, tmp_path / "b")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
