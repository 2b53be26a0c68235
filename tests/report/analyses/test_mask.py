import pytest
import torch

from rebasin_lt.pruning.degrees import degree_report
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.pruning.overlap import expected_overlap, overlap_report
from rebasin_lt.report.analyses.mask import (
    dead_units_table,
    degrees_table,
    layers_table,
    mask_figures,
    overlap_layers_table,
    overlap_table,
)
from rebasin_lt.report.kit.figures import figure_svg, save_figure


@pytest.fixture
def result():
    masks = [Mask({"a": torch.rand(6, 4) < 0.5, "b": torch.rand(3, 6) < 0.2}) for _ in range(3)]
    mask = masks[0]
    return {
        "weights": mask.num_weights,
        "kept": mask.num_kept,
        "sparsity": mask.sparsity,
        "layers": mask.report(),
        "degrees": degree_report(mask),
        "overlap": {
            label: {
                "overlap": mask.overlap(other),
                "expected_overlap": expected_overlap(mask, other),
                "layers": overlap_report(mask, other),
            }
            for label, other in zip(("second", "third"), masks[1:], strict=True)
        },
        "dead_units": {
            "groups": [dict(zip("abcdefgh", ["a", 6, 1, 2, 1, 2, 3, 1], strict=True))],
            "effective_kept": 9,
            "effective_sparsity": 1 - 9 / mask.num_weights,
        },
    }


def test_tables_hold_the_numbers(result):
    layers = layers_table(result)
    assert [row[1:4] for row in layers.rows] == [[r["name"], r["weights"], r["kept"]] for r in result["layers"]]
    assert layers.rows[0][5] == result["degrees"][0]["mean"]
    assert layers.rows[0][8] == 100 * result["degrees"][1]["zero"]
    assert len(degrees_table(result).rows) == 4
    second = overlap_table(result).rows[0]
    assert second[:2] == ["second", result["overlap"]["second"]["overlap"]]
    assert second[3] == pytest.approx(second[1] / second[2])
    assert [row[:2] for row in overlap_layers_table(result).rows] == [
        ["second", "a"], ["second", "b"], ["third", "a"], ["third", "b"],
    ]  # fmt: skip
    dead = dead_units_table(result)
    assert dead.rows == [["a", 6, 1, 2, 1, 2, 3, 1]]
    assert "9 of 42 are kept, sparsity 0.7857" in dead.caption


def test_overlap_that_cannot_be_expected_has_no_ratio(result):
    result["overlap"]["second"]["expected_overlap"] = 0.0
    assert overlap_table(result).rows[0][3] is None


def test_figures_show_what_was_measured(result, tmp_path):
    figures = mask_figures(result)
    assert list(figures) == ["profile", "degrees", "overlap"]
    bars = figures["profile"].axes[0].patches
    assert [bar.get_height() for bar in bars] == [100 * row["kept"] / row["weights"] for row in result["layers"]]
    points = figures["overlap"].axes[0].lines[0].get_ydata()
    assert list(points) == [row["overlap"] for row in result["overlap"]["second"]["layers"]]
    marks = figures["overlap"].axes[0].lines[1].get_ydata()
    assert list(marks) == [row["expected_overlap"] for row in result["overlap"]["second"]["layers"]]
    medians = figures["degrees"].axes[0].lines[0].get_ydata()
    own = [row for row in result["degrees"] if row["direction"] == "incoming"]
    assert list(medians) == [100 * row["median"] / row["dense"] for row in own]
    for name, figure in figures.items():
        assert "if the masks were independent" in figure_svg(figure) or name != "overlap"
        save_figure(figure, tmp_path / f"{name}.png")


def test_without_other_masks_there_is_no_overlap_figure(result):
    assert list(mask_figures({**result, "overlap": {}})) == ["profile", "degrees"]
