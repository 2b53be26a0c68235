"""The arms of `benchmarks.signs`, a pair of them end to end, and the tables of its page."""

from __future__ import annotations

import json

import pytest

from benchmarks import sign_in, signs
from benchmarks._signs_arms import Arm
from benchmarks._signs_report import prediction_table, write_report
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.pruning.mask import Mask

RECIPE = Recipe(
    targets=(0.5,), fraction=0.5, rewinds=("0it", "1ep"), dense_epochs=2, epochs_per_round=1, sparse_epochs=1
)
ARMS = ("lth", "naive", "permuted", "permuted+mask", "permuted+own", "early+mask", "one_shot+own@1ep")
PAGE = "".join(
    f"<!-- signs {part} -->\n<!-- end of signs {part} -->\n" for part in ("tables", "ensembles", "prediction")
)


@pytest.mark.parametrize(
    ("name", "label", "price"),
    [
        ("lth+mask", "LTH + the ticket's signs", None),
        ("lth+own", "LTH + A's own signs", None),
        ("naive+mask", "naive + the ticket's signs", 1),
        ("permuted", "permuted", 20),
        ("early+mask", "permuted, matched early + the ticket's signs", 2),
        ("naive+own@5ep", "naive + B's own signs of 5ep", 5),
        ("early+own", "permuted, matched early + B's own signs", 20),
        ("one_shot", "B's one-shot mask", 20),
    ],
)
def test_an_arm_says_what_it_is_and_costs(name, label, price):
    assert Arm(name).label == label
    assert Arm(name).dense_epochs(Recipe(dense_epochs=20), rewind="1ep", early="2ep") == price


def test_a_pair_end_to_end(tmp_path):
    setting = signs.Setting("tiny", "tiny", RECIPE, 0.5, 1, {"0it": ARMS}, "1ep", num_images=200)
    records = signs._pair(setting, tmp_path, 0)
    masks = tmp_path / "pair=0" / "signed" / "0.5"
    assert all(Mask.load(path).is_signed for path in masks.glob("*.safetensors"))
    measures = records[1]["measures"]
    assert measures["permuted"]["agreement"] > measures["random"]["agreement"]
    assert signs._pair(setting, tmp_path, 0) == signs._pair(setting, tmp_path, 0, read=True) == records
    assert signs._pair(setting, tmp_path, 1, read=True) == []
    records += [{**record, "pair": 1} for record in records]
    content = {
        "tiny": {"title": "tiny", "folder": "tiny", "target": 0.5, "prices": signs._prices(setting), "records": records}
    }
    (tmp_path / "signs.json").write_text(json.dumps(content))
    (tmp_path / "signs.md").write_text(PAGE)
    write_report(tmp_path / "signs.json", tmp_path)
    page = (tmp_path / "signs.md").read_text()
    assert "| permuted, matched early + the ticket's signs |" in page
    assert "**tiny, from 0it**: mean" in page
    assert "permuted + B's own signs − permuted" in page
    assert (tmp_path / "images" / "signs-agreement.svg").is_file()


def test_pairs_whose_gap_is_small_count_for_points_alone():
    """Sign agreement that ranks the pairs as gap closure does has the correlation 1."""
    points = [
        {name: k / 10 for name in ("agreement", "agreement_rewound", "overlap", "memory")} | {"gain": k, "gap": 10.0}
        for k in range(8)
    ]
    points.append({**points[0], "gain": 5.0, "gap": 0.5})
    rows = prediction_table({"one": points}).rows
    assert [row[1][:5] for row in rows] == ["+1.00"] * 4
    assert all(row[2][:5] != "+1.00" for row in rows)


def test_sign_in_is_compared_seed_by_seed(tmp_path):
    accuracies = {"plain": (80.0, 82.0), "sign_in": (81.0, 84.0)}
    records = [
        {"seed": seed, "sparsity": sparsity, "side": side, "accuracy": values[seed]}
        for side, values in accuracies.items()
        for sparsity in sign_in.SPARSITIES
        for seed in range(2)
    ]
    (tmp_path / "sign_in.json").write_text(json.dumps({"records": records}))
    (tmp_path / "signs.md").write_text("<!-- sign-in table -->\n<!-- end of sign-in table -->\n")
    sign_in.write_report(tmp_path / "sign_in.json", tmp_path)
    page = (tmp_path / "signs.md").read_text()
    assert "| 0.8 | 81.00 ± 1.00 | 82.50 ± 1.50 | +1.50 ± 0.50 |" in page
    assert "2 seeds" in page
