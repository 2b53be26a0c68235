"""What a study costs: counts by stage, images by dataset, hours by a probe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from shipped_studies import read

from rebasin_lt.cli import main
from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.report.study.ledger import ledger_table
from rebasin_lt.study import ledger as module
from rebasin_lt.study.grid import Study
from rebasin_lt.study.ledger import images_per_epoch, ledger, probe, seconds_of
from rebasin_lt.study.plan import plan

STUDY = Study(
    "costs", Recipe(targets=(0.2,), dense_epochs=3, epochs_per_round=2, sparse_epochs=4), seeds=[0], widths=[1, 0.5]
)


def of_data(**data) -> Study:
    return replace(STUDY, recipe=replace(STUDY.recipe, data=data))


def test_each_stage_has_a_row() -> None:
    stages = plan(STUDY)
    first = "width=1/seed=0/dense_a"
    rows = ledger(stages, {first}, 100)
    assert [row["path"] for row in rows] == list(stages)
    assert rows[0] == {"kind": "dense", "path": first, "epochs": 3, "images": 300, "done": True}
    assert sum(row["done"] for row in rows) == 1
    of_kind = {kind: {row["images"] for row in rows if row["kind"] == kind} for kind in ("imp", "match", "sparse")}
    assert of_kind == {"imp": {200}, "match": {0}, "sparse": {400}}


def test_hours_are_those_of_the_width() -> None:
    rows = ledger(plan(STUDY), (), 3600, {1: 0.5, 0.5: 0.25})
    assert {(row["kind"], row["path"].partition("/")[0]): row["hours"] for row in rows} == {
        **{("dense", "width=1"): 1.5, ("imp", "width=1"): 1.0, ("match", "width=1"): 0.0, ("sparse", "width=1"): 2.0},
        **{("dense", "width=0.5"): 0.75, ("imp", "width=0.5"): 0.5},
        **{("match", "width=0.5"): 0.0, ("sparse", "width=0.5"): 1.0},
    }


def test_hours_of_another_machine_are_by_what_it_takes_in_a_second() -> None:
    assert seconds_of(STUDY, []) is None
    assert seconds_of(STUDY, [2.0, 4.0]) == {1: 0.5, 0.5: 0.25}
    assert seconds_of(STUDY, [2.0]) == {1: 0.5, 0.5: 0.5}
    for wrong in ([1.0, 2.0, 3.0], [0.0]):
        with pytest.raises(InputError, match="expected one positive number, or one for each of the widths"):
            seconds_of(STUDY, wrong)


def test_a_dry_run_plans_hours_of_another_machine_without_a_probe(capsys) -> None:
    words = ["study", "--config", "studies/resnet20_cifar10.yaml", "--dry-run", "--images-per-second", "5000"]
    assert main(words) == 0
    images, hours = capsys.readouterr().out.split()[-2:]
    assert float(hours) == pytest.approx(int(images.replace(",", "")) / 5000 / 3600, abs=0.01)


def test_the_table_sums_what_is_done_and_what_is_left() -> None:
    stages = plan(STUDY)
    done = {path for path in stages if path.startswith("width=1/")}
    table = ledger_table(ledger(stages, done, 3600, {1: 0.5, 0.5: 0.25}))
    every = dict(zip([column.title for column in table.columns], table.rows[-1], strict=True))
    assert every == {
        **{"stage": "all", "stages done": 7, "stages in all": 14},
        **{"epochs done": "20", "epochs in all": "40", "examples done": "72,000", "examples in all": "144,000"},
        "hours left": 5.0,  # 2 × .75 + .5 + 3 × 1
    }


def test_where_images_are_not_known_nothing_is_guessed() -> None:
    rows = ledger(plan(STUDY), (), None, {1: 0.5, 0.5: 0.25})
    assert {row["images"] for row in rows} == {None}
    assert not any("hours" in row for row in rows)


@pytest.mark.parametrize(
    ("data", "images"),
    [
        ({"name": "digits", "batch_size": 50}, 1000),
        ({"name": "digits", "batch_size": 300}, 900),  # whole batches
        ({"name": "digits", "batch_size": 50, "train_size": 120}, 100),
        ({"name": "cifar10", "root": "none", "batch_size": 128}, 351 * 128),  # 50,000 less 5,000 held out
        ({"name": "cifar10", "root": "none", "batch_size": 128, "val_size": 0}, 390 * 128),  # as published
        ({"name": "cifar100", "root": "none", "batch_size": 100, "train_size": 250}, 200),
        ({"name": "svhn", "root": "none", "batch_size": 128}, 533 * 128),
        ({"name": "imagenet", "root": "none", "batch_size": 1, "num_workers": 0}, 1_271_167),
        ({"name": "image_folder", "root": "none"}, None),
        ({"name": "image_folder", "root": "none", "train_size": 300}, 256),
    ],
)
def test_images_of_an_epoch_with_or_without_the_data(data, images) -> None:
    assert images_per_epoch(of_data(**data)) == images


def test_files_in_class_folders_are_counted_and_not_decoded(tmp_path) -> None:
    for file in ("train/a/1.png", "train/a/2.png", "train/b/1.png", "test/a/1.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"no image")
    data = {"name": "image_folder", "root": str(tmp_path), "batch_size": 1, "resident": True}
    assert images_per_epoch(of_data(**data)) == 3
    assert images_per_epoch(of_data(**data, val_size=1)) == 2


def test_a_busy_machine_makes_no_study_longer(monkeypatch) -> None:
    """Seconds are the processor's own: a clock on the wall that runs a thousand times as fast changes nothing."""
    monkeypatch.setattr(module, "_PROBE_SECONDS", 0.0)
    monkeypatch.setattr(module.time, "perf_counter", lambda clock=module.time.perf_counter: 1000 * clock())
    assert 0 < probe(read("studies/digits.yaml"))[1] < 0.01


def test_the_probe_measures_each_width_and_computes_as_training_does(monkeypatch) -> None:
    monkeypatch.setattr(module, "_PROBE_SECONDS", 0.0)
    seconds = probe(read("studies/digits.yaml"))
    assert list(seconds) == [1]
    assert 0 < seconds[1] < 0.1


@pytest.mark.parametrize(
    ("per_step", "per_image", "batch", "sizes"),
    [
        (0.01, 0.0, 50, [2, 2, 4, 8, 16, 32, 50]),  # a small network: as many as a batch has
        (0.0, 1.0, 128, [2, 2]),  # a wide one: two take long enough
        (0.0, 0.02, 128, [2, 2, 4, 8]),
        (0.01, 0.0, 1, [1]),
    ],
)
def test_the_probe_takes_as_few_images_as_tell(per_step, per_image, batch, sizes) -> None:
    asked = []

    def step(size: int) -> float:
        asked.append(size)
        return per_step + per_image * size

    found = module._per_image(step, batch)
    assert found == pytest.approx(per_step / sizes[-1] + per_image)
    assert asked[: len(sizes)] == sizes
    assert set(asked[len(sizes) :]) == {sizes[-1]}
    assert sum(per_step + per_image * size for size in asked) < 2 * module._PROBE_SECONDS + 3 * 2 * per_image
