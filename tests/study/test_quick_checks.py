"""A dry run answers without torch; what it cannot tell so is left to the thorough checks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lightning import Trainer
from shipped_studies import STUDIES, read

from rebasin_lt.errors import InputError
from rebasin_lt.experiment.recipe import Recipe
from rebasin_lt.lit.classifier import Classifier
from rebasin_lt.lit.data.registry import DATASETS, build_data
from rebasin_lt.settings.checked import check_settings
from rebasin_lt.study.checks import check_names_and_types
from rebasin_lt.study.grid import Study
from rebasin_lt.study.ledger import images_per_epoch
from rebasin_lt.study.quick_checks import PUBLISHED, USUAL, check_analyses, is_surely_right, known_images

DRY_RUN = """
import sys
from rebasin_lt.cli import main
code = main("study --config studies/resnet20_cifar10.yaml --dry-run --probe false".split())
print(code, *sorted({"torch", "lightning", "torchvision", "scipy"} & set(sys.modules)), "loaded")
"""


def study(axes=None, **recipe) -> Study:
    return Study("quick", replace(Recipe(), **recipe), seeds=[0], axes=axes or {})


def test_a_dry_run_of_thousands_of_stages_loads_no_torch(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DRY_RUN], capture_output=True, text=True, cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[-1] == "0 loaded", done.stderr
    assert lines[-2].split()[:3] == ["all", "0", "2736"]


@pytest.mark.parametrize("name", STUDIES)
def test_what_is_surely_right_is_right(name) -> None:
    grid = read(name)
    check_names_and_types(grid)
    assert (
        is_surely_right(grid)
        or set(grid.recipe.trainer) & {"strategy", "accelerator"}
        or "image_size" in grid.recipe.data
    )


@pytest.mark.parametrize(
    "grid",
    [
        study(dense={"learning_rat": 0.1}),
        study(dense={"learning_rate": "high"}),
        study(dense={"milestones": [1.5]}),
        study(dense={"learning_rate": [0.1]}),
        study(dense={"warmup_epochs": True}),
        study(sparse={"optimizer": "adam"}),
        study(network={"arch": "mlp", "clases": 10}),
        study(data={"name": "digit"}),
        study(data={"name": "digits", "batch_size": 0}),
        study(data={"name": "digits", "seed": 0}),
        study(trainer={"precision": "bf17"}),
        study(trainer={"strategy": "dpp"}),
        study(trainer={"max_epochs": 3}),
        study(imp={"targets": [0.5]}),
        study(axes={"sparse.learning_rat": [0.1]}),
    ],
    ids=str,
)
def test_what_is_refused_is_not_surely_right(grid) -> None:
    assert not is_surely_right(grid)
    with pytest.raises(InputError):
        check_names_and_types(grid)


@pytest.mark.parametrize(
    "grid",
    [
        replace(study(), matchers={"permuted": {"method": "frank_wolfe", "stream": "last"}}),
        replace(study(), matchers={"permuted": {"objectiv": "raw"}}),
        replace(study(), barrier={"num_alphas": "many"}),
    ],
    ids=str,
)
def test_settings_of_analyses_are_refused_at_once(grid) -> None:
    assert is_surely_right(grid)
    with pytest.raises(InputError, match="matchers.permuted|barrier"):
        check_analyses(grid)


SAMPLES = {str: "text", float: 0.5, int: 3, bool: True, list: [1, 2]}


def usual(part: str) -> Iterator[dict[str, object]]:
    """Each usual setting of a part, with every name that it chooses from, or a value of its type."""
    for name, kind in USUAL[part].items():
        yield from ({name: value} for value in (kind if isinstance(kind, tuple) else [SAMPLES[kind]]))


@pytest.mark.parametrize(("part", "kind"), [("network", Classifier), ("training", Classifier), ("trainer", Trainer)])
def test_usual_settings_are_taken(part, kind) -> None:
    for settings in usual(part):
        check_settings("here", kind, settings)


@pytest.mark.parametrize("name", PUBLISHED)
def test_usual_settings_of_data_are_taken_and_sizes_are_those_of_the_class(name) -> None:
    for settings in usual("data"):
        check_settings("here", DATASETS[name], {key: value for key, value in settings.items() if key != "name"})
    assert PUBLISHED[name] == (DATASETS[name].published_size, DATASETS[name].default_val_size)


def test_settings_of_a_network_are_no_settings_of_a_training() -> None:
    assert USUAL["network"].keys().isdisjoint(USUAL["training"])


@pytest.mark.parametrize("settings", [{}, {"val_size": 97}, {"train_size": 300}, {"val_size": 0}, {"batch_size": 7}])
def test_the_images_of_a_published_dataset_are_those_that_are_read(settings) -> None:
    data = build_data("digits", **settings)
    count = len(data.sweep("train").sampler.indices)
    grid = study(data={"name": "digits", **settings})
    assert known_images(grid.recipe) == count
    assert images_per_epoch(grid) == count - count % data.batch_size


def test_images_of_other_datasets_take_a_look() -> None:
    assert known_images(study(data={"name": "image_folder", "root": "photos"}).recipe) is None
    assert known_images(study(data={"name": "cifar10", "image_size": 16}).recipe) is None
    assert known_images(study(data={"name": "cifar10", "val_size": 60_000}).recipe) is None
