"""The table of matching methods, from records made by hand."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from benchmarks import quality
from benchmarks._page import between
from benchmarks._quality_report import DEFAULT, quality_table, write_report
from rebasin_lt.experiment import stages
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.pruning.mask import Mask
from rebasin_lt.report.kit.statistics import Estimate
from rebasin_lt.storage.files import write_json
from rebasin_lt.storage.run_folder import finish


def barrier(loss: float, midpoint: float) -> dict:
    return {"loss_barrier": loss, "error_barrier": 0.0, "midpoint_accuracy": midpoint}


def records() -> list[dict]:
    """Two pairs; accuracies in %: naive 50 and 60, LTH 90 and 90, the default 70 and 90."""
    made = []
    for pair in (0, 1):
        memory = {"iou": 0.3 + 0.2 * pair, "chance": 0.1, "left": 0.0025}
        made += [{"pair": pair, "method": f"dense {role}", "accuracy": 95.0 + pair, "memory": memory} for role in "ab"]
        for method, accuracy in (("naive", (50.0, 60.0)), (DEFAULT, (70.0, 90.0))):
            curves = {"none": barrier(1 + pair, 0.5), "repair": barrier(3 + pair, 0.25 + pair / 2)}
            shared = {
                "pair": pair,
                "method": method,
                "seconds": 1.0 + 2 * pair,
                "overlap": 0.1 + 0.2 * pair,
                "agreement": 0.6 + 0.2 * pair,
            }
            made.append({**shared, **curves, "accuracy": accuracy[pair]})
        made.append({"pair": pair, "method": "LTH", "accuracy": 90.0})
    return made


def test_rows_hold_means_paired_differences_and_closures() -> None:
    table = quality_table("Toy", records())
    naive, default, lth = table.rows
    assert default[0].startswith("**")
    assert default[0].endswith("**")
    assert lth[:1] == ["LTH"]
    values = [cell.value for cell in naive[1:7]]
    assert values == pytest.approx([1.5, 3.5, 50, 0.2, 70, 55])
    assert naive[1].error == pytest.approx(0.5)
    assert naive[7].value == pytest.approx(-25)  # 50 − 70 and 60 − 90
    assert naive[7].error == pytest.approx(5)
    assert (naive[8], lth[8], default[7]) == (None, None, None)
    assert isinstance(default[8], Estimate)
    assert default[8].value == pytest.approx((80 - 55) / (90 - 55))
    assert naive[9].value == 2
    assert lth[1:6] == [None] * 5
    assert "barrier, REPAIR" in [column.title for column in table.columns]
    assert "**Toy**: 2 pairs, mean ± standard error; dense networks 95.5" in table.caption
    assert "overlap by 0.400 ± 0.100 (by chance 0.100 ± 0.000); decay leaves 0.003 of the initial" in table.caption


def test_without_a_line_the_table_has_no_barriers() -> None:
    without = [{key: value for key, value in record.items() if key not in {"none", "repair"}} for record in records()]
    table = quality_table("Toy", without)
    assert not [column.title for column in table.columns if "barrier" in column.title or "midpoint" in column.title]
    full = quality_table("Toy", records())
    assert [row[1:] for row in table.rows] == [row[4:] for row in full.rows]
    assert [column.title for column in table.columns][1:] == [column.title for column in full.columns][4:]


def test_the_report_goes_between_its_markers(tmp_path) -> None:
    results = tmp_path / "quality.json"
    results.write_text(json.dumps({"toy": {"title": "Toy", "torch": "x", "records": records()}}))
    page = tmp_path / "matching.md"
    page.write_text("a\n<!-- quality table -->\n<!-- end of quality table -->\nb\n")
    write_report(results, tmp_path)
    assert page.read_text().startswith("a\n<!-- quality table -->\n")
    assert "| LTH |" in page.read_text()
    assert page.read_text().endswith("<!-- end of quality table -->\nb\n")


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="has <!-- x --> … <!-- end of x --> 0 times, expected once"):
        between("no markers", "x", "text")


def test_what_is_there_is_read_and_nothing_trained(tmp_path, monkeypatch) -> None:
    """In the order of `run`; without a pair not pruned yet, and without accuracies of methods not trained under."""
    monkeypatch.setattr(quality, "_memory", lambda *_: {"iou": 0.1})
    named = {"methods": ("naive", "signs"), "screened": ("composed",), "trained": ("naive",)}
    setting = SimpleNamespace(num_pairs=2, num_votes=0, recipe=Recipe(targets=(0.95,)), **named)
    for name in ("pair=0/dense_a", "pair=0/dense_b", "pair=0/imp", "pair=0/sparse/LTH", "pair=1/dense_a"):
        (tmp_path / name).mkdir(parents=True)
        finish(tmp_path / name, {"test/top1": 90.0})
    Mask({"weight": torch.ones(2, 2, dtype=torch.bool)}).save(stages.mask_file(tmp_path / "pair=0/imp", 0.95))
    for method in ("composed", "naive"):
        write_json(tmp_path / f"pair=0/judged/{method}.json", {"method": method, "overlap": 0.2, "accuracy": 50.0})
    before = sorted(tmp_path.rglob("*"))
    assert quality.read("toy", setting, tmp_path) == [
        {"pair": 0, "method": "dense a", "accuracy": 90.0, "memory": {"iou": 0.1}},
        {"pair": 0, "method": "dense b", "accuracy": 90.0},
        {"pair": 0, "method": "naive", "overlap": 0.2, "accuracy": 50.0},
        {"pair": 0, "method": "composed", "overlap": 0.2},
        {"pair": 0, "method": "LTH", "accuracy": 90.0},
    ]
    assert sorted(tmp_path.rglob("*")) == before
