"""Pruning tests the ticket of every target, beside the last, and a report has a row for each."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rebasin_lt.connectivity.evaluation import evaluate
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.experiment.stages import prune, ticket_file, train_dense
from rebasin_lt.lit.checkpoint import load_network
from rebasin_lt.lit.data.digits import Digits
from rebasin_lt.storage.run_folder import finished
from rebasin_lt.study.grid import Study
from rebasin_lt.study.kinds.imp import IMP
from rebasin_lt.study.plan import plan

RECIPE = Recipe(targets=(0.5, 0.75), fraction=0.5, rewinds=("0it",), dense_epochs=2, epochs_per_round=1)


def test_every_target_is_tested_and_the_trained_network_is_what_was_written(tmp_path: Path) -> None:
    train_dense(tmp_path / "dense", RECIPE, 1)
    result = prune(tmp_path / "imp", RECIPE, tmp_path / "dense", 1)
    assert result == {name: value for name, value in (finished(tmp_path / "imp") or {}).items() if name in result}
    tickets = result["tickets"]
    assert list(tickets) == ["0.5", "0.75"]
    assert tickets["0.75"] == {name: value for name, value in result.items() if name.startswith("test/")}
    images = Digits(batch_size=500).sweep("test")
    for target in RECIPE.targets:
        network = load_network(ticket_file(tmp_path / "imp", target)).network.eval()
        error = evaluate([network], images)[0].error
        assert abs(tickets[f"{target:g}"]["test/top1"] - 100 * (1 - (error or 0))) < 1e-3
    rows = [json.loads(line) for line in (tmp_path / "imp" / "metrics.jsonl").read_text().splitlines()]
    assert sum("test/top1" in row for row in rows) == 1  # of the trained network alone


def test_a_report_has_a_row_for_each_target_and_of_folders_of_before_for_the_last() -> None:
    study = Study("rows", RECIPE, seeds=[0])
    stage = next(stage for stage in plan(study).values() if stage.kind == "imp")
    of_each = {"0.5": {"test/top1": 90.0}, "0.75": {"test/top1": 80.0}}
    rows = [row for _, row in IMP.read(study, stage, {"test/top1": 80.0, "tickets": of_each})]
    assert [(row["target"], row["top1"]) for row in rows] == [(0.5, 0.9), (0.75, 0.8)]
    rows = [row for _, row in IMP.read(study, stage, {"test/top1": 80.0})]
    assert [(row["target"], row["top1"]) for row in rows] == [(0.75, 0.8)]
    wider = replace(study, recipe=replace(RECIPE, targets=(0.5, 0.75, 0.9)))
    assert len(list(IMP.read(wider, stage, {"tickets": of_each}))) == 2
