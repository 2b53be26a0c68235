"""A study of a module and data of the user's own that are no images: token ids with a padding mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import opened
import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint import load_network, read_checkpoint
from rebasin_lt.report.study.sections import write_study_report
from rebasin_lt.study.checks import check_study
from rebasin_lt.study.ledger import images_per_epoch, probe
from rebasin_lt.study.outcome import read_outcome
from rebasin_lt.study.plan import plan

TEXT = {
    "module": "own:TextClassifier",
    "network": {"num_classes": 3, "hidden": 9},
    **{training: {} for training in ("dense", "prune", "sparse")},
    "data": {"name": "own:TextTuples", "size": 50},
}


def test_text_is_trained_pruned_matched_and_compared(tmp_path: Path) -> None:
    grid = opened.study(
        TEXT,
        methods=["lth", "permuted", "random_permutation", "snip"],
        seeds=[0, 1],
        barrier={"num_alphas": 3, "splits": ["test"]},
        diversity={"sparsities": [0.75], "methods": ["lth", "permuted"]},
    )
    folder = opened.run(grid, tmp_path / "text")
    dense = next(path for path in plan(grid) if path.endswith("seed=0/dense_a"))
    said = read_checkpoint(folder / dense / "final.ckpt")["rebasin_lt"]
    assert said["data"] == {"name": "own:TextTuples", "batch_size": 16, "size": 50}
    assert said["made_with"] == {"name": "own:TextClassifier", "num_classes": 3, "hidden": 9}
    assert load_network(folder / dense / "final.ckpt", "own:TextClassifier").network.body.out_features == 9
    assert write_study_report(read_outcome(folder), tmp_path / "report")[0].is_file()
    assert (images_per_epoch(grid), probe(grid)) == (None, {})


def test_settings_of_batches_that_loaders_make_are_refused_beforehand() -> None:
    grid = opened.study(TEXT, matchers={"permuted": {"batch_size": 7}})
    with pytest.raises(
        InputError, match="matchers.permuted: batch_size is 7, but own:TextTuples makes its own batches"
    ):
        check_study(grid)
    unsaid = replace(grid.recipe, data={"name": "own:TextTuples", "size": 50, "noise": 1})
    with pytest.raises(InputError, match="recipe.data has no setting 'noise'"):
        check_study(replace(grid, recipe=unsaid))
