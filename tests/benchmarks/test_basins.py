"""The benchmark of basins: which lines of a study's folder are measured, and what the table says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks import basins
from benchmarks._figures import RESULTS
from benchmarks._page import DOCS, between
from benchmarks.basins import LINES, lines_of, main, measured, table
from rebasin_lt.experiment.file_names import FINAL
from rebasin_lt.settings.config_files import find_config

CELL = "sparsity=0.95,rewind=2ep"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A study with two pairs: the first has every run, the second none with signs."""
    settings = yaml.safe_load(Path(find_config("results/vgg11.yaml")).read_text(encoding="utf-8"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in settings.items() if k != "out"}))
    for seed, signs in ((0, ("", "+mask")), (1, ("",))):
        for method in [f"{name}{sign}" for name in ("lth", "naive", "permuted") for sign in signs]:
            folder = tmp_path / "runs" / "width=0.5" / f"seed={seed}" / "sparse" / f"method={method},{CELL}"
            folder.mkdir(parents=True)
            (folder / FINAL).touch()
    return tmp_path / "runs"


def test_every_line_of_a_pair_whose_runs_are_there(runs) -> None:
    found = [(about["seed"], about["method"], about["signs"]) for about, _ in lines_of(runs)]
    assert found == [*((0, method, bool(sign)) for method, sign in LINES), (1, "naive", False), (1, "permuted", False)]


def test_a_ticket_meets_the_run_with_the_same_signs_and_moves_where_the_mask_did(runs) -> None:
    for about, options in lines_of(runs):
        sign = "+mask" if about["signs"] else ""
        assert f"method=lth{sign},{CELL}" in options["ckpt_a"]
        assert f"method={about['method']}{sign},{CELL}" in options["ckpt_b"]
        moved = options.get("permutation", "").endswith("match/permuted/sparsity-0.95.perm.safetensors")
        assert moved == (about["method"] == "permuted")


@pytest.mark.parametrize(("given", "middle"), [({}, 0.5), ({"permutation": "pi"}, 0.3)])
def test_the_line_is_the_permuted_one_where_there_is_one(given, middle, monkeypatch) -> None:
    curves = [
        {"alignment": when, "error": [0.2, 0.2, value, 0.2, 0.25], "error_barrier": value - 0.225}
        for when, value in (("before", 0.5), ("after", 0.3))
    ]
    monkeypatch.setattr(basins, "measure_barriers", lambda options, _: {"curves": curves} if options.augment else None)
    found = measured({"ckpt_a": "a", "ckpt_b": "b", **given}, 10, 10)
    assert found == {"barrier": pytest.approx(middle - 0.225), "ticket": 0.2, "trained": 0.25, "middle": middle}


def test_lines_that_the_results_hold_are_not_measured_again(runs, tmp_path, monkeypatch) -> None:
    (tmp_path / "signs.md").write_text("<!-- basins table -->\n<!-- end of basins table -->\n")
    seen: list[str] = []
    numbers = {"barrier": 0.1, "ticket": 0.2, "trained": 0.2, "middle": 0.3}
    monkeypatch.setattr(basins, "measured", lambda options, *_: seen.append(options["ckpt_b"]) or numbers)
    for _ in range(2):
        main([str(runs), "--out", str(tmp_path), "--docs", str(tmp_path)])
    assert len(seen) == len(set(seen)) == 6
    rows = [line for line in (tmp_path / "signs.md").read_text(encoding="utf-8").splitlines() if "10.00" in line]
    assert [row.split("|")[2].strip() for row in rows] == [
        "as it is, B's own signs", "as it is, the ticket's signs", "permuted, B's own signs",
        "permuted, the ticket's signs",
    ]  # fmt: skip
    assert [row.split("|")[-2].strip() for row in rows] == ["2", "1", "2", "1"]


def test_cells_and_widths_of_a_study_are_told_apart(runs) -> None:
    (first,) = runs.glob("width=0.5/seed=1")
    for place in (first.parent.parent / "width=1" / "seed=1", first):
        for method in ("lth", "naive"):
            folder = place / "sparse" / f"method={method},sparsity=0.9,rewind=2ep"
            folder.mkdir(parents=True)
            (folder / FINAL).touch()
    numbers = {"barrier": 0.1, "ticket": 0.2, "trained": 0.2, "middle": 0.3}
    found = [about | numbers for about, _ in lines_of(runs)]
    assert len({tuple(about.values()) for about in found}) == len(found) == 8
    rows = [row for row in table(found).rows if "sparsity=0.9," in str(row[0])]
    assert [(str(row[0]).rpartition(", width=")[2], row[-1]) for row in rows] == [
        ("0.5, sparsity=0.9, rewind=2ep", 1), ("1, sparsity=0.9, rewind=2ep", 1),
    ]  # fmt: skip


def test_the_page_shows_what_was_measured() -> None:
    records = json.loads((RESULTS / "basins.json").read_text(encoding="utf-8"))["lines"]
    page = (DOCS / "signs.md").read_text(encoding="utf-8")
    assert between(page, "basins table", table(records).to_markdown().rstrip()) == page
