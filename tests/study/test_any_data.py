"""Studies of modules and data of the user's own that are no images: token ids with a padding mask, and tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import opened
import own
import pytest

from rebasin_lt.errors import InputError
from rebasin_lt.lit.checkpoint import load_network, read_checkpoint
from rebasin_lt.report.study.numbers import read_numbers
from rebasin_lt.report.study.sections import summary, write_study_report
from rebasin_lt.study.checks import check_study
from rebasin_lt.study.ledger import images_per_epoch, probe
from rebasin_lt.study.outcome import StudyOutcome, read_outcome
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


REGRESSION = {
    "module": "own:Regressor",
    "loss": "mse",
    "network": {},
    **{training: {} for training in ("dense", "prune", "sparse")},
    "data": {"name": "own:TabularData", "size": 50},
}


def test_a_regression_is_compared_by_its_test_loss(tmp_path: Path) -> None:
    """It has neither accuracy nor error, and its report is the same out of its numbers."""
    grid = opened.study(REGRESSION, methods=["lth", "permuted", "naive"], barrier={"num_alphas": 3, "splits": ["test"]})
    outcome = read_outcome(opened.run(grid, tmp_path / "rows"))
    assert not any(row.get("diverged") for row in outcome.stages)
    (before, *_) = outcome.barriers
    assert before["error"] is None
    assert before["loss_barrier"] is not None
    write_study_report(outcome, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "training under the permuted mask gives a test loss that is" in text
    assert "Width 1: test loss, one seed; dense networks: " in text
    assert "| loss barrier before | loss barrier after | seeds |" in text
    assert "error barrier" not in text
    assert "curves-error" not in text
    write_study_report(read_numbers(tmp_path / "report"), tmp_path / "again")
    for path in (tmp_path / "report").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_what_of_a_batch_is_what_may_be_said_once_for_a_study(tmp_path: Path) -> None:
    odd = {"name": "own:OddlyNamedText", "size": 50, "inputs": "input_ids=ids,attention_mask", "targets": "kind"}
    grid = opened.study({**TEXT, "data": odd, "targets": (0.5,)}, methods=["snip"], barrier={"num_alphas": 3})
    folder = opened.run(grid, tmp_path / "odd")
    dense = next(path for path in plan(grid) if path.endswith("seed=0/dense_a"))
    said = read_checkpoint(folder / dense / "final.ckpt")["rebasin_lt"]["data"]
    assert said == {"name": "own:OddlyNamedText", "batch_size": 16, "size": 50}


@pytest.mark.parametrize(
    ("recipe", "changes", "message"),
    [
        (
            REGRESSION,
            {"diversity": {}},
            "diversity: ensembles are compared by accuracy, but recipe.loss is mse, which tells no",
        ),
        ({**REGRESSION, "loss": "mss"}, {}, "recipe.loss is 'mss', which is not known .did you mean mse"),
        (REGRESSION, {"barrier": {"loss": "mss"}}, "barrier.loss is 'mss', which is not known .did you mean mse"),
        (
            {**REGRESSION, "loss": "cross_entropy"},
            {"barrier": {}},
            r"recipe.data: batches: loss is cross_entropy, .* losses that fit are mse",
        ),
        (
            {**TEXT, "data": {"name": "own:OddlyNamedText"}},
            {},
            "recipe.data: batches holds a dict of ids, attention_mask, kind, but TextClassifier takes 2 input",
        ),
        (
            {**TEXT, "data": {"name": "own:TextData", "inputs": ["input_ids"]}},
            {},
            r"recipe.data.inputs is \['input_ids'\], expected a text, as --inputs of the commands",
        ),
        ({**TEXT, "data": {"name": "own:TextData", "inputs": "a,a"}}, {}, "recipe.data: --inputs is 'a,a', expected"),
    ],
)
def test_losses_and_batches_that_do_not_fit_are_refused_beforehand(recipe, changes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_study(opened.study(recipe, **{"seeds": [0, 1], **changes}))


@pytest.mark.parametrize(
    ("kind", "method", "message"),
    [
        (own.OwnModule, "test_step", "recipe.module is 'own:Regressor', which has no test_step: a study tests every"),
        (own.OwnData, "test_dataloader", "recipe.data is own:TabularData, which has no test_dataloader: a study tests"),
    ],
)
def test_what_a_study_cannot_test_is_told_beforehand(kind, method: str, message: str, monkeypatch) -> None:
    monkeypatch.delattr(kind, method)
    with pytest.raises(InputError, match=message):
        check_study(opened.study(REGRESSION))


def test_a_module_that_logs_nothing_to_compare_by_is_told() -> None:
    grid = opened.study(REGRESSION, methods=["lth", "naive"])
    outcome = untold({"width": 1.0, "seed": 0, "sparsity": 0.5, "rewind": "0it"}, grid)
    assert "but logged neither test/top1 nor test/top5 nor test/loss: there is nothing to compare" in summary(outcome)


def untold(place, grid) -> StudyOutcome:
    """An outcome whose networks logged nothing."""
    nothing = {"top1": None, "top5": None}
    sparse = [{**place, "method": name, **nothing} for name in grid.methods]
    return StudyOutcome("nothing", grid.primitives(), sparse=sparse)


def test_settings_of_batches_that_loaders_make_are_refused_beforehand() -> None:
    grid = opened.study(TEXT, matchers={"permuted": {"batch_size": 7}})
    with pytest.raises(
        InputError, match="matchers.permuted: batch_size is 7, but own:TextTuples makes its own batches"
    ):
        check_study(grid)
    unsaid = replace(grid.recipe, data={"name": "own:TextTuples", "size": 50, "noise": 1})
    with pytest.raises(InputError, match="recipe.data has no setting 'noise'"):
        check_study(replace(grid, recipe=unsaid))
